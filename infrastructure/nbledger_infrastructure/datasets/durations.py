"""Durations as ISO 8601 writes them, such as PT90.5S or P1DT2H: days, hours, minutes, seconds.

Years and months have no fixed length, so a text with these is no duration.
"""

import polars as pl

from nbledger_infrastructure.datasets.time_formats import filled, has_finer

_FORM = (
    r"^(?<sign>[+-]?)P(?:(?<days>\d{1,9})D)?"
    r"(?:T(?:(?<hours>\d{1,12})H)?(?:(?<minutes>\d{1,13})M)?"
    r"(?:(?<seconds>\d{1,15})(?:\.(?<fraction>\d{1,9}))?S)?)?$"
)
_SOME = r"\d[DHMS]$"
_NANOSECONDS = {"days": 86_400 * 10**9, "hours": 3_600 * 10**9, "minutes": 60 * 10**9}
_SECOND = 10**9
_FEW = 20


def duration_type(texts: pl.Series) -> pl.DataType | None:
    """The type of texts that are all durations; ``None`` where one is not, or there is none."""
    given = texts.filter(texts.is_not_null() & (texts != ""))
    if given.is_empty() or not (_are(given.head(_FEW)) and _are(given)):
        return None
    return pl.Duration("ns" if has_finer(given) else "us")


def _are(texts: pl.Series) -> bool:
    return bool((texts.str.contains(_FORM) & texts.str.contains(_SOME)).all())


def with_durations(frame: pl.DataFrame, types: dict[str, pl.DataType]) -> pl.DataFrame:
    """``frame`` with the texts of some columns read as durations of these types.

    Raises polars' errors where a text is none, or the type does not hold the whole of it.
    """
    for name, dtype in types.items():
        texts = frame.select(filled(name)).to_series()
        given = texts.filter(texts.is_not_null())
        if not _are(given) or (dtype != pl.Duration("ns") and has_finer(given)):
            raise pl.exceptions.ComputeError("a duration that the type does not hold")
        groups = texts.str.extract_groups(_FORM).struct.unnest()
        unit = _SECOND // (10**9 if dtype == pl.Duration("ns") else 10**6)
        frame = frame.with_columns(
            groups.select(_nanoseconds() // unit).to_series().cast(pl.Int64).cast(dtype).alias(name)
        )
    return frame


def _nanoseconds() -> pl.Expr:
    total = _number("seconds") * _SECOND
    for part, length in _NANOSECONDS.items():
        total += _number(part) * length
    total += pl.col("fraction").fill_null("").str.pad_end(9, "0").cast(pl.Int128)
    total = pl.when(pl.col("sign") == "-").then(total * -1).otherwise(total)
    return pl.when(pl.col("sign").is_not_null()).then(total)


def _number(part: str) -> pl.Expr:
    return pl.col(part).fill_null("0").cast(pl.Int128)
