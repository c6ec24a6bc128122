"""Events as CloudEvents in structured JSON: what webhooks get, and messages without data."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from nbledger_infrastructure.kafka.cloudevents import (
    Headers,
    attributes,
    event_headers,
    history_path,
)
from nbledger_infrastructure.postgres.event_store import RecordedEvent

_KB: Final = 1024

_encode = msgspec.json.Encoder().encode


def structured(headers: Headers, data: bytes | None) -> bytes:
    """The event that has these headers, as one JSON object; without data it has no type of it."""
    event: dict[str, Any] = dict(attributes(headers))
    if data is not None:
        event["datacontenttype"] = "application/json"
        event["data"] = msgspec.Raw(data)
    return _encode(event)


def envelope(max_body_kb: int, address: str) -> Callable[[RecordedEvent], bytes]:
    """Makes the bodies of messages; one that would be larger has ``dataref`` in place of data.

    ``address`` is what the API is reached by.
    """

    def made(recorded: RecordedEvent) -> bytes:
        data = recorded.data
        if data is not None and len(data) > max_body_kb * _KB:
            data = None
        dataref = history_path(recorded) if data is None and recorded.data is not None else None
        return structured(event_headers(recorded, dataref=dataref, address=address), data)

    return made
