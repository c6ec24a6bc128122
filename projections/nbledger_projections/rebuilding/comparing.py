"""Comparing the tables in use with tables built anew, row by row, as of one position."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec

from nbledger_infrastructure.postgres.database import PooledConnection

MOST_KEPT: Final = 10_000
"""Differing rows of a comparison that are kept in memory; all are counted."""
PREFETCHED: Final = 2000
COMPARE_TIMEOUT: Final = 3600.0
"""Seconds that sorting the rows of a table may take."""

How = Literal["missing", "unexpected", "different"]


class Difference(msgspec.Struct, frozen=True, rename="camel"):
    """A row in use that is not as a rebuild makes it.

    ``key`` has the columns of its primary key. It is missing, unexpected (a rebuild makes none), or
    different in ``columns``. What they hold is not told: it may be anybody's.
    """

    table: str
    key: dict[str, Any]
    how: How
    columns: list[str] = []


class TableDigest(msgspec.Struct, frozen=True, rename="camel"):
    """What a table holds in use, and built anew: so many rows, and a SHA-256 over all of them.

    It is over the SHA-256 of the text of each row, in the order of the keys.
    """

    table: str
    rows: int
    digest: str
    rebuilt_rows: int
    rebuilt_digest: str
    differing: int


class _Row(NamedTuple):
    key: str
    digest: bytes


_KEY: Final = """
SELECT attname FROM pg_index
CROSS JOIN LATERAL unnest(indkey) WITH ORDINALITY AS part (number, place)
JOIN pg_attribute ON attrelid = indrelid AND attnum = part.number
WHERE indrelid = $1::text::regclass AND indisprimary ORDER BY place
"""


class RowComparison:
    """Compares tables of schema ``live`` with those of schema ``built`` on one connection.

    The transaction that is open has to see both as of one moment.
    """

    def __init__(self, connection: PooledConnection, live: str, built: str) -> None:
        self._connection = connection
        self._live, self._built = f'"{live}"', built
        self.digests: list[TableDigest] = []
        self.differing: dict[tuple[str, str], How] = {}
        """By table and key as JSON."""

    async def of(self, tables: Sequence[str]) -> None:
        """Compare these."""
        for table in tables:
            await self._compare(table)

    async def tell(self, keys: Sequence[tuple[str, str]]) -> list[Difference]:
        """Describe differing rows."""
        told: list[Difference] = []
        for table, key in keys:
            how = self.differing[table, key]
            columns = await self._columns(table, key) if how == "different" else []
            told.append(Difference(table, msgspec.json.decode(key), how, columns))
        return told

    async def _compare(self, table: str) -> None:
        key = await self._key(table)
        sums = hashlib.sha256(), hashlib.sha256()
        counts = [0, 0]
        differing = 0
        live, built = (self._rows(each, table, key) for each in (self._live, self._built))
        async for found, *digests in _merged(live, built):
            for side, digest in enumerate(digests):
                if digest is not None:
                    counts[side] += 1
                    sums[side].update(digest)
            if digests[0] != digests[1]:
                differing += 1
                if len(self.differing) < MOST_KEPT:
                    self.differing[table, found] = _how(*digests)
        live_sum, built_sum = (each.hexdigest() for each in sums)
        self.digests.append(
            TableDigest(table, counts[0], live_sum, counts[1], built_sum, differing)
        )

    async def _key(self, table: str) -> str:
        """The key of a row, as JSON in the statement."""
        rows = await self._connection.fetch(_KEY, f"{self._live}.{table}")
        members = ", ".join(f"'{row[0]}', {row[0]}" for row in rows)
        return f"json_build_object({members})::text"

    async def _rows(self, schema: str, table: str, key: str) -> AsyncIterator[_Row]:
        statement = f"""
            SELECT {key} COLLATE "C" AS key, sha256(convert_to(t::text, 'UTF8'))
            FROM {schema}.{table} AS t ORDER BY 1
        """  # noqa: S608 (constants of this package, and the catalogue)
        cursor = self._connection.cursor(statement, prefetch=PREFETCHED, timeout=COMPARE_TIMEOUT)
        async for row in cursor:
            yield _Row(row[0], row[1])

    async def _columns(self, table: str, key: str) -> list[str]:
        """In which columns the rows of this key differ."""
        of_key = f"WHERE {await self._key(table)} = $1"
        sides: list[dict[str, object]] = []
        for schema in (self._live, self._built):
            row = await self._connection.fetchrow(
                f"SELECT t.* FROM {schema}.{table} AS t {of_key}",  # noqa: S608 (constants)
                key,
                timeout=COMPARE_TIMEOUT,
            )
            sides.append({} if row is None else dict(row))
        return [name for name, value in sides[0].items() if sides[1].get(name) != value]


def _how(live: bytes | None, built: bytes | None) -> How:
    if live is None:
        return "missing"
    return "unexpected" if built is None else "different"


async def _merged(
    live: AsyncIterator[_Row], built: AsyncIterator[_Row]
) -> AsyncIterator[tuple[str, bytes | None, bytes | None]]:
    """Every key with the digests of its rows; both sides come in the order of the keys."""
    one, other = await anext(live, None), await anext(built, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.key < other.key):
            assert one is not None  # noqa: S101 (or the loop had ended)
            yield one.key, one.digest, None
            one = await anext(live, None)
        elif one is None or other.key < one.key:
            yield other.key, None, other.digest
            other = await anext(built, None)
        else:
            yield one.key, one.digest, other.digest
            one, other = await anext(live, None), await anext(built, None)
