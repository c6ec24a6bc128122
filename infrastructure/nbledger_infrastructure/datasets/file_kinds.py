"""Recognises files that are no CSV by how they begin, so that the refusal can name them."""

import codecs
import re
import zipfile
from pathlib import Path
from typing import Final

import msgspec

from nbledger_domain.errors import InvalidCsvError

_HEAD_BYTES: Final = 64 * 1024
_WHOLE_JSON_BYTES: Final = 1024 * 1024
"""A file up to this size that is JSON as a whole is recognised whatever it begins with."""

_CONVERT: Final = "convert it to CSV and upload that"
_UNPACK: Final = "unpack it and upload the CSV file in it, as it is or packed by gzip"
_SAVE_AS: Final = "save the sheet as CSV (UTF-8) and upload that"
_RENDERED: Final = "export the table behind it as CSV and upload that"

_MAGIC: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Microsoft Office file, as .xls", _SAVE_AS),
    (b"PAR1", "a Parquet file", _CONVERT),
    (b"ARROW1", "an Arrow or Feather file", _CONVERT),
    (b"\xff\xff\xff\xff\x10\x00\x00\x00", "an Arrow stream", _CONVERT),
    (b"ORC", "an ORC file", _CONVERT),
    (b"Obj\x01", "an Avro file", _CONVERT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _CONVERT),
    (b"SQLite format 3\0", "an SQLite database", "export a table of it as CSV and upload that"),
    (b"$FL2@", "an SPSS file", _CONVERT),
    (b"<stata_dta>", "a Stata file", _CONVERT),
    (b"RDX", "an R data file", "write the frame with write.csv and upload that"),
    (b"X\n\0\0\0", "an R data file", "write the frame with write.csv and upload that"),
    (b"{\\rtf1", "a Rich Text document", _RENDERED),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", _RENDERED),
    (b"\xff\xd8\xff", "a JPEG image", _RENDERED),
    (b"\x28\xb5\x2f\xfd", "packed by Zstandard", _UNPACK),
    (b"\x04\x22\x4d\x18", "packed by LZ4", _UNPACK),
    (b"\xfd7zXZ\0", "packed by xz", _UNPACK),
    (b"\x1f\x9d", "packed by compress", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
)
# Short signatures that a text might begin with, and what makes them certain.
_PATTERNS: Final[tuple[tuple[re.Pattern[bytes], str, str], ...]] = (
    (re.compile(rb"%PDF-\d\.\d"), "a PDF document", _RENDERED),
    (re.compile(rb"GIF8[79]a"), "a GIF image", _RENDERED),
    (re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), "packed by bzip2", _UNPACK),
    (re.compile(rb"\x80[\x02-\x05]"), "a pickle of Python", _CONVERT),
    (re.compile(rb".{257}ustar", re.DOTALL), "a TAR archive", _UNPACK),
)
_ZIPPED: Final[tuple[tuple[str, str, str], ...]] = (
    ("xl/", "an Excel workbook", _SAVE_AS),
    ("word/", "a Word document", _RENDERED),
    ("ppt/", "a PowerPoint presentation", _RENDERED),
    ("Index/", "an Apple Numbers or Pages document", _SAVE_AS),
)
_HTML: Final = re.compile(
    r"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|table|meta|script|style|div)\b",
    re.IGNORECASE | re.DOTALL,
)
_XML: Final = re.compile(r"\s*<\?xml\b")
_JSON: Final = re.compile(r'\s*(?:\[\s*)?(?:\{\s*(?:"(?:[^"\\\n]|\\.)*"\s*:|\})|\[\s*\[)')


def refuse_other_kinds(path: Path) -> None:
    """Raise :class:`InvalidCsvError` that names a file which is no CSV, and what to do instead."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    told = _binary(path, head) or _marked_up(path, head)
    if told is not None:
        what, instead = told
        raise InvalidCsvError(f"the file is no CSV, it is {what}: {instead}")


def kind_of_binary(head: bytes) -> str | None:
    """What a file is that begins with ``head``; ``None`` where that tells of no kind known here."""
    if head.startswith(b"\x1f\x8b"):
        return "packed by gzip"
    told = _by_signature(head)
    return None if told is None else told[0]


def _binary(path: Path, head: bytes) -> tuple[str, str] | None:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(path)
    return _by_signature(head)


def _by_signature(head: bytes) -> tuple[str, str] | None:
    for magic, what, instead in _MAGIC:
        if head.startswith(magic) and (not magic.isalnum() or b"\0" in head):
            return what, instead
    for pattern, what, instead in _PATTERNS:
        if pattern.match(head):
            return what, instead
    return None


def _zip(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for beginning, what, instead in _ZIPPED:
                if any(name.startswith(beginning) for name in names):
                    return what, instead
            if names[:1] == ["mimetype"] and "META-INF/manifest.xml" in names:
                return "an OpenDocument file, as .ods", _SAVE_AS
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a damaged ZIP archive or workbook", "upload the table as CSV"
    return "a ZIP archive", _UNPACK


def _marked_up(path: Path, head: bytes) -> tuple[str, str] | None:
    text = _text(head)
    if _HTML.match(text):
        return "an HTML page, perhaps one that asks for a log-in", _RENDERED
    if _XML.match(text):
        if re.search(r"urn:schemas-microsoft-com:office:spreadsheet", text):
            return "an Excel workbook as XML", _SAVE_AS
        if re.search(r"<html\b", text, re.IGNORECASE):
            return "an HTML page", _RENDERED
        return "an XML document", _CONVERT
    if _JSON.match(text) or _is_json(path, head):
        if '"nbformat"' in text or '"cells"' in text:
            return "a Jupyter notebook", "upload it as a notebook"
        return "JSON", "write its records as rows of a CSV file and upload that"
    return None


def _text(head: bytes) -> str:
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(mark):
            return head.decode(encoding, "replace")
    return head.decode("utf-8", "replace")


def _is_json(path: Path, head: bytes) -> bool:
    if head.lstrip()[:1] != b"[" or path.stat().st_size > _WHOLE_JSON_BYTES:
        return False
    try:
        return isinstance(msgspec.json.decode(path.read_bytes()), list)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
