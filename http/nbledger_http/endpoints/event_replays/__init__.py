"""Events published again: asked for, listed, read and cancelled."""

from typing import Any

from nbledger_http.endpoints.event_replays import asking, reading

HANDLERS: list[Any] = [*asking.HANDLERS, *reading.HANDLERS]
