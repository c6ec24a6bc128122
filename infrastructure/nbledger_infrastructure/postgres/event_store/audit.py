"""Proof that nothing in the store was altered: recompute every digest and every chain."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from nbledger_domain.transparency.erasures import DELETIONS
from nbledger_infrastructure.postgres.database import UNAVAILABLE, DatabaseUnavailableError, acquire
from nbledger_infrastructure.postgres.event_store.types import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from uuid import UUID

    import asyncpg

    from nbledger_infrastructure.postgres.database import Pool

PROGRESS_EVERY = 10_000
READ_TIMEOUT = 60.0
UNSALTED = 1
"""The formula of rows from before migration 0022."""
SALTED = 2
"""The formula since then: what is hashed has 16 random bytes before it."""
SALT_BYTES = 16
_PREFETCH = 1_000
_NEW_STREAM = bytes(32)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# The version before comes from an index look-up per row, so neither side has to remember streams.
# What covers an erasure is an event, which has a chain; table `erasure` anybody could write. It is
# among the last of the subject's stream, so that the index finds it at once.
_ALL = f"""
SELECT
    e.position, e.stream_id, e.version, e.event_id, e.type, e.subject_id, e.tenant_id,
    e.project_id, e.data, e.metadata, e.occurred_at, e.recorded_at, e.digest, e.chain, e.formula,
    e.salt, e.metadata_salt,
    before.position AS position_before, before.chain AS chain_before,
    deletion.position AS deletion_position, deletion.occurred_at AS deleted_at
FROM event AS e
LEFT JOIN LATERAL (
    SELECT b.position, b.chain FROM event AS b
    WHERE b.stream_id = e.stream_id AND b.version = e.version - 1 LIMIT 1
) AS before ON true
LEFT JOIN LATERAL (
    SELECT d.position, d.occurred_at FROM event AS d
    -- In here, so that nothing is looked up for events that have their data.
    WHERE e.data IS NULL AND d.stream_id = e.subject_id
        AND d.type IN ({", ".join(f"'{each}'" for each in sorted(DELETIONS))})
    ORDER BY d.version DESC LIMIT 1
) AS deletion ON true
ORDER BY e.position
"""  # noqa: S608 (constants)


class Fault(msgspec.Struct, frozen=True):
    """The first thing found wrong, and where."""

    position: int
    stream_id: UUID | None
    version: int | None
    what: str


class ErasedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event whose data is erased, and the event that deleted its subject."""

    position: int
    stream_id: UUID
    version: int
    type: str
    subject_id: UUID
    deletion_position: int
    deleted_at: datetime


class Anchor(msgspec.Struct, frozen=True):
    """What an earlier audit reported, kept outside the database."""

    position: int
    fingerprint: str


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of an audit.

    `position` and `fingerprint` (hex SHA-256 over the chain values of all events so far) make an
    `Anchor`: with it a later audit also notices events cut off the end, or a history rewritten
    as a whole with all its chains. `unsalted` events are from before digests had salt.
    """

    events: int
    streams: int
    erased: int
    unsalted: int
    position: int
    fingerprint: str
    fault: Fault | None

    @property
    def intact(self) -> bool:
        """Whether nothing was found wrong."""
        return self.fault is None


async def verify(
    pool: Pool,
    *,
    anchor: Anchor | None = None,
    progress: Callable[[int], None] | None = None,
    on_erased: Callable[[ErasedEvent], object] = lambda _: None,
) -> AuditReport:
    """Recompute digest and chain of every event, by position, up to the first fault.

    Reads one snapshot through a cursor: memory stays flat, and appends go on meanwhile.
    `progress` is called with the position reached, every 10,000 events and at the end;
    `on_erased` with each event whose data is erased, as an event says that its subject is deleted.

    Raises `StoreUnavailableError`.
    """
    position = events = streams = erased = unsalted = 0
    recorded_at = _EPOCH
    fingerprint = hashlib.sha256()
    fault: Fault | None = None
    anchored = anchor is None or anchor.position == 0
    try:
        async for row in _rows(pool):
            fault = find_fault(row, position) or _fault_of_time(row, recorded_at)
            if fault is not None:
                break
            recorded_at = row["recorded_at"]
            position = row["position"]
            events += 1
            streams += row["version"] == 1
            if row["data"] is None:
                erased += 1
                on_erased(_erased_event(row))
            unsalted += row["formula"] == UNSALTED
            fingerprint.update(row["chain"])
            if anchor is not None and position == anchor.position:
                anchored = True
                if fingerprint.hexdigest() != anchor.fingerprint:
                    fault = _fault(row, "history up to here differs from the earlier audit")
                    break
            if progress is not None and events % PROGRESS_EVERY == 0:
                progress(position)
    except (DatabaseUnavailableError, *UNAVAILABLE) as error:
        raise StoreUnavailableError("the event store cannot be reached") from error
    if fault is None and not anchored:
        fault = Fault(position + 1, None, None, "events are missing from the end")
    if progress is not None:
        progress(position)
    return AuditReport(
        events=events,
        streams=streams,
        erased=erased,
        unsalted=unsalted,
        position=position,
        fingerprint=fingerprint.hexdigest(),
        fault=fault,
    )


def _fault_of_time(row: asyncpg.Record, recorded_before: datetime) -> Fault | None:
    if row["recorded_at"] < recorded_before:
        return _fault(row, "was recorded before the event before it")
    return None


def find_fault(row: asyncpg.Record, position_before: int) -> Fault | None:
    """Check one row against itself, the position before it and the version before it."""
    position: int = row["position"]
    version: int = row["version"]
    if position != position_before + 1:
        return Fault(position_before + 1, None, None, "no event has this position")
    if version > 1 and row["chain_before"] is None:
        return _fault(row, f"version {version - 1} of the stream is missing")
    if version > 1 and row["position_before"] > position:
        return _fault(row, f"stands before version {version - 1} of the stream")
    if version < 1:
        return _fault(row, "is not a possible version")
    what = _fault_of_content(row)
    if what is None and chain(row["chain_before"] or _NEW_STREAM, row) != row["chain"]:
        what = "the event does not match its chain"
    return None if what is None else _fault(row, what)


def _fault_of_content(row: asyncpg.Record) -> str | None:
    """What is wrong with the data, its salt or its digest."""
    if row["formula"] not in (UNSALTED, SALTED):
        return "is not a known formula"
    salted = row["formula"] == SALTED
    if not _is_salt(row["metadata_salt"], wanted=salted):
        return "the salt of the metadata is not as the formula says"
    if row["data"] is None:
        if row["deletion_position"] is None:
            return "the data is missing, but no event deletes its subject"
        return None if row["salt"] is None else "the salt of erased data is still there"
    if not _is_salt(row["salt"], wanted=salted):
        return "the salt is not as the formula says"
    if salted_digest(row["salt"], row["data"]) != row["digest"]:
        return "the data does not match its digest"
    return None


def _erased_event(row: asyncpg.Record) -> ErasedEvent:
    return ErasedEvent(
        position=row["position"],
        stream_id=row["stream_id"],
        version=row["version"],
        type=row["type"],
        subject_id=row["subject_id"],
        deletion_position=row["deletion_position"],
        deleted_at=row["deleted_at"],
    )


def _is_salt(salt: bytes | None, *, wanted: bool) -> bool:
    return salt is not None and len(salt) == SALT_BYTES if wanted else salt is None


def salted_digest(salt: bytes | None, text: str) -> bytes:
    """SHA-256 of the salt and the text, or of the text alone where there is no salt."""
    return hashlib.sha256((salt or b"") + text.encode()).digest()


def chain(before: bytes, row: asyncpg.Record) -> bytes:
    """The chain value of a row after `before`.

    The formulas stand in migrations 0001 and 0022. They differ in the byte that names the second,
    and in the salts.
    """
    return hashlib.sha256(
        b"".join(
            (
                before,
                b"" if row["formula"] == UNSALTED else bytes([row["formula"]]),
                row["digest"],
                row["event_id"].bytes,
                row["stream_id"].bytes,
                row["version"].to_bytes(4, "big"),
                row["subject_id"].bytes,
                row["tenant_id"].bytes,
                row["project_id"].bytes,
                row["position"].to_bytes(8, "big"),
                salted_digest(row["metadata_salt"], row["metadata"]),
                _microseconds(row["occurred_at"]),
                _microseconds(row["recorded_at"]),
                row["type"].encode(),
            )
        )
    ).digest()


def _microseconds(moment: datetime) -> bytes:
    return ((moment - _EPOCH) // _MICROSECOND).to_bytes(8, "big", signed=True)


def _fault(row: asyncpg.Record, what: str) -> Fault:
    return Fault(row["position"], row["stream_id"], row["version"], what)


async def _rows(pool: Pool) -> AsyncIterator[asyncpg.Record]:
    async with (
        acquire(pool) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        # The first row must come at once, whatever the planner thinks of a million of them.
        await connection.execute(
            "SET LOCAL enable_sort = off; SET LOCAL enable_hashjoin = off;"
            "SET LOCAL enable_seqscan = off; SET LOCAL enable_memoize = off; SET LOCAL jit = off"
        )
        cursor = await connection.cursor(_ALL)
        while True:
            async with asyncio.timeout(READ_TIMEOUT):
                rows = await cursor.fetch(_PREFETCH)
            for row in rows:
                yield row
            if len(rows) < _PREFETCH:
                return
