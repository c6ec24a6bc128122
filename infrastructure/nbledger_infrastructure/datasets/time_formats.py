"""The form in which a column of texts writes its times."""

import itertools

import polars as pl

_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d-%m-%Y", "%d/%m/%Y", "%d.%m.%Y")
_TIMES = ("%H:%M:%S", "%H:%M:%S%.f", "%H:%M")
_ZONES = ("", "Z", "%#z")
_FORMS = tuple(
    f"{date}{between}{time}{zone}"
    for date, between, time, zone in itertools.product(_DATES, "T ", _TIMES, _ZONES)
)
_FEW = 20


def time_format(texts: pl.Series, times: pl.Series) -> str | None:
    """The form (of chrono's ``strftime``) by which ``texts`` are read as ``times``, all of them.

    ``None`` where there is none known: the texts have several, or an unusual one.
    """
    filled = texts.is_not_null() & (texts != "")
    texts, times = texts.filter(filled), times.filter(filled)
    for form in _FORMS:
        if _reads(texts.head(_FEW), times.head(_FEW), form) and _reads(texts, times, form):
            return form
    return None


def _reads(texts: pl.Series, times: pl.Series, form: str) -> bool:
    try:
        read = texts.str.to_datetime(form, time_unit="us").cast(times.dtype)
    except pl.exceptions.PolarsError:
        return False
    return bool((read == times).all())
