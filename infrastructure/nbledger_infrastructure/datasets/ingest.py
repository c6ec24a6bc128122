"""From CSV to Parquet, in memory that does not grow with the file."""

import asyncio
import functools
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
from polars.io.plugins import register_io_source

from nbledger_domain.dataset import Column
from nbledger_domain.errors import InvalidCsvError
from nbledger_infrastructure.datasets import csv_text
from nbledger_infrastructure.datasets.column_types import columns
from nbledger_infrastructure.datasets.csv_text import Dialect, Piece

GROUP_BYTES = 2_500_000
"""So much CSV becomes one row group, which is held in memory while it is written."""

_GROUP_ROWS = (1024, 64 * 1024)
_WRITE_BYTES = 1 << 20
_LEADING_ZERO = r"^[+-]?0\d"
_FRACTION = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """A Parquet file, what it holds, and how the CSV was written that it was made of."""

    path: Path
    size: int
    rows: int
    columns: list[Column]
    encoding: str
    delimiter: str


async def ingest_csv(source: AsyncIterator[bytes] | Path, folder: Path) -> Ingested:
    """Make a Parquet file in ``folder`` of a CSV file, given as such or in pieces.

    Encoding, delimiter and column types are detected; a column whose later values do not fit the
    type of its first ones gets one that fits all. The first record names the columns. ``folder`` is
    the caller's to remove. Raises :class:`InvalidCsvError`.
    """
    if not isinstance(source, Path):
        source = await _spooled(source, folder / "upload.csv")
    stop = threading.Event()
    converting = asyncio.create_task(
        asyncio.to_thread(_convert, source, folder / "dataset.parquet", stop)
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
    with path.open("xb", buffering=0) as file:
        waiting = bytearray()
        async for content in source:
            waiting += content
            if len(waiting) >= _WRITE_BYTES:
                await asyncio.to_thread(file.write, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(file.write, bytes(waiting))
    return path


def _convert(source: Path, target: Path, stop: threading.Event) -> Ingested:
    dialect = csv_text.detect(source)
    reading = _Reading(source, dialect, stop)
    try:
        reading.infer()
        if not reading.write(target):
            # Some column needs a wider type: find all of these, then begin again.
            reading.survey()
            reading.write(target)
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
    )


class _StoppedError(Exception):
    """Nobody waits for the result any more."""


class _Reading:
    """One file being read; ``schema`` gets wider as values demand it."""

    def __init__(self, source: Path, dialect: Dialect, stop: threading.Event) -> None:
        self._source = source
        self._dialect = dialect
        self._stop = stop
        self.schema = pl.Schema(dict.fromkeys(dialect.names, pl.String()))
        self.rows = 0
        self._index = 0
        self._misfit = 0
        self._group_rows = _GROUP_ROWS[1]
        self._error: Exception | None = None

    def infer(self) -> None:
        """Types as the first piece of the file has them."""
        first = next(csv_text.pieces(self._source, self._dialect), None)
        if first is None:
            return
        raw = self._strings(first)
        self._dialect_checked(first, raw)
        guessed = self._frame(first.content, None)
        codes = raw.select(_is_code(pl.all())).row(0, named=True)
        types = {
            name: pl.String() if codes[name] or dtype == pl.Null else dtype
            for name, dtype in guessed.schema.items()
        }
        self.schema = pl.Schema(types)
        if raw.height:
            rows = GROUP_BYTES * raw.height // max(len(first.content), 1)
            self._group_rows = min(max(rows, _GROUP_ROWS[0]), _GROUP_ROWS[1])

    def write(self, target: Path) -> bool:
        """Write all rows; returns whether they fit the schema."""
        self.rows = 0
        frames = register_io_source(self._frames, schema=self.schema, is_pure=False)
        try:
            frames.sink_parquet(
                target, compression="zstd", compression_level=1, row_group_size=self._group_rows
            )
        except Exception as error:
            # What was raised inside the source comes out of polars as something else.
            raised, self._error = self._error, None
            if raised is None:
                raise
            if isinstance(raised, _MisfitError):
                return False
            raise raised from error
        return True

    def survey(self) -> None:
        """Widen the schema until every piece from the misfit on can be read with it."""
        for index, piece in enumerate(csv_text.pieces(self._source, self._dialect)):
            self._begin(index)
            if index < self._misfit:
                continue
            try:
                self._typed(piece)
            except _MisfitError:
                self._widen(piece)

    def explain(self) -> None:
        """Raise what is wrong at the piece that was read last, with the right row."""
        for index, piece in enumerate(csv_text.pieces(self._source, self._dialect, counted=True)):
            if index >= self._index:
                fault = csv_text.find_fault(piece, self._dialect)
                if fault is not None:
                    raise fault

    def _frames(
        self,
        with_columns: list[str] | None,
        predicate: pl.Expr | None,  # noqa: ARG002 (a sink asks for all rows)
        n_rows: int | None,  # noqa: ARG002
        batch_size: int | None,  # noqa: ARG002
    ) -> Iterator[pl.DataFrame]:
        try:
            for index, piece in enumerate(csv_text.pieces(self._source, self._dialect)):
                self._begin(index)
                frame = self._typed(piece)
                self.rows += frame.height
                yield frame if with_columns is None else frame.select(with_columns)
        except _MisfitError as error:
            self._misfit = self._index
            self._error = error
            raise
        except Exception as error:
            self._error = error
            raise

    def _begin(self, index: int) -> None:
        if self._stop.is_set():
            raise _StoppedError
        self._index = index

    def _typed(self, piece: Piece) -> pl.DataFrame:
        """Raises :class:`_MisfitError` and :class:`InvalidCsvError`."""
        try:
            frame = self._frame(piece.content, self.schema)
        except pl.exceptions.PolarsError as error:
            self._dialect_checked(piece, self._strings(piece))
            raise _MisfitError from error
        return self._dialect_checked(piece, frame)

    def _dialect_checked(self, piece: Piece, frame: pl.DataFrame) -> pl.DataFrame:
        """``frame``, which was read from ``piece``, without what came of blank lines.

        What a short record lacks polars takes as null, so only where there are nulls in the last
        column need it be looked for.
        """
        if not frame.height or not frame.to_series(frame.width - 1).null_count():
            return frame
        if not csv_text.is_even(piece.content, self._dialect):
            raise InvalidCsvError("a record has another number of fields than the header")
        if frame.width == 1:
            return frame  # here a blank line is a value left out
        content = csv_text.without_blank_lines(piece.content)
        if len(content) == len(piece.content):
            return frame
        return self._typed(Piece(piece.row, content)) if content else frame.clear()

    def _strings(self, piece: Piece) -> pl.DataFrame:
        schema = pl.Schema(dict.fromkeys(self._dialect.names, pl.String()))
        try:
            return self._frame(piece.content, schema)
        except pl.exceptions.PolarsError as error:
            reason = str(error).partition("\n")[0]
            raise InvalidCsvError(reason) from error

    def _widen(self, piece: Piece) -> None:
        raw = self._strings(piece)
        types = dict(self.schema)
        for name, dtype in types.items():
            if dtype == pl.String():
                continue
            one = pl.Schema({**dict.fromkeys(types, pl.String()), name: dtype})
            try:
                self._frame(piece.content, one)
            except pl.exceptions.PolarsError:
                types[name] = _wider(dtype, raw[name])
        if types == dict(self.schema):
            types = dict.fromkeys(types, pl.String())
        self.schema = pl.Schema(types)

    def _frame(self, content: bytes, schema: pl.Schema | None) -> pl.DataFrame:
        """Raises polars' errors, also where a column of integers has a code."""
        if schema is None:
            return self._read(content, infer_schema_length=None, new_columns=self._dialect.names)
        integers = [name for name, dtype in schema.items() if dtype.is_integer()]
        if not integers:
            return self._read(content, schema=schema)
        # As text first, in which it can be seen what a number would not show any more.
        texts = dict.fromkeys(integers, pl.String())
        frame = self._read(content, schema=pl.Schema({**schema, **texts}))
        if any(frame.select(_is_code(pl.col(integers))).row(0)):
            raise pl.exceptions.ComputeError("a code among the integers")
        return frame.with_columns(
            pl.when(pl.col(name) != "").then(pl.col(name)).cast(schema[name]) for name in integers
        )

    def _read(self, content: bytes, **options: Any) -> pl.DataFrame:
        return pl.read_csv(
            content,
            has_header=False,
            separator=self._dialect.delimiter,
            try_parse_dates=True,
            **options,
        )


class _MisfitError(Exception):
    """A value does not fit the type of its column."""


def _is_code(values: pl.Expr) -> pl.Expr:
    """Whether any is a number by its looks only, such as 00017: the zeros mean something."""
    return values.str.contains(_LEADING_ZERO).any()


def _wider(dtype: pl.DataType, values: pl.Series) -> pl.DataType:
    """A type for ``values``, some of which do not fit ``dtype``."""
    if not dtype.is_integer():
        return pl.String()
    misfits = values.filter(
        values.is_not_null() & values.str.strip_chars().cast(pl.Int64, strict=False).is_null()
    )
    codes = values.to_frame().select(_is_code(pl.all())).item()
    fractions = misfits.str.contains(_FRACTION) & misfits.str.contains(r"[.eE]")
    return pl.Float64() if fractions.all() and not codes else pl.String()
