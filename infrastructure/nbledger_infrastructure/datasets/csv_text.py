"""CSV as text: its encoding and delimiter, pieces of whole records, and where it is wrong."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from nbledger_domain.errors import InvalidCsvError
from nbledger_infrastructure.datasets.csv_dialect import (
    DELIMITERS,
    MAX_RECORD_BYTES,
    PIECE_BYTES,
    Dialect,
    Piece,
)
from nbledger_infrastructure.datasets.csv_header import named_columns

_SAMPLE_RECORDS = 200
_BLANK = re.compile(rb"^\r?\n", re.MULTILINE)
_DECLARED = re.compile(rb'"?sep=(?![\w"])([\t -~])"?\r?\n', re.IGNORECASE)
_ASCII = bytes(range(128))
_STRAYS = 10
"""Windows-1252 has, by chance, some pairs of bytes that are UTF-8, but ten times as many others."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# The standard library's reader refuses longer fields than 128 KiB, of which there may be some.
csv.field_size_limit(2 * MAX_RECORD_BYTES)


def detect(path: Path) -> Dialect:
    """How the file is written. Raises :class:`InvalidCsvError` for what has no good header."""
    encoding = _encoding(path)
    beginning = _sample(path, encoding)
    declared = _DECLARED.match(beginning)
    if declared is not None:
        beginning = beginning[declared.end() :]
    sample = beginning.decode(errors="ignore")
    if not sample.strip():
        raise InvalidCsvError("the file is empty")
    delimiter = _delimiter(sample) if declared is None else declared[1].decode()
    header = next((record for record in csv.reader(io.StringIO(sample), delimiter=delimiter)), [])
    names, nameless = named_columns(header)
    dialect = Dialect(encoding, delimiter, names, declared is not None, nameless)
    header_line = beginning[: _first_end(beginning)]
    if b'"' in header_line and (fault := find_fault(Piece(1, header_line), dialect)) is not None:
        raise fault
    return dialect


def rows_of(path: Path, size: int, *, most_parts: int) -> int:
    """How many rows have about this many bytes where rows are longest.

    As many as the file has in all, divided by ``most_parts``, if these are more. Lines are
    counted: values with several make it too many.
    """
    lines = []
    with path.open("rb", buffering=0) as file:
        while content := file.read(PIECE_BYTES):
            lines.append(content.count(b"\n"))
    window = max(size // PIECE_BYTES, 1)
    total = sum(lines)
    if len(lines) <= window:
        return total
    inside = fewest = sum(lines[:window])
    for leaves, comes in zip(lines, lines[window:], strict=False):
        inside += comes - leaves
        fewest = min(fewest, inside)
    return max(fewest, total // most_parts)


def pieces(  # noqa: C901 - a reader that is read best as one
    path: Path, dialect: Dialect, *, counted: bool = False
) -> Iterator[Piece]:
    """The records after the header. Raises :class:`InvalidCsvError` where one does not end.

    Counting records takes its time where there are quotes: without ``counted`` rows are wrong.
    """
    row, rest, header, declared = 1, b"", True, dialect.declared
    for text in _texts(path, dialect.encoding):
        rest += text
        if declared:
            rest, declared = rest[rest.find(b"\n") + 1 :], False
        cut = _last_end(rest)
        if not cut:
            if len(rest) > MAX_RECORD_BYTES:
                raise _endless(rest, row, dialect)
            continue
        content, rest = rest[:cut], rest[cut:]
        if header:
            content, row, header = content[_first_end(content) :], 2, False
        if content:
            yield Piece(row, content)
        if counted:
            row += _records(content)
    if rest:
        if rest.count(b'"') % 2:
            raise _endless(rest, row, dialect)
        if header:
            rest, row = rest[_first_end(rest) :], 2
        if rest:
            yield Piece(row, rest if rest.endswith(b"\n") else rest + b"\n")


def without_blank_lines(content: bytes) -> bytes:
    """``content`` without the lines that hold nothing; those inside quotes stay."""
    kept: list[bytes] = []
    begin, quotes, counted = 0, 0, 0
    for match in _BLANK.finditer(content):
        quotes += content.count(b'"', counted, match.start())
        counted = match.start()
        if quotes % 2 == 0:
            kept.append(content[begin : match.start()])
            begin = match.end()
    return b"".join([*kept, content[begin:]])


def is_even(content: bytes, dialect: Dialect) -> bool:
    """Whether every record has as many fields as the header."""
    width = len(dialect.names)
    if b'"' not in content:
        delimiter = dialect.delimiter.encode()
        lines = content.splitlines() if b"\r" in content else content.split(b"\n")
        return all(line.count(delimiter) == width - 1 for line in lines if line)
    reader = csv.reader(io.StringIO(content.decode(), newline=""), delimiter=dialect.delimiter)
    return all(len(record) == width for record in reader if record)


def find_fault(  # noqa: C901 - a state machine is read best as one
    piece: Piece, dialect: Dialect
) -> InvalidCsvError | None:
    """The first record of ``piece`` that is not as it should be, and why."""
    width, delimiter = len(dialect.names), dialect.delimiter
    row, field, quoted, begin = piece.row, 0, False, True
    text = piece.content.decode(errors="replace").replace("\r\n", "\n")
    position, blank = 0, True
    while position < len(text):
        character = text[position]
        position += 1
        if quoted:
            if character != '"':
                continue
            if text[position : position + 1] == '"':
                position += 1
                continue
            quoted = False
            if text[position : position + 1] not in ("", delimiter, "\n"):
                reason = "a quoted value goes on after its closing quotation mark"
                return _at(reason, row, field, dialect)
        elif character == '"':
            if not begin:
                reason = "a quotation mark inside a value that is not quoted"
                return _at(reason, row, field, dialect)
            quoted, begin, blank = True, False, False
        elif character == delimiter:
            field, begin, blank = field + 1, True, False
        elif character == "\n":
            if field != width - 1 and not blank:
                return _uneven(row, field + 1, dialect)
            row, field, begin, blank = row + 1, 0, True, True
        else:
            begin = blank = False
        if field >= width:
            fields = field + 1 + _more_fields(text[position:], delimiter)
            return _uneven(row, fields, dialect)
    return None


def _more_fields(text: str, delimiter: str) -> int:
    """How many more delimiters the record has that goes on with ``text``."""
    record = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    return max(len(record) - 1, 0)


def _uneven(row: int, fields: int, dialect: Dialect) -> InvalidCsvError:
    width = len(dialect.names)
    have = f"has {fields} field{'s' if fields != 1 else ''}, the header has {width}"
    return _at(have, row, min(fields, width), dialect)


def _at(reason: str, row: int, field: int, dialect: Dialect) -> InvalidCsvError:
    """A fault of the column with the index ``field``; the header may name fewer."""
    name = dialect.names[field] if field < len(dialect.names) else None
    return InvalidCsvError(reason, row=row, number=field + 1, name=name)


def _endless(content: bytes, row: int, dialect: Dialect) -> InvalidCsvError:
    """What is wrong with content that has no end of a record where there should be one."""
    fault = find_fault(Piece(row, content), dialect)
    if fault is not None:
        return fault
    records = list(
        csv.reader(io.StringIO(content.decode(errors="replace")), delimiter=dialect.delimiter)
    )
    reason = (
        "a quotation mark is not closed"
        if content.count(b'"') % 2
        else f"a row has more than {MAX_RECORD_BYTES:,} bytes"
    )
    return _at(reason, row + max(len(records) - 1, 0), len((records or [[""]])[-1]) - 1, dialect)


def _sample(path: Path, encoding: str) -> bytes:
    """The beginning of the file with the whole header."""
    sample = b""
    for text in _texts(path, encoding):
        sample += text
        declared = _DECLARED.match(sample)
        if _last_end(sample if declared is None else sample[declared.end() :]):
            break
        if len(sample) > MAX_RECORD_BYTES:
            raise InvalidCsvError(f"the header has more than {MAX_RECORD_BYTES:,} bytes", row=1)
    return sample


def _encoding(path: Path) -> str:
    """By the byte order mark; or UTF-8, when all of it is; or else Windows-1252.

    Raises :class:`InvalidCsvError` for UTF-8 with some bytes that are not.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        first = file.read(4)
        if first in {codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE}:
            raise InvalidCsvError("it is UTF-32, which is not read; UTF-8 is", row=1)
        for mark, encoding in _BOMS:
            if first.startswith(mark):
                return encoding
        file.seek(0)
        try:
            while content := file.read(PIECE_BYTES):
                if (nul := content.find(b"\0")) >= 0:
                    row = _row_of(path, file.tell() - len(content) + nul)
                    raise InvalidCsvError("a NUL byte: this is not text", row=row)
                decoder.decode(content)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            stray = file.tell() - len(error.object) + error.start
            if not _is_mostly_utf8(file):
                return _single_byte(file)
            byte = f"0x{error.object[error.start]:02X}"
            reason = f"the byte {byte} is not UTF-8, as other characters of the file are"
            raise InvalidCsvError(reason, row=_row_of(path, stray)) from None
    return "utf-8"


def _is_mostly_utf8(file: BinaryIO) -> bool:
    """Whether what is not ASCII is UTF-8, but for a few bytes."""
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")
    characters = strays = 0
    while content := file.read(PIECE_BYTES):
        others = content.translate(None, _ASCII)
        text = decoder.decode(content)
        ascii_bytes = len(content) - len(others)
        characters += len(text) - ascii_bytes
        strays += len(others) - (len(text.encode()) - ascii_bytes)
    return characters * _STRAYS >= strays


def _row_of(path: Path, offset: int, encoding: str = "utf-8") -> int:
    """The number of the record that the byte at ``offset`` is in."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    row, quoted, line_end = 1, 0, ""
    with path.open("rb") as file:
        while content := file.read(min(PIECE_BYTES, offset)):
            offset -= len(content)
            text = decoder.decode(content)
            if not line_end:
                line_end = "\r" if "\r" in text and "\n" not in text else "\n"
                row -= _DECLARED.match(text.replace(line_end, "\n").encode()) is not None
            parts = text.split('"')
            row += sum(part.count(line_end) for part in parts[quoted::2])
            quoted ^= (len(parts) - 1) % 2
    return row


def _single_byte(file: BinaryIO) -> str:
    """Windows-1252, unless there are bytes that mean nothing in it."""
    file.seek(0)
    unknown = bytes([0x81, 0x8D, 0x8F, 0x90, 0x9D])
    while content := file.read(PIECE_BYTES):
        if len(content.translate(None, unknown)) != len(content):
            return "latin-1"
    return "cp1252"


def _texts(path: Path, encoding: str) -> Iterator[bytes]:
    """The file in pieces of UTF-8, every end of a line with a line feed."""
    with path.open("rb", buffering=0) as file:
        decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)()
        only_returns: bool | None = None
        while True:
            content = file.read(PIECE_BYTES)
            last = not content
            if decoder is not None:
                try:
                    text = decoder.decode(content, final=last)
                except UnicodeDecodeError as error:
                    wrong = file.tell() - len(error.object) + error.start
                    reason = f"cannot be read as {encoding}: {error.reason}"
                    raise InvalidCsvError(reason, row=_row_of(path, wrong, encoding)) from None
                if (nul := text.find("\0")) >= 0:
                    rest = text[nul:].encode(encoding.removesuffix("-sig"))
                    begin = file.tell() - len(rest) - len(decoder.getstate()[0])
                    reason = "a NUL character: this is not text"
                    raise InvalidCsvError(reason, row=_row_of(path, begin, encoding))
                content = text.encode()
            if content:
                if only_returns is None:
                    only_returns = b"\r" in content and b"\n" not in content
                if only_returns:
                    content = content.replace(b"\r", b"\n")
                yield content
            if last:
                return


def _delimiter(sample: str) -> str:
    """The one that divides most records into as many fields as the header has."""

    def score(delimiter: str) -> tuple[float, int]:
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        lengths = [len(record) for record, _ in zip(reader, range(_SAMPLE_RECORDS), strict=False)]
        width = lengths[0] if lengths else 0
        # The last record may have been cut off.
        told = [length for length in lengths[:-1] or lengths if length]
        if width < 2 or not told:
            return 0.0, 0
        return sum(length == width for length in told) / len(told), width

    return max(DELIMITERS, key=score)


def _last_end(content: bytes) -> int:
    """Where the last whole record ends; 0 where none does."""
    end = content.rfind(b"\n")
    quotes = content.count(b'"', 0, end + 1)
    while end >= 0 and quotes % 2:
        before = content.rfind(b"\n", 0, end)
        quotes -= content.count(b'"', before + 1, end + 1)
        end = before
    return end + 1


def _first_end(content: bytes) -> int:
    """Where the first record ends."""
    end = content.find(b"\n")
    quotes = content.count(b'"', 0, end + 1)
    while end >= 0 and quotes % 2:
        after = content.find(b"\n", end + 1)
        quotes += content.count(b'"', end + 1, after + 1)
        end = after
    return end + 1 if end >= 0 else len(content)


def _records(content: bytes) -> int:
    """How many records, blank lines included; without quotes these are the lines."""
    if b'"' not in content:
        return content.count(b"\n")
    return sum(1 for _ in csv.reader(io.StringIO(content.decode(), newline="")))
