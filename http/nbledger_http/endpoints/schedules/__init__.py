"""Schedules: list and read them, pause and resume them, ask for runs of them."""

from typing import Any

from nbledger_http.endpoints.schedules import changing, reading

HANDLERS: list[Any] = [*reading.HANDLERS, *changing.HANDLERS]
