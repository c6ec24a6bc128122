"""Schedules: list and read them, pause and resume them, ask for runs; automatic execution."""

from typing import Any

from nbledger_http.endpoints.schedules import automatic_execution, changing, reading

HANDLERS: list[Any] = [*reading.HANDLERS, *changing.HANDLERS, *automatic_execution.HANDLERS]
