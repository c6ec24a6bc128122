"""Reading a row with the events it does not hold yet, in one statement, so at one moment."""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

import asyncpg

from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event
from nbledger_projections.machinery.decoding import DELETED
from nbledger_projections.machinery.read_model import ReadModel

R = TypeVar("R")

Columns = Mapping[str, Any] | asyncpg.Record
"""The columns of a row, by name."""

_EVENT_COLUMNS = COLUMNS.split(", ")


class FreshRead(Generic[R]):
    """Reads one row of a read model as of now.

    ``row`` is a FROM item that yields at most one row; ``events`` the condition, which may refer
    to it as ``d``, for the events ``e`` to fold onto it, in ``order``. ``columns`` are what is read
    of the row, by default what its struct holds.
    """

    def __init__(
        self, model: ReadModel[R], row: str, *, events: str, order: str, columns: str = ""
    ) -> None:
        self._model = model
        columns = columns or model.table.columns
        names = columns.split(", ")
        self._width = len(names)
        deleted = model.fold.deleted or DELETED
        # The row comes with the first event only: with many of them it would weigh.
        first = f"row_number() OVER (ORDER BY e.{order}) = 1"
        shown = ", ".join(f"CASE WHEN {first} THEN d.{name} END AS {name}" for name in names)
        told = ", ".join(f"e.{name} AS event_{name}" for name in _EVENT_COLUMNS)
        self._statement = f"""
            SELECT {shown}, {told}
            FROM (SELECT) AS one
            LEFT JOIN {row} AS d ON true
            LEFT JOIN LATERAL (
                SELECT {COLUMNS} FROM event AS e
                WHERE {events} AND (e.data IS NOT NULL OR e.type = '{deleted}')
                ORDER BY e.{order}
            ) AS e ON true
            ORDER BY e.{order}
        """  # noqa: S608 (constants of this package)

    async def fetch(
        self, connection: PooledConnection, *arguments: Any
    ) -> tuple[asyncpg.Record, bool, list[RecordedEvent]]:
        """The record, whether it holds a row, and the events after it."""
        found = await connection.fetch(self._statement, *arguments)
        news = [
            recorded_event(cast("asyncpg.Record", record[self._width :]))
            for record in found
            if record[self._width] is not None
        ]
        return found[0], found[0][0] is not None, news

    def fold(
        self, record: asyncpg.Record | None, news: Sequence[RecordedEvent], **given: Any
    ) -> R | None:
        """The row in ``record``, if there is one, after ``news``; see :class:`Fold`."""
        row = None if record is None else self._model.table.row(record)
        for recorded in news:
            row = self._model.fold(row, recorded, **given)
        return row

    async def get(self, pool: Pool, *arguments: Any) -> Columns | None:
        """The row's columns as of now, as they are stored; ``None`` when there is none."""
        async with acquire(pool) as connection:
            record, is_there, news = await self.fetch(connection, *arguments)
        if not news:
            # Served as it lies there, without taking it apart.
            return record if is_there else None
        row = self.fold(record if is_there else None, news)
        return None if row is None else self._model.table.values(row)
