"""CloudEvents 1.0 by the Kafka protocol binding: the attributes of each message, as headers.

All that is published of events gets its attributes here, whether on Kafka or as JSON.
"""

from datetime import datetime
from functools import lru_cache
from uuid import UUID

import msgspec

from nbledger_domain.vocabulary.addresses import (
    event_schema_path,
    log_path,
    project_path,
    state_schema_path,
)
from nbledger_infrastructure.actors import auth_context
from nbledger_infrastructure.postgres.event_store import Metadata, RecordedEvent

Headers = list[tuple[str, bytes]]

EXECUTE = "nbledger.command.execute.v1"
CANCEL = "nbledger.command.cancel.v1"
CHECKPOINT = "nbledger.checkpoint.v1"

_TYPE_PREFIX = "nbledger."
_OWN_SUBJECTS = {"dataset", "history", "library", "webhook"}
_NOTICES_OF_NO_NOTEBOOK = "notice.kernel-"
STRUCTURED = "application/cloudevents+json; charset=utf-8"
"""The media type of an event as JSON, with its attributes."""

_CONSTANT = (("ce_specversion", b"1.0"), ("content-type", b"application/json"))
_WITHOUT_DATA = (("ce_specversion", b"1.0"), ("content-type", STRUCTURED.encode()))


class StateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is published of a document: which one, and up to which event.

    ``subject_id`` is what its events concern, of the kind ``subject_kind``; ``path`` is where the
    document can be read, ``at`` when the event at ``position`` was recorded. The record of one that
    is ``deleted`` has no value. With ``dataref`` it is too large for a record.
    """

    type: str
    id: UUID
    tenant_id: UUID
    project_id: UUID
    subject_id: UUID
    subject_kind: str
    path: str
    position: int
    at: datetime
    deleted: bool = False
    dataref: bool = False


def subject_kind(event_type: str) -> str:
    """What an event of this type concerns: a notebook, with its executions, or something else."""
    if event_type.startswith(_NOTICES_OF_NO_NOTEBOOK):
        return "notice"
    kind = event_type.partition(".")[0]
    return kind if kind in _OWN_SUBJECTS else "notebook"


def event_headers(
    recorded: RecordedEvent, *, address: str, dataref: str | None = None, replay: bool = False
) -> Headers:
    """The headers of a published event.

    ``ce_id`` is the event's id, ``ce_sequence`` and ``ce_position`` its place in the store,
    ``ce_subject`` its stream and ``ce_streamversion`` its place there.

    Args:
        recorded: the event; one without data, or with ``dataref``, is sent in structured mode.
        address: what the API is reached by, where the schema of the data can be read.
        dataref: where the data can be read when the message does not carry it.
        replay: whether it is told again on request.
    """
    without_data = recorded.data is None or dataref is not None
    stream_id = str(recorded.stream_id).encode()
    headers = [
        *(_WITHOUT_DATA if without_data else _CONSTANT),
        ("ce_id", str(recorded.event_id).encode()),
        ("ce_type", (_TYPE_PREFIX + recorded.stored_type).encode()),
        ("ce_time", _time(recorded.occurred_at).encode()),
        ("ce_recordedtime", _time(recorded.recorded_at).encode()),
        ("ce_subject", stream_id),
        ("ce_partitionkey", stream_id),
        # Compared as text within a source: so wide that no position needs more.
        ("ce_sequence", b"%020d" % recorded.position),
        ("ce_position", b"%d" % recorded.position),
        ("ce_streamversion", b"%d" % recorded.version),
        *_place(
            recorded.tenant_id,
            recorded.project_id,
            recorded.subject_id,
            subject_kind(recorded.type),
        ),
        *_causes(recorded.metadata),
    ]
    if dataref is not None:
        headers.append(("ce_dataref", dataref.encode()))
    if recorded.data is None:
        headers.append(("ce_erased", b"true"))
    else:
        headers.append(("ce_dataschema", _schema(address, recorded.stored_type)))
    if replay:
        headers.append(("ce_replay", b"true"))
    return headers


def command_headers(
    command_type: str, *, command_id: UUID, execution_id: UUID, at: datetime
) -> Headers:
    """The headers of a command to the workers."""
    return [
        *_CONSTANT,
        ("ce_id", str(command_id).encode()),
        ("ce_source", b"/nbledger"),
        ("ce_type", command_type.encode()),
        ("ce_time", _time(at).encode()),
        ("ce_subject", str(execution_id).encode()),
    ]


def checkpoint_headers(tenant_id: UUID, size: int, at: datetime) -> Headers:
    """The headers of a checkpoint of a tenant's log, with so many entries, as it was at ``at``."""
    return [
        ("ce_specversion", b"1.0"),
        ("content-type", b"text/plain; charset=utf-8"),
        ("ce_id", f"{size}-{at:%Y%m%dT%H%M%S.%fZ}".encode()),
        ("ce_source", log_path(tenant_id).encode()),
        ("ce_type", CHECKPOINT.encode()),
        ("ce_time", _time(at).encode()),
        ("ce_subject", b"%d" % size),
        ("ce_tenantid", str(tenant_id).encode()),
    ]


def state_headers(state: StateRecord, *, address: str) -> Headers:
    """The headers of a record of a state topic. ``address`` is what the API is reached by."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("content-type", (STRUCTURED if state.dataref else "application/json").encode()),
        ("ce_id", f"{state.id}-{state.position}".encode()),
        ("ce_type", (_TYPE_PREFIX + state.type).encode()),
        ("ce_time", _time(state.at).encode()),
        ("ce_subject", str(state.id).encode()),
        ("ce_partitionkey", str(state.id).encode()),
        ("ce_sequence", b"%020d" % state.position),
        ("ce_position", b"%d" % state.position),
        *_place(state.tenant_id, state.project_id, state.subject_id, state.subject_kind),
    ]
    if state.dataref:
        headers.append(("ce_dataref", state.path.encode()))
    if state.deleted:
        headers.append(("ce_erased", b"true"))
    else:
        headers.append(("ce_dataschema", (address + state_schema_path(state.type)).encode()))
    return headers


def attributes(headers: tuple[tuple[str, bytes], ...] | Headers) -> dict[str, str]:
    """The CloudEvents attributes in a message's headers, without their ``ce_``."""
    return {
        name.removeprefix("ce_"): value.decode("utf-8", "replace")
        for name, value in headers
        if name.startswith("ce_")
    }


def history_path(recorded: RecordedEvent) -> str:
    """Where the data of an event can be read that a message does not carry."""
    project = project_path(recorded.tenant_id, recorded.project_id)
    kind = subject_kind(recorded.type)
    if kind != "notebook":
        return f"{project}/{kind}/{recorded.stream_id}"  # which tells all that its events do
    path = f"{project}/notebook/{recorded.subject_id}"
    if recorded.stream_id != recorded.subject_id:
        path += f"/execution/{recorded.stream_id}"
    return f"{path}/history?after={recorded.position - 1}&limit=1"


@lru_cache(maxsize=4096)
def _place(
    tenant_id: UUID, project_id: UUID, subject_id: UUID, kind: str
) -> tuple[tuple[str, bytes], ...]:
    """Whose event it is; the same for all events of a notebook, dataset or library."""
    return (
        ("ce_source", project_path(tenant_id, project_id, kind, subject_id).encode()),
        ("ce_tenantid", str(tenant_id).encode()),
        ("ce_projectid", str(project_id).encode()),
        (f"ce_{kind}id", str(subject_id).encode()),
    )


@lru_cache(maxsize=256)
def _schema(address: str, event_type: str) -> bytes:
    """Where the schema is of what was stored, which is sent as it is."""
    return (address + event_schema_path(event_type)).encode()


@lru_cache(maxsize=4096)
def _causes(metadata: Metadata) -> tuple[tuple[str, bytes], ...]:
    """Who and what caused it; the same for all events of a request."""
    kind, actor = auth_context(metadata.actor)
    causes = {
        "authtype": kind,
        "authid": actor,
        "correlationid": metadata.correlation_id,
        "causationid": metadata.causation_id,
        "traceparent": metadata.traceparent,
    }
    return tuple((f"ce_{name}", value.encode()) for name, value in causes.items() if value)


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
