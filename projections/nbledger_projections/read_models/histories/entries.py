"""An event as histories tell it."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.histories import FieldChange
from nbledger_domain.transparency.erasures import ENDINGS
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event
from nbledger_projections.read_models.humanize import timestamp

READ_COLUMNS: Final = f"{COLUMNS}, formula, salt"
"""The columns that :func:`entries_of` takes, in their order."""


class EventCause(msgspec.Struct, frozen=True):
    """What an event follows from.

    ``kind`` is ``request``, ``event`` or ``service``, or the cause of a run as its request tells
    it, such as ``schedule``. ``ids`` has what there is to follow it by: ``requestId``; ``eventId``,
    ``eventType``, ``streamId`` and ``position`` of the event before; and all that a run tells.
    """

    kind: str
    ids: dict[str, Any]


class Erasure(msgspec.Struct, frozen=True, rename="camel"):
    """That the data of an event is erased.

    ``at`` is when, ``actor`` who asked for it: by name while there is one; ``position`` is that
    of the event by which it was asked for. All are null where they cannot be told.
    """

    at: str | None
    actor: str | None
    actor_id: str | None
    position: int | None


class HistoryEntry(msgspec.Struct, frozen=True, rename="camel"):
    """One event. ``data`` is exactly what was recorded, null once it has been erased.

    ``time`` is when it was decided, ``recorded_at`` when it was stored. ``actor_id`` is who caused
    it as the event tells, ``actor`` the name of that one as long as there is one; ``on_behalf_of``
    is who asked for it where the actor is a part of the service. ``digest``, ``salt`` and ``chain``
    are hexadecimal: ``digest`` is the SHA-256 of the bytes of the salt with those of the data
    behind them. The salt is null once it has been erased, and where ``formula`` is 1: such events
    are from before digests had salt.
    """

    position: int
    type: str
    version: int
    stream_id: UUID
    event_id: UUID
    subject_id: UUID
    project_id: UUID
    actor: str
    actor_id: str
    on_behalf_of: str | None
    time: str
    recorded_at: str
    request_id: str | None
    correlation_id: str | None
    causation_id: str | None
    cause: EventCause
    data: msgspec.Raw
    erased: bool
    erasure: Erasure | None
    digest: str
    chain: str
    formula: int
    salt: str | None


class ChangedEntry(HistoryEntry, frozen=True, rename="camel"):
    """One event, and what it has changed.

    ``changes`` is null where that cannot be told: data is erased, or of a form unknown here.
    ``changes_omitted`` counts those that are not among them. ``changes_unavailable`` is there where
    they could be told, but more events come before it than are folded for one page.
    """

    changes: list[FieldChange] | None
    changes_omitted: int | UnsetType = UNSET
    changes_unavailable: Literal["too_much_before"] | UnsetType = UNSET


class _Requested(msgspec.Struct):
    cause: dict[str, Any] | None = None


_decode_requested: Final = msgspec.json.Decoder(_Requested).decode

# Not beyond the projects of the events themselves, as others may not be the reader's.
_CAUSES: Final = """
SELECT event_id, type, stream_id, position FROM event
WHERE event_id = ANY($1) AND tenant_id = $2 AND project_id = ANY($3)
"""

# Who asked for it: by the first event that said that the subject is to go, which is in the stream
# of the subject itself.
_ERASURES: Final = """
SELECT s.subject_id, e.erased_at, asked.position, asked.actor
FROM unnest($1::uuid[]) AS s (subject_id)
LEFT JOIN erasure AS e USING (subject_id)
LEFT JOIN LATERAL (
    SELECT position, coalesce(metadata ->> 'onBehalfOf', metadata ->> 'actor') AS actor FROM event
    WHERE stream_id = s.subject_id AND type = ANY($2)
    ORDER BY version LIMIT 1
) AS asked ON true
"""


def entries_of(rows: Iterable[asyncpg.Record]) -> list[HistoryEntry]:
    """Events of rows that begin with :data:`READ_COLUMNS`, by themselves."""
    return [_entry(row) for row in rows]


def _entry(row: asyncpg.Record) -> HistoryEntry:
    values = tuple(row)
    recorded, salt = recorded_event(values[:14]), values[15]
    metadata, data = recorded.metadata, recorded.data
    ids: dict[str, Any] = {}
    kind = "service"
    if metadata.request_id is not None:
        kind, ids["requestId"] = "request", metadata.request_id
    if metadata.causation_id is not None:
        kind, ids["eventId"] = "event", metadata.causation_id
    if data is not None and recorded.type.startswith("execution.requested."):
        told = _decode_requested(data).cause
        if told is not None:
            kind = told.pop("kind", kind)
            ids |= told
    return HistoryEntry(
        position=recorded.position,
        type=recorded.stored_type,
        version=recorded.version,
        stream_id=recorded.stream_id,
        event_id=recorded.event_id,
        subject_id=recorded.subject_id,
        project_id=recorded.project_id,
        actor=metadata.actor,
        actor_id=metadata.actor,
        on_behalf_of=metadata.on_behalf_of,
        time=timestamp(recorded.occurred_at),
        recorded_at=timestamp(recorded.recorded_at),
        request_id=metadata.request_id,
        correlation_id=metadata.correlation_id,
        causation_id=metadata.causation_id,
        cause=EventCause(kind, ids),
        data=msgspec.Raw(b"null" if data is None else data),
        erased=data is None,
        erasure=None,
        digest=recorded.digest.hex(),
        chain=recorded.chain.hex(),
        formula=values[14],
        salt=None if salt is None else salt.hex(),
    )


async def with_context(
    connection: PooledConnection, tenant_id: UUID, entries: Sequence[HistoryEntry]
) -> list[HistoryEntry]:
    """The same events with what others tell of them: of causes the event, of erasures who, when."""
    causes = await _causes(connection, tenant_id, entries)
    erasures = await _erasures(connection, entries)
    return [
        msgspec.structs.replace(
            entry,
            cause=EventCause(
                entry.cause.kind, {**entry.cause.ids, **causes.get(entry.causation_id, {})}
            ),
            erasure=erasures[entry.subject_id] if entry.erased else None,
        )
        if entry.erased or entry.causation_id in causes
        else entry
        for entry in entries
    ]


async def _causes(
    connection: PooledConnection, tenant_id: UUID, entries: Sequence[HistoryEntry]
) -> dict[str | None, dict[str, Any]]:
    caused = [entry for entry in entries if entry.causation_id is not None]
    wanted = {found for entry in caused if (found := _id_in(entry.causation_id)) is not None}
    if not wanted:
        return {}
    projects = list({entry.project_id for entry in caused})
    rows = await connection.fetch(_CAUSES, list(wanted), tenant_id, projects)
    return {
        str(row["event_id"]): {
            "eventType": row["type"],
            "streamId": str(row["stream_id"]),
            "position": row["position"],
        }
        for row in rows
    }


def _id_in(text: str | None) -> UUID | None:
    """The id of an event, where the text is one."""
    try:
        return UUID(text)
    except (TypeError, ValueError):
        return None


async def _erasures(
    connection: PooledConnection, entries: Sequence[HistoryEntry]
) -> dict[UUID, Erasure]:
    wanted = {entry.subject_id for entry in entries if entry.erased}
    if not wanted:
        return {}
    rows = await connection.fetch(_ERASURES, list(wanted), ENDINGS)
    return {
        row["subject_id"]: Erasure(
            at=None if row["erased_at"] is None else timestamp(row["erased_at"]),
            actor=row["actor"],
            actor_id=row["actor"],
            position=row["position"],
        )
        for row in rows
    }
