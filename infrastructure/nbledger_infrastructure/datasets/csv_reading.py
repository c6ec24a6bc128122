"""A CSV file read piece by piece into Parquet, with types as wide as its values demand."""

import contextlib
import math
import re
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from nbledger_domain.errors import InvalidCsvError
from nbledger_infrastructure.datasets import csv_text
from nbledger_infrastructure.datasets.csv_dialect import Dialect, Piece
from nbledger_infrastructure.datasets.durations import duration_type, with_durations
from nbledger_infrastructure.datasets.exact_numbers import (
    as_stored,
    has_endless,
    is_code,
    is_exact,
    stored,
    wider,
)
from nbledger_infrastructure.datasets.time_formats import (
    filled,
    has_date,
    has_finer,
    has_leap_second,
    in_nanoseconds,
    is_doubtful,
    is_nanoseconds,
    mixed_form,
    mixed_times,
    time_format,
    with_fraction,
    with_times,
)

GROUP_BYTES = 2_500_000
"""So much CSV becomes one row group, which is held in memory while it is written."""

_GROUP_ROWS = (16, 64 * 1024)

_MOST_GROUPS = 2_000

_READERS = 2

_TIMES = (pl.Date, pl.Datetime)

_CLOCKS = (pl.Datetime, pl.Time)

_SECOND_60 = re.compile(rb":60(?!\d)")

# Of a number that is not zero, and not infinite by name.
_SOMETHING = r"^[^eE]*[1-9]"


class _StoppedError(Exception):
    """Nobody waits for the result any more."""


class Reading:
    """One file being read; ``schema`` gets wider as values demand it."""

    def __init__(self, source: Path, dialect: Dialect, stop: threading.Event) -> None:
        self._source = source
        self._dialect = dialect
        self._stop = stop
        self.schema = pl.Schema(dict.fromkeys(dialect.names, pl.String()))
        self.rows = 0
        self._index = 0
        self._misfit = 0
        self._formats: dict[str, str] = {}
        self._error: Exception | None = None

    def infer(self) -> None:
        """Types as the first piece of the file has them; of a column without values none yet."""
        first = next(csv_text.pieces(self._source, self._dialect), None)
        if first is None:
            return
        raw = self._strings(first)
        self._dialect_checked(first, raw)
        self.schema = pl.Schema(self._inferred(first, raw))
        try:
            self._typed(first)
        except _MisfitError:
            self._widen(first)

    def _inferred(self, piece: Piece, raw: pl.DataFrame) -> dict[str, pl.DataType]:
        """Types as this piece has them, whose texts are ``raw``; notes the forms of times."""
        guessed = self._guessed(piece.content, [each.name for each in raw if has_endless(each)])
        types: dict[str, pl.DataType] = {}
        for name in raw.columns:
            texts, dtype = raw[name], guessed[name].dtype
            if texts.null_count() == len(texts):
                types[name] = pl.Null()
            elif is_code(texts, dtype):
                types[name] = pl.String()
            else:
                types[name] = self._recognised(texts, guessed[name])
        return types

    def _recognised(self, texts: pl.Series, guessed: pl.Series) -> pl.DataType:
        """The type of texts that polars has ``guessed``; notes their form where they are times."""
        name, dtype = texts.name, guessed.dtype
        form = time_format(texts, guessed) if dtype.base_type() in _TIMES else None
        if form is not None:
            self._formats = {**self._formats, name: form}
        elif dtype.base_type() in (pl.String, pl.Datetime):
            if (mixed := mixed_times(texts)) is not None:
                self._formats = {**self._formats, name: mixed[0]}
                return mixed[1]
            if dtype == pl.String():
                return duration_type(texts) or dtype
        return dtype

    def _guessed(self, content: bytes, endless: list[str]) -> pl.DataFrame:
        """The columns of the types that polars takes them for, which may be the wrong one.

        It takes dates that are written in two ways for dates, and then fails at them; and so it
        does at ``endless`` integers, which stay texts.
        """
        known = dict.fromkeys(endless, pl.String())
        options = {
            "infer_schema_length": None,
            "new_columns": self._dialect.names,
            "schema_overrides": known,
        }
        try:
            return self._read(content, **options)
        except pl.exceptions.PolarsError:
            texts = self._read(content, **options, try_parse_dates=False)
        strings = [name for name, dtype in texts.schema.items() if dtype == pl.String()]
        for name in set(strings) - known.keys():
            others = {other: pl.String() for other in strings if other != name}
            with contextlib.suppress(pl.exceptions.PolarsError):
                one = self._read(content, **{**options, "schema_overrides": {**known, **others}})
                texts = texts.with_columns(one[name])
        return texts

    def write(self, target: Path) -> bool:
        """Write all rows; returns whether they fit the schema."""
        self.rows = 0
        rows = csv_text.rows_of(self._source, GROUP_BYTES, most_parts=_MOST_GROUPS)
        group_rows = min(max(rows, _GROUP_ROWS[0]), _GROUP_ROWS[1])
        frames = register_io_source(self._frames, schema=stored(self.schema), is_pure=False)
        try:
            frames.sink_parquet(
                target, compression="zstd", compression_level=1, row_group_size=group_rows
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
        """Widen the schema until every piece from the misfit on can be read with it.

        An earlier one may not fit the wider type; then there is a misfit once more. Types only get
        wider, so this comes to its end.
        """
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
            for frame in map(as_stored, self._read_ahead()):
                self.rows += frame.height
                yield frame if with_columns is None else frame.select(with_columns)
        except _MisfitError as error:
            self._misfit = self._index
            self._error = error
            raise
        except Exception as error:
            self._error = error
            raise

    def _read_ahead(self) -> Iterator[pl.DataFrame]:
        """The pieces in order, the next ones being read by others meanwhile."""
        pieces = csv_text.pieces(self._source, self._dialect)
        with ThreadPoolExecutor(_READERS) as readers:

            def begun(most: int) -> Iterator[Future[pl.DataFrame]]:
                return (readers.submit(self._typed, piece) for piece in islice(pieces, most))

            reading = deque(begun(_READERS))
            for index in count():
                if not reading:
                    return
                self._begin(index)
                reading.extend(begun(1))
                yield reading.popleft().result()

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

        polars takes some quotation marks for a part of a value, and others for the end of one: none
        may be where it does not belong. What a short record lacks polars takes as null, so only
        where there are nulls in the last column need it be looked for.
        """
        if not _is_well_quoted(piece.content, self._dialect.delimiter):
            raise InvalidCsvError("a quotation mark is not where it belongs")
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
        formats = self._formats
        first = [name for name, dtype in types.items() if dtype == pl.Null()]
        if any(raw[name].null_count() < raw.height for name in first):
            inferred = self._inferred(piece, raw.select(first))
            types |= {name: inferred[name] for name in first}
        for name, dtype in types.items():
            if dtype in (pl.String(), pl.Null()):
                continue
            one = pl.Schema({**dict.fromkeys(types, pl.String()), name: dtype})
            try:
                self._frame(piece.content, one)
            except pl.exceptions.PolarsError:
                types[name] = self._other_times(name, dtype, raw[name]) or wider(dtype, raw[name])
        if types == dict(self.schema) and formats == self._formats:
            types = dict.fromkeys(types, pl.String())
        self.schema = pl.Schema(types)

    def _other_times(self, name: str, dtype: pl.DataType, texts: pl.Series) -> pl.DataType | None:
        """A type and a form that hold these times and the earlier ones; notes the form.

        Nanoseconds where microseconds do not hold them, and several ways to write them where they
        are not written as the earlier ones are.
        """
        form = self._formats.get(name)
        if form is None or not isinstance(dtype, pl.Datetime):
            return None
        several = mixed_form(dtype.time_zone)
        finer = in_nanoseconds(dtype)
        for other, kind in (
            *([(with_fraction(form), finer)] if has_finer(texts) else []),
            (several, dtype),
            (several, finer),
        ):
            with contextlib.suppress(pl.exceptions.PolarsError):
                with_times(texts.to_frame(name), {name: other}, {name: kind})
                self._formats = {**self._formats, name: other}
                return kind
        return None

    def _frame(self, content: bytes, schema: pl.Schema) -> pl.DataFrame:
        """Raises polars' errors, also where a number or a time is not what the text says."""
        numbers = {name: dtype for name, dtype in schema.items() if dtype.is_numeric()}
        times = {name: dtype for name, dtype in schema.items() if dtype.base_type() in _TIMES}
        formats = {name: form for name, form in self._formats.items() if name in times}
        durations = {name: dtype for name, dtype in schema.items() if dtype == pl.Duration}
        empty = [name for name, dtype in schema.items() if dtype == pl.Null()]
        texts = dict.fromkeys([*numbers, *durations, *empty], pl.String())
        # Where the form of times is known they are read in a fifth of the time.
        frame = self._read(
            content, schema=pl.Schema({**schema, **texts, **dict.fromkeys(formats, pl.String())})
        )
        try:
            frame = with_times(frame, formats, schema)
        except pl.exceptions.PolarsError:
            # polars by itself would read what nanoseconds cannot count as another time.
            formats = {name: form for name, form in formats.items() if is_nanoseconds(times[name])}
            guessed = pl.Schema({**schema, **texts, **dict.fromkeys(formats, pl.String())})
            frame = with_times(self._read(content, schema=guessed), formats, schema)
        self._check_times(content, schema, [name for name in times if name not in formats])
        if any(frame[name].null_count() < frame.height for name in empty):
            raise pl.exceptions.ComputeError("the first value of a column")
        frame = with_durations(frame, durations)
        if any(is_code(frame[name], dtype) for name, dtype in numbers.items()):
            raise pl.exceptions.ComputeError("a code among the numbers")
        if any(not is_exact(frame[name], dtype) for name, dtype in numbers.items()):
            raise pl.exceptions.ComputeError("a number with more digits than its type holds")
        read = frame.with_columns(filled(name).cast(dtype) for name, dtype in numbers.items())
        fractions = (name for name, dtype in numbers.items() if dtype.is_float())
        if any(_is_beyond(frame[name], read[name]) for name in fractions):
            raise pl.exceptions.ComputeError("a number that the type of its column does not hold")
        return read

    def _check_times(self, content: bytes, schema: pl.Schema, guessed: list[str]) -> None:
        """Raise where another time may have been read than the text says.

        Such are those in columns that polars has ``guessed``, and seconds that a minute has not.
        """
        clocks = [name for name, dtype in schema.items() if dtype.base_type() in _CLOCKS]
        leaps = bool(clocks) and _SECOND_60.search(content) is not None
        if not guessed and not leaps:
            return
        strings = pl.Schema(dict.fromkeys(self._dialect.names, pl.String()))
        texts = self._read(content, schema=strings)
        dated = [name for name in guessed if isinstance(schema[name], pl.Datetime)]
        if any(map(is_doubtful, texts.select(guessed))) or any(map(has_date, texts.select(dated))):
            raise pl.exceptions.ComputeError("a time that is cut, or may be another")
        if leaps and any(map(has_leap_second, texts.select(clocks))):
            raise pl.exceptions.ComputeError("a leap second, which would be the next one")

    def _read(self, content: bytes, **options: Any) -> pl.DataFrame:
        if len(self._dialect.names) > 1:
            # polars takes a first line that is blank for one that lacks all but one value.
            content = content.lstrip(b"\r\n")
            if not content:
                strings = dict.fromkeys(self._dialect.names, pl.String())
                return pl.DataFrame(schema=options.get("schema", strings))
        return pl.read_csv(
            content,
            has_header=False,
            separator=self._dialect.delimiter,
            **{"try_parse_dates": True, **options},
        )


class _MisfitError(Exception):
    """A value does not fit the type of its column."""


def _is_well_quoted(content: bytes, delimiter: str) -> bool:
    """Whether values are in quotation marks whole or not at all."""
    if b'"' not in content:
        return True
    end = f"\\x{ord(delimiter):02x}"
    values = rf'\A(?:(?:"(?:[^"]|"")*"\r?|[^"{end}\n]*)[{end}\n])*\z'
    return bool(pl.Series([content.decode()]).str.contains(values).item())


def _is_beyond(texts: pl.Series, numbers: pl.Series) -> bool:
    """Whether one of ``texts``, as 1e400 or 1e-400, became infinite or zero as a number."""
    edge = numbers == 0
    if numbers.max() == math.inf or numbers.min() == -math.inf:
        edge |= numbers.is_infinite()
    return bool(edge.any()) and bool(texts.filter(edge).str.contains(_SOMETHING).any())
