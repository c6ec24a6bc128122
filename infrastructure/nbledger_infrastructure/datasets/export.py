"""From Parquet to CSV, some rows at a time, in a process of its own.

A notebook may have made the file: what a few bytes of it unfold to must not take the memory of
the service. Run as a program with the Parquet file, its number of rows and the bytes of memory that
it may have as arguments, it writes the CSV to its output.
"""

import asyncio
import io
import resource
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import polars as pl

from nbledger_infrastructure.datasets.csv_values import csv_value
from nbledger_infrastructure.passed_on import passed_on
from nbledger_infrastructure.programs import Program

PIECE_BYTES = 8 * 1024 * 1024
"""A piece of more than one row has at most some times as much."""

MEMORY_BYTES = 1024 * 1024 * 1024
"""What the process may have for its data."""

PATIENCE_SECONDS = 60.0
"""How long it may take to the next piece."""

_ROWS = (64, 16_384)
_READ_BYTES = 1024 * 1024
_PASSED_ON = ("PYTHONPATH", "LANG", "TMPDIR")


class ExportError(Exception):
    """A table cannot be written as CSV; says why."""


async def csv_stream(path: Path, rows: int) -> AsyncGenerator[bytes]:
    """The table as CSV in UTF-8, converted while it is taken.

    Raises :class:`ExportError`, also after some of it.
    """
    program = await Program.start(
        [sys.executable, "-P", __file__, str(path), str(rows), str(MEMORY_BYTES)],
        env={**passed_on(_PASSED_ON), "POLARS_MAX_THREADS": "1"},
        line_bytes=_READ_BYTES,
    )
    async with program:
        try:
            while piece := await _next(program):
                yield piece
            async with asyncio.timeout(PATIENCE_SECONDS):
                finished = await program.finish()
        except TimeoutError:
            raise ExportError("it takes too long") from None
    if finished.status:
        raise ExportError(finished.last_line[:300])


async def _next(program: Program) -> bytes:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await program.read(_READ_BYTES)


def csv_pieces(path: Path, rows: int) -> Iterator[bytes]:
    """The table as CSV in UTF-8, in pieces bounded by their bytes; the first has the header."""
    table = pl.scan_parquet(path, glob=False)
    written = [csv_value(name, dtype) for name, dtype in table.collect_schema().items()]
    yield _csv(table.head(0).select(written).collect(), header=True)
    start, (count, most) = 0, _ROWS
    while start < rows:
        part = table.slice(start, count).collect()
        if not part.height:
            return
        for some in _bounded(part):
            # As text the same values may be much longer.
            for piece in _bounded(some.select(written)):
                yield _csv(piece)
        start += part.height
        # How large values are shows only once they are read: larger steps follow small ones.
        fits = part.estimated_size() <= PIECE_BYTES
        count = min(count * 2, most) if fits else max(count // 2, 1)


def _bounded(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    if frame.height <= 1 or frame.estimated_size() <= PIECE_BYTES:
        yield frame
        return
    half = frame.height // 2
    yield from _bounded(frame.head(half))
    yield from _bounded(frame.slice(half))


def _csv(frame: pl.DataFrame, *, header: bool = False) -> bytes:
    content = io.BytesIO()
    frame.write_csv(content, include_header=header)
    return content.getvalue()


def main() -> None:
    """Write the CSV; why it could not be done goes to stderr."""
    memory = int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    try:
        for piece in csv_pieces(Path(sys.argv[1]), int(sys.argv[2])):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    except (pl.exceptions.PolarsError, OSError, MemoryError) as error:
        sys.exit(f"{type(error).__name__}: {error}".partition("\n")[0])


if __name__ == "__main__":
    main()
