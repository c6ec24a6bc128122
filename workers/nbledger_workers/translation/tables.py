"""Tables among outputs: whether HTML is one, and how large."""

from __future__ import annotations

import csv
import io
import re
from typing import Any, Final

import msgspec

DATA_RESOURCE: Final = "application/vnd.dataresource+json"

# No tag is looked for beyond the next "<": else what holds many that never end would be read again
# for each of them.
# As pandas, polars and R mark their data frames; the second is a Styler's.
_DATA_FRAME: Final = re.compile(
    rb"""<table[^<>]*\bclass=["'][^"'<]*\bdataframe\b|<table[^<>]*\bid=["']T_[0-9a-f]+["']"""
)
# What may stand before a table that is all there is of an output.
_BEFORE: Final = re.compile(
    rb"""\s+|<style\b[^<>]*>[^<]*</style>|<(?:div|center|section)\b[^<>]*>"""
    rb"""|<(p|h[1-6]|small|b|strong)\b[^<>]*>[^<]*</\1>|<!--[^>]*-->"""
)
_TABLE: Final = re.compile(rb"<table\b[^<>]*>")
# Tables of figures about a model, laid out in pairs of columns.
_NO_DATA: Final = re.compile(rb"""\bclass=["'][^"'<]*\b(?:simpletable|parameters-table)\b""")
_BY: Final = "(?:\N{MULTIPLICATION SIGN}|&times;|x)".encode()
_TOLD: Final = (
    re.compile(rb"<p>\s*([\d,_]+) rows " + _BY + rb" ([\d,_]+) columns?\s*</p>"),
    re.compile(rb"<small>shape: \(([\d,_]+), ([\d,_]+)\)</small>"),
    re.compile(rb"<caption>An? [\w.]+: ([\d,_]+) " + _BY + rb" ([\d,_]+)</caption>"),
)
_HEADING_CELL: Final = re.compile(rb"<th\b[^<>]*>\s*[^\s<]")
_MAX_TEXT_BYTES: Final = 20_000_000


class Table(msgspec.Struct, frozen=True):
    """A table: how many rows of data it has, and how many columns, where that can be told."""

    rows: int | None
    columns: int | None


def find_table(media_type: str, content: bytes) -> Table | None:
    """The table that an output of this media type shows, if it shows one."""
    if media_type == "text/html":
        return _in_html(content)
    if media_type in ("text/csv", "text/tab-separated-values"):
        return _in_text(content, "," if media_type == "text/csv" else "\t")
    if media_type == DATA_RESOURCE:
        return _in_data_resource(content)
    return None


def _in_html(content: bytes) -> Table | None:
    marked = _DATA_FRAME.search(content)
    start = marked.start() if marked else _only_table(content)
    if start is None:
        return None
    for told in _TOLD:
        if found := told.search(content):
            return Table(_number(found[1]), _number(found[2]))
    end = content.find(b"</table", start)
    return _counted(content[start : end if end >= 0 else len(content)])


def _only_table(content: bytes) -> int | None:
    """Where a table with headings begins, before which there is nothing but wrapping."""
    at = 0
    while before := _BEFORE.match(content, at):
        at = before.end()
    table = _TABLE.match(content, at)
    if table is None or _NO_DATA.search(table[0]) or content.find(b"<th", table.end()) < 0:
        return None
    return at


def _counted(table: bytes) -> Table:
    body = table.find(b"<tbody")
    head = table[:body] if body >= 0 else b""
    rows = [row for row in table[max(body, 0) :].split(b"<tr")[1:] if b"<td" in row]
    if rows:
        return Table(len(rows), rows[0].count(b"<td"))
    # Of a table without rows its headings tell; that of the index is empty.
    heading = head.partition(b"<tr")[2].partition(b"</tr")[0]
    return Table(0, len(_HEADING_CELL.findall(heading)) or None)


def _in_text(content: bytes, delimiter: str) -> Table | None:
    if len(content) > _MAX_TEXT_BYTES:
        return Table(None, None)
    lines = csv.reader(io.StringIO(content.decode("utf-8", "replace")), delimiter=delimiter)
    try:
        heading = next(lines, None)
        return None if heading is None else Table(sum(1 for line in lines if line), len(heading))
    except csv.Error:
        return Table(None, None)


class _Schema(msgspec.Struct, frozen=True):
    fields: list[Any] = []
    # What pandas calls the columns of its index.
    primary_key: list[str] | str | None = msgspec.field(name="primaryKey", default=None)


class _DataResource(msgspec.Struct, frozen=True):
    schema: _Schema = _Schema()


_decode_resource = msgspec.json.Decoder(_DataResource).decode


def _in_data_resource(content: bytes) -> Table:
    try:
        schema = _decode_resource(content).schema
    except msgspec.MsgspecError:
        return Table(None, None)
    key = schema.primary_key
    index = 0 if key is None else 1 if isinstance(key, str) else len(key)
    # Only the rows that were to be shown are in it: their number says nothing.
    return Table(None, max(len(schema.fields) - index, 0))


def _number(digits: bytes) -> int | None:
    plain = digits.replace(b",", b"").replace(b"_", b"")
    return int(plain) if plain and len(plain) < 16 else None
