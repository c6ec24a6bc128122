"""Pages of a project's executions by any filter, and all that a filter lets through.

A page costs the same however many executions there are. Each field has an index in the order of the
list, so what has one value is read off it. Where several conditions have to be true, the one is
followed that leaves fewest rows to look at; so many of them are looked at for a page as
:data:`LOOKED_AT` says. A page may then have fewer items than it could, even none, and still be
followed by another: no index knows beforehand where two conditions meet that are both true often.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, Literal, NamedTuple
from uuid import UUID

import msgspec

from nbledger_domain.filtering import Comparison, Filter
from nbledger_infrastructure.postgres.database import Pool, PooledConnection
from nbledger_projections.machinery.one_moment import one_moment
from nbledger_projections.read_models.executions import status
from nbledger_projections.read_models.executions.conditions import (
    COLUMNS,
    Parameters,
    Scan,
    Way,
    bounds,
    condition,
    ways,
    windows,
)
from nbledger_projections.read_models.executions.listed import LIST, TAGS

NAME: Final = status.NAME
"""The projection that the list is of."""

_TABLES: Final = (TAGS, LIST, NAME)

LOOKED_AT: Final = 300
"""At most so many rows are looked at for a page."""

COMPARED: Final = 100
"""Among several ways to a page that one is taken whose row of this number is farthest."""

COUNTED: Final = 20_000
"""Among the ways to all rows of a filter that with the fewest is taken, counted up to here."""

SELECT_TIMEOUT: Final = 30.0
"""Seconds that finding all executions of a filter may take."""

Order = Literal["-requested", "requested"]
"""How a list is sorted: newest or oldest request first."""

# Every step has one good plan: along an index in the order of the list, until there is enough.
# Statistics that lag behind must not choose to read and sort a large part of it.
_SETTINGS: Final = """
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_sort = off;
SET LOCAL enable_incremental_sort = off;
SET LOCAL jit = off;
SET LOCAL plan_cache_mode = force_generic_plan
"""

_KEYS: Final = ("requested_at", "requested_position", "execution_id")
_ROW: Final = tuple(dict.fromkeys((*_KEYS, *COLUMNS.values())))


class Cursor(NamedTuple):
    """A place in the list: after the execution that was requested then, and is recorded there."""

    requested_at: datetime
    position: int


class ExecutionPage(msgspec.Struct, frozen=True):
    """A part of the list.

    ``items`` are JSON objects, ``following`` is where the next page begins, ``None`` after the
    last one. ``position`` is the checkpoint of the projection.
    """

    items: list[bytes]
    following: Cursor | None
    position: int


class _Route(msgspec.Struct, frozen=True):
    """A way to the rows: scans in the order of the list, or a stretch by another time."""

    scans: Way = ()
    stretch: tuple[Comparison, ...] = ()


class _Statements:
    """The statements for one page."""

    def __init__(
        self,
        tenant_id: UUID,
        project_id: UUID,
        wanted: Filter,
        *,
        order: Order = "-requested",
        after: Cursor | None = None,
    ) -> None:
        self._project = (tenant_id, project_id)
        self._wanted = wanted
        self._after = after
        direction, self._beyond = ("DESC", "<") if order == "-requested" else ("ASC", ">")
        self._order = f"requested_at {direction}, requested_position {direction}"
        self._bounds = bounds(wanted)

    def page(self, route: _Route, size: int) -> tuple[str, Parameters]:
        """Up to ``size`` rows of the filter among those looked at, and the checkpoint."""
        parameters = Parameters(*self._project, NAME)
        rows = self._rows(route, parameters, _ROW, LOOKED_AT)
        statement = f"""
            SELECT known.position, c.requested_at, c.requested_position, c.document
            FROM (
                SELECT (SELECT position FROM projection_checkpoint WHERE name = $3) AS position
            ) AS known
            LEFT JOIN LATERAL (
                SELECT c.requested_at, c.requested_position, s.document
                FROM (
                    SELECT c.* FROM ({rows}) AS c
                    WHERE {condition(self._wanted, parameters, "c")}
                    ORDER BY {self._order} LIMIT {size}
                ) AS c
                CROSS JOIN LATERAL (
                    SELECT document FROM {NAME} WHERE execution_id = c.execution_id OFFSET 0
                ) AS s
                ORDER BY {self._order}
            ) AS c ON true
        """  # noqa: S608 (constants of this package)
        return statement, parameters

    def probe(self, routes: Sequence[_Route], number: int) -> tuple[str, Parameters]:
        """Where each way comes to its row of this ``number``; no row of one that has fewer.

        A stretch has to be shorter than what is looked at, as it is not in order.
        """
        parameters = Parameters(*self._project)
        parts = [
            self._probe(index, route, LOOKED_AT if route.stretch else number, parameters)
            for index, route in enumerate(routes)
        ]
        return " UNION ALL ".join(parts), parameters

    def _probe(self, index: int, route: _Route, number: int, parameters: Parameters) -> str:
        return f"""
            (
                SELECT {index} AS route, requested_at, requested_position
                FROM ({self._rows(route, parameters, _KEYS, number)}) AS k
                {"" if route.stretch else f"ORDER BY {self._order}"}
                OFFSET {number - 1} LIMIT 1
            )
        """  # noqa: S608 (constants of this package)

    def some(self, route: _Route, most: int) -> tuple[str, Parameters]:
        """How many rows a way comes to, counted up to ``most``."""
        parameters = Parameters(*self._project)
        rows = self._rows(route, parameters, _KEYS, most)
        return f"SELECT count(*) FROM ({rows}) AS k", parameters  # noqa: S608 (constants)

    def all(self, route: _Route, shown: str, rest: str) -> tuple[str, Parameters]:
        """``shown`` of every row of the filter, and the ``rest`` of the statement."""
        parameters = Parameters(*self._project)
        rows = self._rows(route, parameters, _ROW, None)
        where = condition(self._wanted, parameters, "c")
        return f"SELECT {shown} FROM ({rows}) AS c WHERE {where} {rest}", parameters  # noqa: S608

    def _rows(
        self, route: _Route, parameters: Parameters, columns: Sequence[str], limit: int | None
    ) -> str:
        """The first ``limit`` rows that a way comes to, in the order of the list."""
        if route.stretch:
            where = [condition(each, parameters, "r") for each in route.stretch]
            return self._select(
                LIST, columns, where, parameters, "" if limit is None else f"LIMIT {limit}"
            )
        ordered = "" if limit is None else f"ORDER BY {self._order} LIMIT {limit}"
        if not route.scans:
            return self._select(LIST, columns, [], parameters, ordered)
        parts = [self._scan(scan, parameters, columns, ordered) for scan in route.scans]
        if len(parts) == 1:
            return parts[0]
        # What is found twice comes together, as all of it is in the same order.
        return f"""
            SELECT DISTINCT ON (requested_at, requested_position) *
            FROM ({" UNION ALL ".join(f"({part})" for part in parts)}) AS u
            {ordered}
        """  # noqa: S608 (constants of this package)

    def _scan(
        self, scan: Scan, parameters: Parameters, columns: Sequence[str], ordered: str
    ) -> str:
        where = [scan.condition(parameters)]
        if scan.table == LIST or columns is _KEYS:
            return self._select(scan.table, columns, where, parameters, ordered)
        others = [column for column in columns if column not in _KEYS]
        shown = [f"t.{key}" for key in _KEYS] + [f"l.{column}" for column in others]
        return f"""
            SELECT {", ".join(shown)}
            FROM ({self._select(TAGS, _KEYS, where, parameters, ordered)}) AS t
            CROSS JOIN LATERAL (
                -- In the order of the list, they lie side by side; by their ids, anywhere.
                SELECT {", ".join(others)} FROM {LIST}
                WHERE tenant_id = $1 AND project_id = $2 AND requested_at = t.requested_at
                    AND requested_position = t.requested_position
                OFFSET 0
            ) AS l
        """  # noqa: S608 (constants of this package)

    def _select(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[str],
        parameters: Parameters,
        rest: str,
    ) -> str:
        conditions = ["tenant_id = $1", "project_id = $2", *where]
        conditions += [bound(parameters) for bound in self._bounds]
        if self._after is not None:
            at, position = map(parameters.add, self._after)
            conditions.append(
                f"(requested_at, requested_position) {self._beyond} ({at}, {position})"
            )
        return (
            f"SELECT {', '.join(columns)} FROM {table} AS r WHERE {' AND '.join(conditions)} {rest}"  # noqa: S608
        )


def _routes(wanted: Filter) -> list[_Route]:
    found = [_Route(scans=way) for way in ways(wanted)]
    stretches = [_Route(stretch=tuple(told)) for told in windows(wanted).values()]
    return [*found, *stretches]


async def page(
    pool: Pool,
    tenant_id: UUID,
    project_id: UUID,
    wanted: Filter,
    *,
    order: Order = "-requested",
    after: Cursor | None = None,
    size: int,
) -> ExecutionPage:
    """The next ``size`` of the project's executions that the filter lets through, or fewer."""
    statements = _Statements(tenant_id, project_id, wanted, order=order, after=after)
    routes = _routes(wanted)
    async with one_moment(pool, _TABLES, settings=_SETTINGS) as connection:
        route = await _shortest(connection, statements, routes, order)
        statement, parameters = statements.page(route, size + 1)
        rows = await connection.fetch(statement, *parameters.values)
        found = [row for row in rows if row["document"] is not None]
        following = None
        if len(found) <= size and not route.stretch:
            following = await _end(connection, statements, route)
    shown = found[:size]
    if len(found) > size:
        following = Cursor(shown[-1]["requested_at"], shown[-1]["requested_position"])
    return ExecutionPage(
        [status.summary(row["document"]) for row in shown], following, rows[0]["position"] or 0
    )


async def _shortest(
    connection: PooledConnection,
    statements: _Statements,
    routes: Sequence[_Route],
    order: Order,
) -> _Route:
    """The way that comes to the end of the list, or else the farthest, with few rows."""
    if len(routes) == 1:
        return routes[0]
    statement, parameters = statements.probe(routes, COMPARED)
    reached: dict[int, Cursor] = {
        row["route"]: Cursor(row["requested_at"], row["requested_position"])
        for row in await connection.fetch(statement, *parameters.values)
    }
    for index, route in enumerate(routes):
        if index not in reached:
            return route
    farthest = min if order == "-requested" else max
    ordered = [index for index in reached if not routes[index].stretch]
    return routes[farthest(ordered, key=lambda index: reached[index])]


async def _end(
    connection: PooledConnection, statements: _Statements, route: _Route
) -> Cursor | None:
    """Where the last row is that was looked at; ``None`` where there were fewer than might be."""
    statement, parameters = statements.probe([route], LOOKED_AT)
    row = await connection.fetchrow(statement, *parameters.values)
    return None if row is None else Cursor(row["requested_at"], row["requested_position"])


async def count(pool: Pool, tenant_id: UUID, project_id: UUID, wanted: Filter, *, most: int) -> int:
    """How many of the project's executions the filter lets through, counted up to ``most`` + 1."""
    statements = _Statements(tenant_id, project_id, wanted)
    async with _selecting(pool) as connection:
        route = await _fewest(connection, statements, _routes(wanted))
        statement, parameters = statements.all(route, "1", f"LIMIT {most + 1}")
        number: int = await connection.fetchval(
            f"SELECT count(*) FROM ({statement}) AS counted",  # noqa: S608 (constants)
            *parameters.values,
        )
    return number


async def select(
    pool: Pool, tenant_id: UUID, project_id: UUID, wanted: Filter, *, most: int
) -> list[UUID]:
    """The executions that the filter lets through, but no more than ``most`` + 1 of them.

    Those requested first come first.
    """
    statements = _Statements(tenant_id, project_id, wanted)
    async with _selecting(pool) as connection:
        route = await _fewest(connection, statements, _routes(wanted))
        in_order = f"ORDER BY c.requested_at, c.requested_position LIMIT {most + 1}"
        statement, parameters = statements.all(route, "c.execution_id", in_order)
        rows = await connection.fetch(statement, *parameters.values)
    return [row[0] for row in rows]


@asynccontextmanager
async def _selecting(pool: Pool) -> AsyncIterator[PooledConnection]:
    async with (
        asyncio.timeout(SELECT_TIMEOUT),
        one_moment(pool, _TABLES, settings="SET LOCAL jit = off") as connection,
    ):
        yield connection


async def _fewest(
    connection: PooledConnection, statements: _Statements, routes: Sequence[_Route]
) -> _Route:
    """The way with the fewest rows."""
    if len(routes) == 1:
        return routes[0]
    counts: list[int] = []
    for route in routes:
        statement, parameters = statements.some(route, COUNTED)
        counts.append(await connection.fetchval(statement, *parameters.values))
    return routes[counts.index(min(counts))]
