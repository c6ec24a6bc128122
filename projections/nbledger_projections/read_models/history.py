"""The history of a notebook, execution, dataset or library: its events, for auditors."""

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec

from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event
from nbledger_projections.read_models.humanize import timestamp


class HistoryEntry(msgspec.Struct, frozen=True, rename="camel"):
    """One event. ``data`` is exactly what was recorded, null once it has been erased.

    ``time`` is when it was decided, ``recorded_at`` when it was stored. ``actor_id`` is who caused
    it as the event tells, ``actor`` the name of that one as long as there is one. ``digest``,
    ``salt`` and ``chain`` are hexadecimal: ``digest`` is the SHA-256 of the bytes of the salt with
    those of the data behind them. The salt is null once it has been erased, and where ``formula``
    is 1: such events are from before digests had salt.
    """

    position: int
    type: str
    version: int
    stream_id: UUID
    event_id: UUID
    actor: str
    actor_id: str
    time: str
    recorded_at: str
    correlation_id: str | None
    causation_id: str | None
    data: msgspec.Raw
    erased: bool
    digest: str
    chain: str
    formula: int
    salt: str | None


# A notebook's executions are in streams of their own with the notebook as their subject.
_SUBJECT = f"""
SELECT {COLUMNS}, formula, salt FROM event
WHERE subject_id = $3 AND tenant_id = $1 AND project_id = $2 AND position > $4
    AND CASE WHEN stream_id = subject_id THEN type LIKE $6 ELSE $7 END
ORDER BY position LIMIT $5
"""  # noqa: S608 (constants)

_EXECUTION = f"""
SELECT {COLUMNS}, formula, salt FROM event
WHERE stream_id = $6 AND subject_id = $3 AND stream_id <> subject_id
    AND tenant_id = $1 AND project_id = $2 AND position > $4 AND version > $7
ORDER BY version LIMIT $5
"""  # noqa: S608 (constants)


async def notebook_history(
    pool: Pool,
    tenant_id: UUID,
    project_id: UUID,
    notebook_id: UUID,
    *,
    after: int = 0,
    limit: int,
    include_executions: bool = False,
) -> list[HistoryEntry]:
    """At most ``limit`` events after position ``after``, in order; none of a foreign project.

    A deleted notebook still has a history.
    """
    place = (tenant_id, project_id, notebook_id, after, limit)
    return await _read(pool, _SUBJECT, *place, "notebook.%", include_executions)


async def document_history(
    pool: Pool,
    tenant_id: UUID,
    project_id: UUID,
    document_id: UUID,
    *,
    kind: Literal["dataset", "library", "action"],
    after: int = 0,
    limit: int,
) -> list[HistoryEntry]:
    """At most ``limit`` events after position ``after``, in order; none of a foreign project.

    What has been deleted still has a history.
    """
    place = (tenant_id, project_id, document_id, after, limit)
    return await _read(pool, _SUBJECT, *place, f"{kind}.%", False)


async def execution_history(
    pool: Pool,
    tenant_id: UUID,
    project_id: UUID,
    notebook_id: UUID,
    execution_id: UUID,
    *,
    after: int = 0,
    after_version: int = 0,
    limit: int,
) -> list[HistoryEntry]:
    """At most ``limit`` events after position ``after``, in order; none of a foreign project.

    Whoever knows the version of the last event as well gets there quicker.
    """
    place = (tenant_id, project_id, notebook_id, after, limit, execution_id, after_version)
    return await _read(pool, _EXECUTION, *place)


async def _read(pool: Pool, query: str, *arguments: object) -> list[HistoryEntry]:
    async with acquire(pool) as connection:
        rows = await connection.fetch(query, *arguments)
    return _entries(rows)


def _entries(rows: Sequence[asyncpg.Record]) -> list[HistoryEntry]:
    return [
        HistoryEntry(
            position=recorded.position,
            type=recorded.stored_type,
            version=recorded.version,
            stream_id=recorded.stream_id,
            event_id=recorded.event_id,
            actor=recorded.metadata.actor,
            actor_id=recorded.metadata.actor,
            time=timestamp(recorded.occurred_at),
            recorded_at=timestamp(recorded.recorded_at),
            correlation_id=recorded.metadata.correlation_id,
            causation_id=recorded.metadata.causation_id,
            data=msgspec.Raw(b"null" if recorded.data is None else recorded.data),
            erased=recorded.data is None,
            digest=recorded.digest.hex(),
            chain=recorded.chain.hex(),
            formula=row["formula"],
            salt=None if row["salt"] is None else row["salt"].hex(),
        )
        for row in rows
        for recorded in (recorded_event(tuple(row)[:-2]),)
    ]
