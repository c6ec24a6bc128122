"""Which type holds the numbers of a column as their texts have them, digit for digit."""

import re
from decimal import Decimal

import polars as pl

_CODE = r"^[+-]?0\d"
# A double holds no more digits of an integer for sure.
_LONG = r"^[+-]?\d{16,}$"
# Nor more than 17 of a fraction; with an exponent a number was a double before.
_DIGITS = r"^[+-]?(0*[1-9][\d.]{18,}|0*\.0*[1-9]\d{17,})$"
_MANY_BYTES = 19
"""A fraction of 18 digits has no fewer."""

_CODE_OR_LONG = f"{_CODE}|{_LONG}"
_ENDLESS = r"^\s*[+-]?\d{39,}\s*$"
_FRACTION = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_WHOLE = r"^\s*[+-]?\d+\s*$"
_PLAIN = re.compile(r"\s*[+-]?(\d*)\.?(\d*)\s*")
_MOST_DIGITS = 38
_DOUBLE_DIGITS = 17
_SURELY_A_DOUBLE = 23
"""Six digits more than a double has: one decimal in a million ends as a double does by chance."""


def is_code(texts: pl.Series, dtype: pl.DataType) -> bool:
    """Whether one of ``texts`` would not be the same as a number of this type.

    As 00017, where the zeros mean something, and long integers among fractions.
    """
    if not dtype.is_numeric():
        return False
    return bool(texts.str.contains(_CODE_OR_LONG if dtype.is_float() else _CODE).any())


def has_endless(texts: pl.Series) -> bool:
    """Whether one of ``texts`` is an integer that no type of polars holds."""
    return bool(texts.str.contains(_ENDLESS).any())


def is_exact(texts: pl.Series, dtype: pl.DataType) -> bool:
    """Whether this type holds each of these numbers with all the digits that are written."""
    if dtype.is_float():
        if not (texts.str.len_bytes() >= _MANY_BYTES).any():
            return True
        long = texts.filter(texts.str.contains(_DIGITS))
        return all(map(_is_a_double, long))
    if isinstance(dtype, pl.Decimal):
        given = texts.filter(texts.is_not_null() & (texts != ""))
        more = rf"\.\d{{{dtype.scale + 1},}}|[^\d.+-]"
        return not given.str.contains(more).any()
    if dtype == pl.Int128:
        # What one who reads the Parquet file knows as well.
        return not texts.str.contains(rf"\d{{{_MOST_DIGITS + 1},}}").any()
    return True


def _is_a_double(text: str) -> bool:
    """Whether the text is what a double shows where it is asked for so many digits.

    A decimal may look so by chance, and the double's own text would have fewer digits. So these
    have to be the same number, or the surplus digits be many and all of them a fraction's; or
    else there are too many for any decimal.
    """
    found = _PLAIN.fullmatch(text)
    if found is None:  # dots as in 1.10.200
        return False
    value = float(text)
    shown = f"{value:.{len(found[2])}f}".lstrip("-")
    if shown != text.strip().lstrip("+-").rstrip("."):
        return False
    if Decimal(repr(value)) == Decimal(text):
        return True
    whole, digits = found[1].lstrip("0"), (found[1] + found[2]).strip("0")
    surely = len(whole) <= _DOUBLE_DIGITS and len(digits) >= _SURELY_A_DOUBLE
    return surely or len(whole) + len(found[2]) > _MOST_DIGITS


def wider(dtype: pl.DataType, texts: pl.Series) -> pl.DataType:
    """A type for ``texts``, some of which do not fit ``dtype``."""
    if isinstance(dtype, pl.Decimal):
        return _decimal(texts, dtype.scale) or pl.String()
    if dtype.is_float() and not is_exact(texts, dtype) and not is_code(texts, dtype):
        return _decimal(texts, 0) or pl.String()
    if dtype == pl.Duration("us"):
        return pl.Duration("ns")
    if not dtype.is_integer():
        return pl.String()
    if not is_code(texts, dtype) and _are(texts, _WHOLE) and is_exact(texts, pl.Int128()):
        return pl.Int128()
    misfits = texts.filter(texts.is_not_null() & texts.cast(pl.Int64, strict=False).is_null())
    fractions = misfits.str.contains(_FRACTION) & misfits.str.contains(r"[.eE]")
    if misfits.is_empty() or not fractions.all() or is_code(texts, pl.Float64()):
        return pl.String()
    return pl.Float64()


def _are(texts: pl.Series, form: str) -> bool:
    return bool(texts.filter(texts.is_not_null() & (texts != "")).str.contains(form).all())


def _decimal(texts: pl.Series, scale: int) -> pl.DataType | None:
    """A decimal with at least this scale that holds them all."""
    whole = 0
    for text in texts.drop_nulls():
        found = _PLAIN.fullmatch(text)
        if found is None:
            return None
        whole, scale = max(whole, len(found[1].lstrip("0"))), max(scale, len(found[2]))
    return pl.Decimal(_MOST_DIGITS, scale) if whole + scale <= _MOST_DIGITS else None


def stored(schema: pl.Schema) -> pl.Schema:
    """The types that a Parquet file has: integers of 128 bits nobody else could read."""
    return pl.Schema({name: _stored(dtype) for name, dtype in schema.items()})


def _stored(dtype: pl.DataType) -> pl.DataType:
    if dtype == pl.Int128():
        return pl.Decimal(_MOST_DIGITS, 0)
    # A column without a single value.
    return pl.String() if dtype == pl.Null() else dtype


def as_stored(frame: pl.DataFrame) -> pl.DataFrame:
    """The same numbers in the types that a Parquet file has."""
    long = [name for name, dtype in frame.schema.items() if dtype == pl.Int128]
    return frame.with_columns(pl.col(long).cast(pl.Decimal(_MOST_DIGITS, 0))) if long else frame
