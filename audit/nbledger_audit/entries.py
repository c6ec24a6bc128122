"""Entries of logs, made of what the event store has of each event."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from nbledger_domain.transparency.entries import LogEntry, moment
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store.audit import SALTED

COLUMNS: Final = """
position, event_id, stream_id, version, type, subject_id, tenant_id, project_id, occurred_at,
recorded_at, digest, chain, formula,
sha256(metadata_salt || convert_to(metadata::text, 'UTF8')) AS metadata_digest
"""
"""What an entry is made of, as columns of table ``event``."""

_AFTER: Final = f"""
SELECT {COLUMNS} FROM event WHERE position > $1 ORDER BY position LIMIT $2
"""  # noqa: S608 (constants)

_AT: Final = f"""
SELECT {COLUMNS} FROM event WHERE position = ANY($1) ORDER BY position
"""  # noqa: S608 (constants)


class Recorded(msgspec.Struct, frozen=True):
    """An event that is, or is to be, an entry of its tenant's log."""

    tenant_id: UUID
    position: int
    envelope: Mapping[str, Any]

    def entry(self, number: int) -> bytes:
        """The event as entry ``number``."""
        return LogEntry(number=number, **self.envelope).encoded()


async def events_after(connection: PooledConnection, position: int, limit: int) -> list[Recorded]:
    """The next events of all tenants after a position."""
    return [recorded(row) for row in await connection.fetch(_AFTER, position, limit)]


async def events_at(connection: PooledConnection, positions: Sequence[int]) -> list[Recorded]:
    """The events at these positions, in order."""
    return [recorded(row) for row in await connection.fetch(_AT, positions)]


def recorded(row: asyncpg.Record) -> Recorded:
    """An event by the :data:`COLUMNS` of its row."""
    # Digests without salt would confirm guesses, and so would the chain over them.
    salted = row["formula"] == SALTED
    return Recorded(
        row["tenant_id"],
        row["position"],
        {
            "position": row["position"],
            "id": row["event_id"],
            "stream": row["stream_id"],
            "version": row["version"],
            "type": row["type"],
            "subject": row["subject_id"],
            "tenant": row["tenant_id"],
            "project": row["project_id"],
            "occurred_at": moment(row["occurred_at"]),
            "recorded_at": moment(row["recorded_at"]),
            "data": row["digest"].hex() if salted else None,
            "metadata": row["metadata_digest"].hex() if salted else None,
            "chain": row["chain"].hex() if salted else None,
        },
    )
