"""Notebooks: create, read, list, change, delete."""

from typing import Any

from nbledger_http.endpoints.notebooks import changing, reading

HANDLERS: list[Any] = [*reading.HANDLERS, *changing.HANDLERS]
