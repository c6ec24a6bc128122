"""The form in which a column of texts writes its times, and how they are read by it."""

import itertools
from collections.abc import Mapping
from typing import Literal

import polars as pl

_DATES = ("%Y-%m-%d", "%Y/%m/%d")
_TIMES = ("%H:%M:%S", "%H:%M:%S%.f", "%H:%M")
_ZONES = ("", "Z", "%#z")
_FORMS = tuple(
    f"{date}{between}{time}{zone}"
    for date, between, time, zone in itertools.product(_DATES, "T ", _TIMES, _ZONES)
)
_FEW = 20

_MIXED = "~%Y-%m-%dT%H:%M:%S%.f"
"""Stands for all of the forms at once: T or a blank between date and time, and any precision.

Written with a mark that chrono does not know: texts are brought into the one form before.
"""

_MIXED_TEXT = (
    r"^\d{4}(?:-\d{2}-\d{2}|/\d{2}/\d{2})[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?"
    r"(?:[Zz]|[+-]\d{2}(?::?\d{2})?)?$"
)
_ZONED_TEXT = r"(?:[Zz]|:\d{2}(?:\.\d+)?[+-]\d{2}(?::?\d{2})?)$"

# 03/02/2024 is another day in Boston than in Berlin.
_YEAR_LATER = r"^\s*\d{1,3}\D"

_FINER = r"\.\d{6}\d*[1-9]"
"""A fraction of a second of which microseconds hold a part only."""

_DATE_ALONE = r"^\s*\d{4}[-/]?\d{1,2}[-/]?\d{1,2}\s*$"

# As some seconds of a year end; polars would take it for the first one of the next minute.
_LEAP_SECOND = r":60(\D|$)"
_SHORT_LEAP_SECOND = r"[T ]\d{4}60(\D|$)"

_FINEST = r"\.\d{9}\d*[1-9]"
# Beyond these 64 bits do not count them.
_NANOSECOND_YEARS = (1678, 2261)


def time_format(texts: pl.Series, times: pl.Series) -> str | None:
    """The form (of chrono's ``strftime``) by which ``texts`` are read as ``times``, all of them.

    These are dates, or dates with times.

    ``None`` where there is none known: the texts have several, or an unusual one.
    """
    given = texts.is_not_null() & (texts != "")
    texts, times = texts.filter(given), times.filter(given)
    for form in _DATES if times.dtype == pl.Date() else _FORMS:
        if _reads(texts.head(_FEW), times.head(_FEW), form) and _reads(texts, times, form):
            return form
    return None


def mixed_times(texts: pl.Series) -> tuple[str, pl.DataType] | None:
    """Form and type of texts that are all dates with times, however their writing differs.

    ``None`` where one is something else, where some have a zone and others not, and where there
    is none at all.
    """
    given = texts.filter(texts.is_not_null() & (texts != ""))
    if given.is_empty() or not given.head(_FEW).str.contains(_MIXED_TEXT).all():
        return None
    if not given.str.contains(_MIXED_TEXT).all():
        return None
    zoned = given.str.contains(_ZONED_TEXT)
    if zoned.any() != zoned.all():
        return None
    zone = "UTC" if zoned.all() else None
    return mixed_form(zone), pl.Datetime("ns" if has_finer(given) else "us", zone)


def mixed_form(zone: str | None) -> str:
    """The form of dates with times that are written in several ways, with a zone or without."""
    return _MIXED if zone is None else f"{_MIXED}%#z"


def _reads(texts: pl.Series, times: pl.Series, form: str) -> bool:
    try:
        read = texts.to_frame("a").select(_parsed("a", form, times.dtype)).to_series()
    except pl.exceptions.PolarsError:
        return False
    return bool((read == times).all())


def with_times(
    frame: pl.DataFrame, formats: Mapping[str, str], schema: Mapping[str, pl.DataType]
) -> pl.DataFrame:
    """``frame`` with the texts of some columns read by their forms, as times of these types.

    Raises polars' errors, also where a type does not hold the whole of a time.
    """
    read = frame.with_columns(_parsed(name, form, schema[name]) for name, form in formats.items())
    for name, form in formats.items():
        if is_nanoseconds(schema[name]):
            years = frame.select(_read_as(name, form, "us").dt.year())
            held = years.to_series().is_between(*_NANOSECOND_YEARS).all()
            held = held and not frame[name].str.contains(_FINEST).any()
        else:
            held = "%.f" not in form or not has_finer(frame[name])
        if not held:
            raise pl.exceptions.ComputeError("a time that the type of its column does not hold")
    return read


def with_fraction(form: str) -> str:
    """The form of the same times where some have fractions of a second."""
    return form if "%.f" in form else form.replace("%S", "%S%.f")


def is_doubtful(texts: pl.Series) -> bool:
    """Whether polars by itself reads one of them as a part of what it says, or as a guess."""
    return has_finer(texts) or bool(texts.str.contains(f"{_YEAR_LATER}|{_SHORT_LEAP_SECOND}").any())


def has_date(texts: pl.Series) -> bool:
    """Whether one of them is a date alone, which polars takes for its midnight."""
    return bool(texts.str.contains(_DATE_ALONE).any())


def has_leap_second(texts: pl.Series) -> bool:
    """Whether one of them has a second 60."""
    return bool(texts.str.contains(_LEAP_SECOND).any())


def has_finer(texts: pl.Series) -> bool:
    """Whether one of them needs more than microseconds."""
    return bool(texts.str.contains(_FINER).any())


def in_nanoseconds(dtype: pl.DataType) -> pl.DataType:
    """The type of the same times, counted in nanoseconds."""
    return pl.Datetime("ns", dtype.time_zone if isinstance(dtype, pl.Datetime) else None)


def filled(name: str) -> pl.Expr:
    """The texts of a column; those that hold nothing are left out."""
    column = pl.col(name)
    return pl.when(column != "").then(column)


def is_nanoseconds(dtype: pl.DataType) -> bool:
    """Whether times of this type are counted in nanoseconds."""
    return isinstance(dtype, pl.Datetime) and dtype.time_unit == "ns"


def _parsed(name: str, form: str, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.Date():
        return filled(name).str.to_date(form)
    return _read_as(name, form, "ns" if is_nanoseconds(dtype) else "us").cast(dtype)


def _read_as(name: str, form: str, unit: Literal["ns", "us"]) -> pl.Expr:
    texts = filled(name)
    if form.startswith("~"):
        form = form[1:]
        # What else is in the column stays as it is, and is refused by the form.
        texts = texts.str.replace(
            r"^(\d{4})[-/](\d{2})[-/](\d{2})[Tt ](\d{2}:\d{2})", "${1}-${2}-${3}T${4}"
        ).str.replace(r"T(\d{2}:\d{2})([Zz+-]|$)", "T${1}:00${2}")
    return texts.str.to_datetime(form, time_unit=unit)
