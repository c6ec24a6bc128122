"""What figures say of themselves: their title and their size."""

from __future__ import annotations

import html
import io
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import imagesize
import msgspec

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
            found = _picture_size(media_type, content)
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


def _picture_size(media_type: str, content: bytes) -> tuple[int, int] | None:
    if media_type == "image/svg+xml":
        # Of what comes before it, comments may be longer than what is looked at.
        content = content[max(content.find(b"<svg"), 0) :]
    width, height = map(_pixels, imagesize.get(io.BytesIO(content)))
    return (width, height) if width and height else None
