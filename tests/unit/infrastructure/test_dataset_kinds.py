"""What is uploaded in place of a plain CSV file: packed ones are read, others refused by name."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import polars as pl
import pytest

from nbledger_domain.errors import InvalidCsvError
from nbledger_infrastructure.datasets.ingest import Ingested, ingest_csv

_ROWS = 20_000
_CSV = b"id,name\n" + b"1,abcdefghijkl\n" * _ROWS
"""More than is read at once."""


def named(value: object) -> str:
    """Part of a test's id; packed bytes differ from second to second."""
    return "" if isinstance(value, bytes) else str(value)


def ingested(folder: Path, content: bytes, *, most_bytes: int = 9 << 20) -> Ingested:
    source = folder / "upload"
    source.write_bytes(content)
    return asyncio.run(ingest_csv(source, folder, most_bytes=most_bytes))


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return content.getvalue()


def parquet() -> bytes:
    content = io.BytesIO()
    pl.DataFrame({"a": [1]}).write_parquet(content)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (gzip.compress(_CSV), _ROWS),
        (gzip.compress(_CSV) + gzip.compress(b"2,b\n") + gzip.compress(b""), _ROWS + 1),
        (gzip.compress(_CSV) + bytes(1000), _ROWS),
        (gzip.compress("id;name\n1;ü\n".encode("utf-16")), 1),
    ],
    ids=["one member", "several members", "padded", "another encoding"],
)
def test_a_packed_file_is_read(tmp_path: Path, content: bytes, rows: int) -> None:
    made = ingested(tmp_path, content)
    assert (made.rows, made.compression) == (rows, "gzip")
    assert pl.read_parquet(made.path).schema == {"id": pl.Int64, "name": pl.String}
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (gzip.compress(_CSV)[:-9], "cut off"),
        (gzip.compress(_CSV) + gzip.compress(b"2,b\n")[:7], "cut off"),
        (gzip.compress(_CSV)[:2], "cut off"),
        (gzip.compress(_CSV)[:-8] + b"12345678", "damaged: incorrect data check"),
        (gzip.compress(_CSV) + b"2,b\n", "goes on with something else"),
        (gzip.compress(gzip.compress(_CSV)), "holds another one"),
        (gzip.compress(b""), "the file is empty"),
        (gzip.compress(b"a,b\n" + b"1,2\n" * 3_000_000, 1), "unpacks to more than 9 MB"),
        (gzip.compress(parquet()), "it is a Parquet file"),
        (gzip.compress(b"a,b\n1,2\n3\n"), r"row 3, column 2 \(\"b\"\)"),
    ],
    ids=named,
)
def test_a_packed_file_that_is_no_good_is_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(InvalidCsvError, match=reason):
        ingested(tmp_path, content)
    # No more is written than may be.
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 11_000_000


@pytest.mark.parametrize(
    ("content", "what", "instead"),
    [
        (zipped("a.csv"), "a ZIP archive", "unpack it"),
        (zipped("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook", "save the sheet"),
        (zipped("mimetype", "META-INF/manifest.xml"), "an OpenDocument file", "save the sheet"),
        (zipped("a.csv")[:40], "a damaged ZIP archive", "CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), r"as \.xls", "save the sheet"),
        (parquet(), "a Parquet file", "convert it to CSV"),
        (b"\n <!DOCTYPE html>\n<html><body>", "an HTML page", "export the table"),
        ("<html>".encode("utf-16"), "an HTML page", "export the table"),
        (b'<?xml version="1.0"?><rows/>', "an XML document", "convert it"),
        (b'[{"a": 1}]', "JSON", "rows of a CSV file"),
        (b'{\n  "a": 1\n}', "JSON", "rows of a CSV file"),
        (b'{"a": 1}\n{"a": 2}\n', "JSON", "rows of a CSV file"),
        (b'["a", "b"]', "JSON", "rows of a CSV file"),
        (b'{"cells": [], "nbformat": 4}', "a Jupyter notebook", "as a notebook"),
        (b"%PDF-1.7\n%\xe2\xe3\n", "a PDF document", "export the table"),
        (bz2.compress(_CSV), "packed by bzip2", "unpack it"),
        (lzma.compress(_CSV), "packed by xz", "unpack it"),
        (b"\x28\xb5\x2f\xfd" + bytes(10), "packed by Zstandard", "unpack it"),
        (b"a.csv" + bytes(252) + b"ustar", "a TAR archive", "unpack it"),
    ],
    ids=named,
)
def test_what_is_no_csv_is_refused_by_what_it_is(
    tmp_path: Path, content: bytes, what: str, instead: str
) -> None:
    with pytest.raises(InvalidCsvError, match=f"{what}.*: .*{instead}"):
        ingested(tmp_path, content)


@pytest.mark.parametrize("name", ["ORC", "RDX", "PAR1", "[a]", "{a}", "<a>", "BZh1", "%PDF-"])
def test_a_header_that_only_looks_like_another_kind_is_read(tmp_path: Path, name: str) -> None:
    made = ingested(tmp_path, f"{name},b\n1,2\n".encode())
    assert [column.name for column in made.columns] == [name, "b"]
