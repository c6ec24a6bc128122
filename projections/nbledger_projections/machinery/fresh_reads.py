"""Reading a row with the events it does not hold yet, in one statement, so at one moment."""

from collections.abc import Sequence
from typing import cast

import asyncpg

from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event
from nbledger_projections.machinery.decoding import DELETED

_EVENT_COLUMNS = COLUMNS.split(", ")


def query(columns: str, row: str, *, events: str, order: str, deleted: str = DELETED) -> str:
    """A statement for :func:`split`.

    ``row`` is a FROM item named ``d`` that yields at most one row with ``columns``; ``events``
    the condition, which may refer to ``d``, for the events ``e`` to fold onto it, in ``order``;
    ``deleted`` the type of the event that says more than its data, which may be erased.
    """
    # The row comes with the first event only: with many of them it would weigh.
    first = f"row_number() OVER (ORDER BY e.{order}) = 1"
    shown = ", ".join(f"CASE WHEN {first} THEN d.{name} END AS {name}" for name in _names(columns))
    told = ", ".join(f"e.{name} AS event_{name}" for name in _EVENT_COLUMNS)
    return f"""
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


def split(
    columns: str, found: Sequence[asyncpg.Record]
) -> tuple[asyncpg.Record | None, list[RecordedEvent]]:
    """The row, if there is one, and the events after it."""
    width = len(_names(columns))
    row = found[0] if found and found[0][0] is not None else None
    news = [
        recorded_event(cast("asyncpg.Record", record[width:]))
        for record in found
        if record[width] is not None
    ]
    return row, news


def _names(columns: str) -> list[str]:
    return columns.split(", ")
