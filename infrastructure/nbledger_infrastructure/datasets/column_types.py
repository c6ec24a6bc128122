"""Column types: those of polars in the words of the API."""

import polars as pl

from nbledger_domain.dataset import Column, ColumnType


def columns(schema: pl.Schema) -> list[Column]:
    """The columns of a table."""
    return [Column(name, column_type(dtype)) for name, dtype in schema.items()]


def column_type(dtype: pl.DataType) -> ColumnType:
    """What a column of this type is called."""
    if dtype.is_integer() or (isinstance(dtype, pl.Decimal) and dtype.scale == 0):
        return "integer"
    if dtype.is_numeric():
        return "number"
    for name, kinds in _KINDS.items():
        if dtype.base_type() in kinds:
            return name
    return "other"


_KINDS: dict[ColumnType, tuple[type[pl.DataType], ...]] = {
    "string": (pl.String, pl.Categorical, pl.Enum),
    "boolean": (pl.Boolean,),
    "datetime": (pl.Datetime,),
    "date": (pl.Date,),
    "time": (pl.Time,),
    "duration": (pl.Duration,),
}
