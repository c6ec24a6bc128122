"""CloudEvents 1.0 in the binary mode of the Kafka protocol binding: attributes as headers."""

from datetime import datetime
from uuid import UUID

from nbledger_infrastructure.event_store import RecordedEvent

Headers = list[tuple[str, bytes]]

EXECUTE = "nbledger.command.execute.v1"
CANCEL = "nbledger.command.cancel.v1"

_TYPE_PREFIX = "nbledger."


def event_headers(recorded: RecordedEvent, *, dataref: str | None = None) -> Headers:
    """The headers of a published event.

    ``ce_id`` is the event's id, ``ce_position`` its place in the store, ``ce_subject`` its
    stream and ``ce_streamversion`` its place there. ``dataref`` says where the data can be
    read when the message does not carry it.
    """
    attributes = {
        "specversion": "1.0",
        "id": str(recorded.event_id),
        "source": f"/api/{recorded.tenant_id}/{recorded.project_id}/notebook/{recorded.subject_id}",
        "type": _TYPE_PREFIX + recorded.type,
        "time": _time(recorded.occurred_at),
        "subject": str(recorded.stream_id),
        "position": str(recorded.position),
        "streamversion": str(recorded.version),
        "tenantid": str(recorded.tenant_id),
        "projectid": str(recorded.project_id),
        "notebookid": str(recorded.subject_id),
        "actor": recorded.metadata.actor,
        "correlationid": recorded.metadata.correlation_id,
        "causationid": recorded.metadata.causation_id,
        "traceparent": recorded.metadata.traceparent,
        "dataref": dataref,
        "erased": "true" if recorded.data is None else None,
    }
    return _encode(attributes)


def command_headers(
    command_type: str, *, command_id: UUID, execution_id: UUID, at: datetime
) -> Headers:
    """The headers of a command to the workers."""
    return _encode(
        {
            "specversion": "1.0",
            "id": str(command_id),
            "source": "/nbledger",
            "type": command_type,
            "time": _time(at),
            "subject": str(execution_id),
        }
    )


def attributes(headers: tuple[tuple[str, bytes], ...] | Headers) -> dict[str, str]:
    """The CloudEvents attributes in a message's headers, without their ``ce_``."""
    return {
        name.removeprefix("ce_"): value.decode("utf-8", "replace")
        for name, value in headers
        if name.startswith("ce_")
    }


def _encode(attributes: dict[str, str | None]) -> Headers:
    headers = [
        (f"ce_{name}", value.encode()) for name, value in attributes.items() if value is not None
    ]
    headers.append(("content-type", b"application/json"))
    return headers


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
