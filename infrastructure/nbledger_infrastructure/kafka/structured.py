"""What is sent to webhooks: an event as a CloudEvent in structured JSON."""

from typing import Any, Final, Protocol

import msgspec

from nbledger_infrastructure.kafka.cloudevents import attributes, event_headers, history_path
from nbledger_infrastructure.postgres.event_store import RecordedEvent

_KB: Final = 1024


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
        dataref = history_path(recorded) if large else None
        told = attributes(event_headers(recorded, dataref=dataref, address=address))
        message: dict[str, Any] = {**told, "datacontenttype": "application/json"}
        if data is not None:
            message["data"] = msgspec.Raw(data)
        else:
            # No data, and so no type of it.
            del message["datacontenttype"]
        return msgspec.json.encode(message)

    return made
