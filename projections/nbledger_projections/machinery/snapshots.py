"""Snapshots: what rows held at earlier positions, so that the past is read without folding it all.

A projection takes one of a row whenever the events since the last one weigh more than a bound. When
that is follows from the events alone, so a rebuild takes the same.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import msgspec
from msgspec import inspect

from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery import quantities

LEAST_BYTES = 49_152
"""Events of so many bytes are folded in a few milliseconds."""

ROW_SHARE = 8
"""The next snapshot of a large row waits for events of this part of its bytes."""

EVENT_BYTES = 1024
"""What an event weighs beside its data: about as much as folding an empty one costs."""


class Kept(Protocol):
    """A row of which snapshots are taken; ``until_snapshot`` bytes of events before the next."""

    position: int
    until_snapshot: int


K = TypeVar("K", bound=Kept)


class SnapshotTable(Generic[K]):
    """Table ``name`` with snapshots of rows of type ``row``, by column ``key`` and position.

    ``owner`` is the column of the notebook that they go with, where that is not the key.
    ``format`` follows from the members of the row. What another version of this code has written
    may hold less, and is not read.
    """

    def __init__(self, name: str, row: Any, *, key: str, owner: str | None = None) -> None:
        self.name, self.key = name, key
        self._decode = quantities.decoder(row).decode
        self.format = shape(row)
        owners, more = ("", "") if owner is None else (f", {owner}", ", $5::uuid[]")
        self._has_owner = owner is not None
        self._save = f"""
            INSERT INTO {name} ({key}, position, format, state{owners})
            SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::json[]{more})
            ON CONFLICT ({key}, position)
            DO UPDATE SET format = excluded.format, state = excluded.state
        """  # noqa: S608 (constants of this package)
        self._delete = f"DELETE FROM {name} WHERE {owner or key} = ANY($1)"  # noqa: S608

    def row(self, state: str) -> K:
        """The row that a snapshot of this format holds."""
        row: K = self._decode(state)
        return row

    async def save(self, connection: PooledConnection, taken: Sequence["Snapshot"]) -> None:
        """Write snapshots."""
        if taken:
            columns: list[list[Any]] = [
                [each.key for each in taken],
                [each.position for each in taken],
                [self.format] * len(taken),
                [each.state for each in taken],
            ]
            if self._has_owner:
                columns.append([each.owner for each in taken])
            await connection.execute(self._save, *columns)

    async def delete(self, connection: PooledConnection, owners: Sequence[UUID]) -> None:
        """Remove all snapshots of what goes with these."""
        if owners:
            await connection.execute(self._delete, owners)


class Snapshot:
    """A row as it was after the event at ``position``; ``owner`` is the notebook it goes with."""

    __slots__ = ("key", "owner", "position", "state")

    def __init__(self, key: UUID, owner: UUID, position: int, state: str) -> None:
        self.key, self.owner, self.position, self.state = key, owner, position, state


def after(key: UUID, row: Kept, recorded: RecordedEvent) -> Snapshot | None:
    """The snapshot to take of ``row`` after ``recorded`` was folded in, if one is due.

    All snapshots of a row together weigh at most eight times what its events do, before PostgreSQL
    compresses them; large ones, which repeat themselves, to a tenth.
    """
    row.until_snapshot -= EVENT_BYTES + len(recorded.data or b"")
    if row.until_snapshot > 0:
        return None
    state = quantities.encode(row).decode()
    row.until_snapshot = max(LEAST_BYTES, len(state) // ROW_SHARE)
    return Snapshot(key, recorded.subject_id, recorded.position, state)


def shape(kind: Any) -> str:
    """A digest of what the struct ``kind`` is made of, and all types in it.

    Names, types and which members are required count; bounds of values and defaults do not.
    """
    seen: dict[Any, int] = {}
    told = msgspec.json.encode(_shape(inspect.type_info(kind), seen))
    return hashlib.sha256(told).hexdigest()[:16]


def _shape(info: Any, seen: dict[Any, int]) -> Any:
    if isinstance(info, inspect.StructType):
        if (number := seen.get(info.cls)) is not None:
            return number
        seen[info.cls] = len(seen)
        members = [
            (each.encode_name, each.required, _shape(each.type, seen)) for each in info.fields
        ]
        return [info.tag, info.array_like, members]
    kind = type(info).__name__
    if isinstance(info, inspect.EnumType):
        return [kind, [each.value for each in info.cls]]
    if isinstance(info, inspect.LiteralType):
        return [kind, info.values]
    if isinstance(info, inspect.CustomType):
        return [kind, info.cls.__name__]
    parts = [getattr(info, name) for name in type(info).__struct_fields__]
    nested = [each for part in parts for each in (part if isinstance(part, tuple) else (part,))]
    return [kind, [_shape(each, seen) for each in nested if isinstance(each, inspect.Type)]]
