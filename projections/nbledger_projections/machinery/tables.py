"""Tables whose rows are structs: their statements follow from the fields."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Generic, TypeVar, get_origin
from uuid import UUID

import asyncpg
import msgspec

from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_projections.machinery import quantities

R = TypeVar("R")

Computed = Mapping[str, tuple[str, Callable[[Any], Any]]]
"""Columns beside the fields: the SQL type of each, and how its value follows from the row."""

NONE: Computed = MappingProxyType({})

_SQL_TYPES = {UUID: "uuid", int: "bigint", bool: "boolean", datetime: "timestamptz"}
"""Of fields; text is text, and whatever else there is becomes JSON."""


class RowTable(Generic[R]):
    """Table ``name`` with a row of type ``row``, a struct, for each UUID in column ``key``.

    The first field is the key; the others are columns of the same names. ``computed`` columns are
    written only, for lists and for statements of their own.
    """

    def __init__(self, name: str, row: type[R], *, key: str, computed: Computed = NONE) -> None:
        self.name, self.key = name, key
        self._row = get_origin(row) or row
        fields = msgspec.structs.fields(row)  # type: ignore[arg-type]
        types: dict[str, str] = {}
        self._values: dict[str, Callable[[R], Any]] = {}
        self._decoders: dict[str, Callable[[str], Any] | None] = {}
        for field in fields:
            column = field.name if types else key
            types[column] = _sql_type(field.type)
            self._values[column] = attrgetter(field.name)
            is_json = types[column] == "json"
            self._decoders[column] = quantities.decoder(field.type).decode if is_json else None
        for column, (kind, value) in computed.items():
            types[column], self._values[column] = kind, value
        self._json = {column for column, kind in types.items() if kind == "json"}
        self.columns = ", ".join(self._decoders)
        """Those of the row's fields, as a statement names them."""
        self._statements(types)

    def _statements(self, types: Mapping[str, str]) -> None:
        """All of constants of this package."""
        name, key = self.name, self.key
        arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(types.values(), 1))
        changed = ", ".join(f"{each} = excluded.{each}" for each in types if each != key)
        self._load = f"SELECT {self.columns} FROM {name} WHERE {key} = ANY($1)"  # noqa: S608
        self._save = f"""
            INSERT INTO {name} ({", ".join(types)}) SELECT * FROM unnest({arrays})
            ON CONFLICT ({key}) DO UPDATE SET {changed}
        """  # noqa: S608
        self._delete = f"DELETE FROM {name} WHERE {key} = ANY($1)"  # noqa: S608

    def row(self, record: asyncpg.Record) -> R:
        """The row in ``record``, which has at least the columns of the fields."""
        return self._row(
            *(
                record[column] if decode is None else decode(record[column])
                for column, decode in self._decoders.items()
            )
        )

    def values(self, row: R) -> dict[str, Any]:
        """The row as it is stored, by column."""
        return {
            column: quantities.encode(value(row)).decode() if column in self._json else value(row)
            for column, value in self._values.items()
        }

    async def load(self, connection: PooledConnection, keys: Sequence[UUID]) -> dict[UUID, R]:
        """The rows that are there of these."""
        found = await connection.fetch(self._load, keys) if keys else []
        return {record[0]: self.row(record) for record in found}

    async def save(
        self, connection: PooledConnection, written: Iterable[R], deleted: Sequence[UUID]
    ) -> None:
        """Write rows, and remove others."""
        rows = [self.values(row).values() for row in written]
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            await connection.execute(self._save, *columns)
        if deleted:
            await connection.execute(self._delete, deleted)


def _sql_type(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, str):
        return "text"
    return _SQL_TYPES.get(kind, "json")
