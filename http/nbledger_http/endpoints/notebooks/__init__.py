"""Notebooks: create, read, list, compare, change, delete."""

from typing import Any

from nbledger_http.endpoints.notebooks import changing, comparing, reading

HANDLERS: list[Any] = [*reading.HANDLERS, *changing.HANDLERS, *comparing.HANDLERS]
