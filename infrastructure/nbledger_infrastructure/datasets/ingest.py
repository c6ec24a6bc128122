"""From CSV to Parquet, in memory that does not grow with the file."""

import asyncio
import functools
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import polars as pl

from nbledger_domain.dataset import Column
from nbledger_domain.errors import InvalidCsvError
from nbledger_infrastructure.datasets import csv_text, packed
from nbledger_infrastructure.datasets.column_types import columns
from nbledger_infrastructure.datasets.csv_dialect import Dialect
from nbledger_infrastructure.datasets.csv_reading import Reading
from nbledger_infrastructure.datasets.file_kinds import refuse_other_kinds

_WRITE_BYTES = 1 << 20
_MOST_TOLD = 10
"""Columns without a name that are told one by one."""


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """A Parquet file, what it holds, and how the CSV was written that it was made of."""

    path: Path
    size: int
    rows: int
    columns: list[Column]
    encoding: str
    delimiter: str
    compression: str | None = None
    """``gzip`` where the file was packed so."""

    warnings: tuple[str, ...] = ()
    """What was put in the place of something that the file lacks, in words."""


async def ingest_csv(
    source: AsyncIterator[bytes] | Path,
    folder: Path,
    *,
    most_bytes: int = packed.MAX_UNPACKED_BYTES,
) -> Ingested:
    """Make a Parquet file in ``folder`` of a CSV file, given as such or in pieces.

    The file may be packed by gzip and then hold at most ``most_bytes``. Encoding, delimiter and
    column types are detected; a column whose later values do not fit the type of its first ones
    gets one that fits all. The first record names the columns. ``folder`` is the caller's to
    remove. Raises :class:`InvalidCsvError`.
    """
    if not isinstance(source, Path):
        source = await _spooled(source, folder / "upload.csv")
    stop = threading.Event()
    converting = asyncio.create_task(
        asyncio.to_thread(_convert, source, folder / "dataset.parquet", stop, most_bytes)
    )
    try:
        return await asyncio.shield(converting)
    except asyncio.CancelledError:
        # The thread still writes into the folder that is about to be removed.
        stop.set()
        await asyncio.gather(converting, return_exceptions=True)
        raise


@functools.cache
def warm_up() -> None:
    """Read a small table, so that what this loads (some 30 MB of code) is there before the first.

    Blocks for some 0.1 seconds.
    """
    with tempfile.TemporaryDirectory(prefix="nbledger-dataset-") as name:
        source = Path(name) / "upload.csv"
        source.write_text("a,b,c,d\n" + '1,2.5,2024-01-01T08:00:00,"x, y"\n' * 5_000)
        _convert(source, Path(name) / "dataset.parquet", threading.Event())


async def _spooled(source: AsyncIterator[bytes], path: Path) -> Path:
    with path.open("xb") as file:
        waiting = bytearray()
        async for content in source:
            waiting += content
            if len(waiting) >= _WRITE_BYTES:
                await asyncio.to_thread(file.write, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(file.write, bytes(waiting))
    return path


def _convert(
    source: Path,
    target: Path,
    stop: threading.Event,
    most_bytes: int = packed.MAX_UNPACKED_BYTES,
) -> Ingested:
    if not packed.is_gzip(source):
        return _converted(source, target, stop)
    plain = target.with_suffix(".csv")
    packed.unpack(source, plain, most_bytes=most_bytes, stop=stop)
    ingested = _converted(plain, target, stop)
    plain.unlink()
    return msgspec.structs.replace(ingested, compression="gzip")


def _converted(source: Path, target: Path, stop: threading.Event) -> Ingested:
    refuse_other_kinds(source)
    dialect = csv_text.detect(source)
    reading = Reading(source, dialect, stop)
    try:
        reading.infer()
        while not reading.write(target):
            reading.survey()
    except InvalidCsvError:
        reading.explain()
        raise
    schema = pl.read_parquet_schema(target)
    return Ingested(
        path=target,
        size=target.stat().st_size,
        rows=reading.rows,
        columns=columns(pl.Schema(schema)),
        encoding={"utf-8-sig": "utf-8"}.get(dialect.encoding, dialect.encoding),
        delimiter=dialect.delimiter,
        warnings=_told_of(dialect),
    )


def _told_of(dialect: Dialect) -> tuple[str, ...]:
    return tuple(
        f"The header names no column {place + 1}; it is called {dialect.names[place]!r}."
        for place in dialect.nameless[:_MOST_TOLD]
    ) + (
        (f"The header leaves {len(dialect.nameless) - _MOST_TOLD:,} more columns without a name.",)
        if len(dialect.nameless) > _MOST_TOLD
        else ()
    )
