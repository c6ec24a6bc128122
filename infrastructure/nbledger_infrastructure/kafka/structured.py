"""Events as CloudEvents in structured JSON: what webhooks get, and messages without data."""

from typing import Any, Final, Protocol

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


class Envelope(Protocol):
    """Makes the body of a message of an event; ``large`` says that its data was not even read."""

    def __call__(self, recorded: RecordedEvent, *, large: bool = False) -> bytes:
        """The body."""
        ...


def envelope(max_body_kb: int, address: str) -> Envelope:
    """Makes the bodies of messages; one that would be larger has ``dataref`` in place of data.

    ``address`` is what the API is reached by.
    """

    def made(recorded: RecordedEvent, *, large: bool = False) -> bytes:
        data = recorded.data
        large = large or (data is not None and len(data) > max_body_kb * _KB)
        if large:
            data = None
        if recorded.data is None and large:
            # Not read, but not erased.
            recorded = msgspec.structs.replace(recorded, data=b"")
        dataref = history_path(recorded) if large else None
        return structured(event_headers(recorded, dataref=dataref, address=address), data)

    return made
