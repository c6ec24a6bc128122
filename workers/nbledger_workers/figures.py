"""What figures say of themselves: their title and their size."""

from __future__ import annotations

import html
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

_PIXELS_PER_POINT: Final = 4 / 3
_SVG_SIZE: Final = re.compile(rb"""\b(width|height)=["']([0-9.]+)(pt|px)?["']""")
_SVG_TITLE: Final = re.compile(rb"<title\b[^<>]*>([^<]{1,1000})</title>")
_CAPTION: Final = re.compile(rb"<caption\b[^<>]*>([^<]{1,1000})</caption>")
_SIZE_IN_CAPTION: Final = re.compile(r"An? [\w.]+: \d+ . \d+\Z")
_TAG: Final = re.compile(r"<[^<>]*>")
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_HEAD_BYTES: Final = 65_536
_MAX_TITLE: Final = 200

Forms = Sequence[tuple[str, bytes]]


class _Layout(msgspec.Struct, frozen=True):
    title: Any = None
    width: Any = None
    height: Any = None


class _Plotly(msgspec.Struct, frozen=True):
    layout: _Layout = _Layout()


_decode_plotly = msgspec.json.Decoder(_Plotly).decode
_decode_vega = msgspec.json.Decoder(_Layout).decode


def title(forms: Forms, metadata: Mapping[str, Any]) -> str | None:
    """The title that an output gives itself: in its metadata, chart or picture, or as caption."""
    return _clean(metadata.get("title")) or next(
        (found for media_type, content in forms if (found := _own_title(media_type, content))),
        None,
    )


def size(forms: Forms, metadata: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Width and height in pixels of the first picture or chart that tells them."""
    for media_type, content in forms:
        told = metadata.get(media_type)
        if isinstance(told, Mapping):
            width, height = _pixels(told.get("width")), _pixels(told.get("height"))
            if width and height:
                return width, height
        found: tuple[int, int] | None = None
        if media_type.startswith("image/"):
            found = _picture_size(content)
        elif layout := _layout(media_type, content):
            width, height = _pixels(layout.width), _pixels(layout.height)
            found = (width, height) if width and height else None
        if found is not None:
            return found
    return None, None


def _own_title(media_type: str, content: bytes) -> str | None:
    if media_type == "image/png":
        return next((_clean(text) for name, text in _png_texts(content) if name == b"Title"), None)
    if media_type == "image/svg+xml":
        found = _SVG_TITLE.search(content[:_HEAD_BYTES])
        return _clean(found[1].decode("utf-8", "replace")) if found else None
    if media_type == "text/html":
        found = _CAPTION.search(content[:_HEAD_BYTES])
        text = _clean(found[1].decode("utf-8", "replace")) if found else None
        return None if text is None or _SIZE_IN_CAPTION.match(text) else text
    layout = _layout(media_type, content)
    return None if layout is None else _clean(layout.title)


def _layout(media_type: str, content: bytes) -> _Layout | None:
    try:
        if media_type.startswith("application/vnd.plotly."):
            return _decode_plotly(content).layout
        if media_type.startswith(("application/vnd.vega.", "application/vnd.vegalite.")):
            return _decode_vega(content)
    except (msgspec.MsgspecError, RecursionError):
        pass
    return None


def _clean(told: Any) -> str | None:
    """One line of plain text, from a title as charts have it: text, lines, or an object."""
    if isinstance(told, Mapping):
        told = told.get("text")
    if isinstance(told, list):
        told = " ".join(str(line) for line in told if isinstance(line, str | int | float))
    if not isinstance(told, str):
        return None
    text = html.unescape(_TAG.sub(" ", told[: 5 * _MAX_TITLE]))
    return " ".join(text.split())[:_MAX_TITLE] or None


def _png_texts(content: bytes) -> Iterator[tuple[bytes, str]]:
    """Names and values of the texts before a PNG's pixels."""
    at = len(_PNG)
    while content.startswith(_PNG) and at + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        if kind == b"IDAT":
            return
        data = content[at + 8 : at + 8 + length]
        if kind == b"tEXt":
            name, _, text = data.partition(b"\0")
            yield name, text.decode("latin-1")
        elif kind == b"iTXt" and data.partition(b"\0")[2][:1] == b"\0":  # not compressed
            name, _, rest = data.partition(b"\0")
            yield name, rest[2:].split(b"\0", 2)[-1].decode("utf-8", "replace")
        at += length + 12


def _pixels(value: Any) -> int | None:
    return round(value) if isinstance(value, int | float) and 0 < value < 1e6 else None


def _picture_size(content: bytes) -> tuple[int, int] | None:
    if content.startswith(_PNG) and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return width, height
    if content.startswith((b"GIF87a", b"GIF89a")) and len(content) >= 10:
        width, height = struct.unpack("<HH", content[6:10])
        return width, height
    if content.startswith(b"\xff\xd8"):
        return _jpeg_size(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return _webp_size(content)
    start = content.find(b"<svg")
    if start >= 0:
        tag = content[start : content.find(b">", start)]
        sizes = {
            name: float(number) * (_PIXELS_PER_POINT if unit == b"pt" else 1)
            for name, number, unit in _SVG_SIZE.findall(tag)
            if number.count(b".") <= 1 and number != b"."
        }
        width, height = _pixels(sizes.get(b"width")), _pixels(sizes.get(b"height"))
        if width and height:
            return width, height
    return None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        # The frame headers: C0 to CF, without the three that define tables.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        at += 2 + int(struct.unpack(">H", content[at + 2 : at + 4])[0])
    return None


def _webp_size(content: bytes) -> tuple[int, int] | None:
    """Of the three kinds of WebP the lossy, the lossless and the extended one, in this order."""
    kind = content[12:16]
    if kind == b"VP8 " and len(content) >= 30:
        width, height = struct.unpack("<HH", content[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(content) >= 25:
        bits = int.from_bytes(content[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X" and len(content) >= 30:
        width = int.from_bytes(content[24:27], "little") + 1
        return width, int.from_bytes(content[27:30], "little") + 1
    return None
