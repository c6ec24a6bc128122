"""Read models: a table, the events that change its rows, and the projection that keeps it."""

from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar
from uuid import UUID

from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.folding import Fold
from nbledger_projections.machinery.rows import Rows
from nbledger_projections.machinery.tables import NONE, Computed, RowTable

R = TypeVar("R")


class ReadModel(Generic[R]):
    """What is declared of a read model; the projector, rebuilds and reads follow from it.

    ``name`` is that of its checkpoint and of its table, whose rows are structs of type ``row``;
    ``key`` is the column of their keys, and ``key_of`` tells which row an event is about.
    ``types`` are the events that matter, by default those that ``fold`` names. ``tables`` are all
    that a rebuild makes anew, in the order in which queries come to them. ``projection`` is a
    class of its own where there is more to keep than rows.
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
    ) -> None:
        self.name, self.tables = name, tables or (name,)
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
        after = self._fold(before, recorded)
        if after is not None or before is not None:
            self._rows.put(key, after)

    def _fold(self, row: R | None, recorded: RecordedEvent) -> R | None:
        return self.model.fold(row, recorded)

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        await self.model.table.save(connection, *self._rows.changes())

    def settle(self) -> None:
        """What was saved is committed."""
        self._rows.settle()

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""
        self._rows.clear()
