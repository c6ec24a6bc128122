"""Logs as they are told: to whoever may read a tenant's history, up to the newest checkpoint."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from nbledger_audit import logs, stamps
from nbledger_audit.entries import events_at
from nbledger_audit.stamps import Timestamp
from nbledger_domain.transparency import merkle, tiles
from nbledger_domain.transparency.checkpoints import origin_of
from nbledger_domain.transparency.notes import ED25519, Key, read_note
from nbledger_domain.transparency.proofs import EntryProof
from nbledger_domain.transparency.tiles import WIDTH, Tile
from nbledger_infrastructure.postgres.database import PooledConnection

_POSITION: Final = """
SELECT position FROM event WHERE event_id = $1 AND tenant_id = $2
"""

_IS_OF: Final = """
SELECT EXISTS (SELECT FROM event WHERE position = $1 AND tenant_id = $2)
"""


class IncompleteLogError(Exception):
    """The log has entries of which the event is no longer there, or is another tenant's."""


class LogState(msgspec.Struct, frozen=True):
    """What is told of a log: which keys have signed it, the newest first, and up to where.

    ``signed_size`` is more than the size of the checkpoint that is published while witnesses are
    needed for the newest one.
    """

    origin: str
    keys: tuple[Key, ...]
    published: logs.Signed | None
    signed_size: int

    @property
    def size(self) -> int:
        """So many entries are in the checkpoint that is published."""
        return 0 if self.published is None else self.published.size

    @property
    def signed_at(self) -> datetime | None:
        """When the checkpoint that is published was signed last: at rest it is signed again."""
        return None if self.published is None else self.published.confirmed_at


class ProvedEntry(msgspec.Struct, frozen=True):
    """An entry, and the proof that it is in the log of the published checkpoint."""

    entry: bytes
    proof: EntryProof


async def state(connection: PooledConnection, tenant_id: UUID) -> LogState | None:
    """The log of a tenant; None where no sealer has ever been at work."""
    used = await logs.keys(connection)
    if not used:
        return None
    published = await logs.published(connection, tenant_id)
    signed_size = await logs.signed_size(connection, tenant_id)
    origin = origin_of(used[0].origin, tenant_id)
    keys = tuple(Key(origin, ED25519, key.public) for key in used if key.origin == used[0].origin)
    return LogState(origin, keys, published, signed_size)


async def timestamps(
    connection: PooledConnection, tenant_id: UUID, *, limit: int | None = None, offset: int = 0
) -> list[Timestamp]:
    """Who says since when the log was so: the newest first, all of them without a limit."""
    return await stamps.timestamps(connection, tenant_id, limit=limit, offset=offset)


async def tile(
    connection: PooledConnection, tenant_id: UUID, wanted: Tile, width: int
) -> bytes | None:
    """The first hashes of a tile; None where no checkpoint was signed for so many."""
    if width > tiles.width_of(wanted, await logs.signed_size(connection, tenant_id)):
        return None
    return await logs.tile(connection, tenant_id, wanted, width)


async def bundle(
    connection: PooledConnection, tenant_id: UUID, index: int, width: int
) -> bytes | None:
    """The first entries of a bundle; None where no checkpoint was signed for so many.

    Raises :class:`IncompleteLogError`.
    """
    if width > tiles.width_of(Tile(0, index), await logs.signed_size(connection, tenant_id)):
        return None
    positions = await logs.positions(connection, tenant_id, index, width)
    if positions is None:
        return None
    entries = await _entries(connection, tenant_id, index * WIDTH, positions)
    return tiles.bundle(entries)


async def position_of(connection: PooledConnection, tenant_id: UUID, event_id: UUID) -> int | None:
    """Where an event of the tenant is; None where there is no such event."""
    found: int | None = await connection.fetchval(_POSITION, event_id, tenant_id)
    return found


async def is_of(connection: PooledConnection, tenant_id: UUID, position: int) -> bool:
    """Whether the event at a position is the tenant's."""
    found: bool = await connection.fetchval(_IS_OF, position, tenant_id)
    return found


async def prove_entry(
    connection: PooledConnection, tenant_id: UUID, position: int
) -> ProvedEntry | None:
    """The entry of the event at a position; None where no checkpoint covers it.

    Raises :class:`IncompleteLogError`.
    """
    published = await logs.published(connection, tenant_id)
    number = await logs.number_of(connection, tenant_id, position)
    if published is None or number is None or number >= published.size:
        return None
    (entry,) = await _entries(connection, tenant_id, number, [position])
    hashes = await logs.prove(connection, tenant_id, merkle.inclusion(number, published.size))
    return ProvedEntry(entry, EntryProof(number, tuple(hashes), read_note(published.note)))


async def places(
    connection: PooledConnection, tenant_id: UUID, positions: Sequence[int]
) -> tuple[LogState, list[int | None]] | None:
    """The log, and the numbers of the entries of the events at these positions.

    None in place of a number where no checkpoint covers the event; None where there is no log.
    """
    found = await state(connection, tenant_id)
    if found is None:
        return None
    numbers = [await logs.number_of(connection, tenant_id, each) for each in positions]
    return found, [each if each is not None and each < found.size else None for each in numbers]


async def _entries(
    connection: PooledConnection, tenant_id: UUID, first: int, positions: list[int]
) -> list[bytes]:
    events = await events_at(connection, positions)
    if [each.position for each in events] != positions:
        raise IncompleteLogError(f"events of the log of tenant {tenant_id} are gone")
    return [event.entry(number) for number, event in enumerate(events, first)]
