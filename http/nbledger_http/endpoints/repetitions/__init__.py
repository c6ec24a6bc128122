"""Executions that repeat others: asking for them, and reading how they hang together."""

from typing import Any

from nbledger_http.endpoints.repetitions import asking, reading

HANDLERS: list[Any] = [*asking.HANDLERS, *reading.HANDLERS]
