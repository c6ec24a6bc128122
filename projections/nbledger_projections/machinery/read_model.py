"""Read models: a table, the events that change its rows, and the projection that keeps it."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.folding import Fold
from nbledger_projections.machinery.rows import Rows
from nbledger_projections.machinery.snapshots import Kept, Snapshot, SnapshotTable, after
from nbledger_projections.machinery.tables import NONE, Computed, RowTable

R = TypeVar("R")


class ReadModel(Generic[R]):
    """What is declared of a read model; the projector, rebuilds and reads follow from it.

    ``name`` is that of its checkpoint and of its table, whose rows are structs of type ``row``;
    ``key`` is the column of their keys, and ``key_of`` tells which row an event is about.
    ``types`` are the events that matter, by default those that ``fold`` names. ``tables`` are all
    that a rebuild makes anew, in the order in which queries come to them. ``projection`` is a
    class of its own where there is more to keep than rows. ``snapshots`` are kept of its rows where
    they are read as of earlier positions.
    """

    def __init__(
        self,
        name: str,
        row: type[R],
        *,
        key: str,
        key_of: Callable[[RecordedEvent], UUID],
        fold: Fold[R],
        types: Collection[str] | None = None,
        computed: Computed = NONE,
        tables: tuple[str, ...] = (),
        projection: "type[TableProjection[R]] | None" = None,
        snapshots: SnapshotTable[Any] | None = None,
    ) -> None:
        self.name, self.tables = name, tables or (name,)
        self.snapshots = snapshots
        if snapshots is not None:
            self.tables = (*self.tables, snapshots.name)
        self.table = RowTable(name, row, key=key, computed=computed)
        self.fold, self.key_of = fold, key_of
        self.types: frozenset[str] = fold.types if types is None else frozenset(types)
        self._projection = projection

    def projection(self) -> "TableProjection[R]":
        """A projection with nothing in memory."""
        return (self._projection or TableProjection)(self)


class TableProjection(Generic[R]):
    """Keeps the table of a read model; see :class:`Projection` for when what is called.

    Of rows about ``room`` bytes stay in memory between batches, by default what :class:`Rows` says.
    """

    def __init__(self, model: ReadModel[R], *, room: int | None = None) -> None:
        self.model = model
        self.name, self.tables = model.name, model.tables
        self.interests: frozenset[str] = model.types
        self._rows: Rows[R] = Rows() if room is None else Rows(room)
        self._taken: list[Snapshot] = []

    async def load(self, connection: PooledConnection, events: Sequence[RecordedEvent]) -> None:
        """Bring the rows that ``events`` change into memory."""
        model = self.model
        telling = [recorded for recorded in events if recorded.type in model.types]
        keys = self._rows.missing(map(model.key_of, telling))
        created = {model.key_of(each) for each in telling if each.type in model.fold.created}
        known = [key for key in keys if key not in created]
        self._rows.fill(keys, await model.table.load(connection, known))

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""
        if recorded.type not in self.model.types:
            return
        key = self.model.key_of(recorded)
        before = self._rows.get(key)
        row = self._fold(before, recorded)
        if row is not None or before is not None:
            self._rows.put(key, row)
        if row is not None and self.model.snapshots is not None:
            snapshot = after(key, cast("Kept", row), recorded)
            if snapshot is not None:
                self._taken.append(snapshot)

    def _fold(self, row: R | None, recorded: RecordedEvent) -> R | None:
        return self.model.fold(row, recorded)

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        written, deleted = self._rows.changes()
        await self.model.table.save(connection, written, deleted)
        if self.model.snapshots is not None:
            await self.model.snapshots.save(connection, self._taken)
            await self.model.snapshots.delete(connection, deleted)

    def settle(self) -> None:
        """What was saved is committed."""
        self._rows.settle()
        self._taken.clear()

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""
        self._rows.clear()
        self._taken.clear()
