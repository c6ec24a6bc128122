"""Outputs of cells: from nbformat's JSON to what an event says of them, bytes kept apart."""

import base64
import binascii
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from nbledger_domain.execution import Output, Representation
from nbledger_infrastructure.artifacts import ArtifactStore, Scope

#: JSON of an error output: ``ename``, ``evalue`` and ``traceback`` as nbformat has them.
ERROR_TYPE: Final = "application/vnd.jupyter.error"

#: Richest first; what is not named here comes before the plain forms at the end.
_ORDER: Final = (
    "text/html",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "application/pdf",
    "text/markdown",
    "text/latex",
    "application/json",
)
_LAST: Final = ("application/javascript", "text/plain")

_BINARY: Final = re.compile(r"(image/(?!svg\+xml)|audio/|video/|application/pdf$).*")
_JSON: Final = re.compile(r"application/(.*\+)?json$")
_DATA_FRAME: Final = re.compile(
    rb"""<table[^>]*\bclass=["'][^"']*\bdataframe\b|<table[^>]*\bid=["']T_[0-9a-f]+["']"""
)
_TERMINAL_CODES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_SVG_SIZE: Final = re.compile(rb"""\b(width|height)=["']([0-9.]+)(pt|px)?["']""")
_PIXELS_PER_POINT: Final = 4 / 3


async def keep(
    store: ArtifactStore, scope: Scope, outputs: Sequence[bytes], *, title: str | None
) -> list[Output]:
    """Store every form of the outputs (each the JSON of one nbformat 4 output).

    ``title`` goes to displays and results. Raises what the artifact store raises.
    """
    return [await _keep(store, scope, msgspec.json.decode(raw), title) for raw in outputs]


async def _keep(
    store: ArtifactStore, scope: Scope, output: Mapping[str, Any], title: str | None
) -> Output:
    kind = output["output_type"]
    forms = _forms(output)
    representations = [
        Representation(media_type, await store.put(scope, content), len(content))
        for media_type, content in forms
    ]
    if kind in ("stream", "error"):
        return Output(
            output_type=kind,
            representations=representations,
            stream=output.get("name") if kind == "stream" else None,
        )
    metadata = dict(output.get("metadata") or {})
    if any(media == "text/html" and _DATA_FRAME.search(content) for media, content in forms):
        metadata["dataFrame"] = True
    width, height = _dimensions(forms, metadata)
    return Output(
        output_type=kind,
        representations=representations,
        title=title,
        width=width,
        height=height,
        metadata=metadata,
    )


def plain(text: str) -> str:
    """The text without a terminal's colours."""
    return _TERMINAL_CODES.sub("", text)


def _forms(output: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """Media type and bytes of every form, richest first."""
    kind = output["output_type"]
    if kind == "stream":
        return [("text/plain", _text(output.get("text", "")))]
    if kind == "error":
        told = {name: output.get(name) for name in ("ename", "evalue", "traceback")}
        lines = "\n".join(plain(str(line)) for line in output.get("traceback") or [])
        text = lines or f"{output.get('ename')}: {output.get('evalue')}"
        return [("text/plain", _text(text)), (ERROR_TYPE, msgspec.json.encode(told))]
    data: Mapping[str, Any] = output.get("data") or {}
    forms = [(media_type, _content(media_type, value)) for media_type, value in data.items()]
    return sorted(forms, key=lambda form: _rank(form[0]))


def _rank(media_type: str) -> int:
    if media_type in _ORDER:
        return _ORDER.index(media_type)
    if media_type in _LAST:
        return len(_ORDER) + 1 + _LAST.index(media_type)
    return len(_ORDER)


def _content(media_type: str, value: Any) -> bytes:
    if _JSON.fullmatch(media_type):
        return msgspec.json.encode(value)
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "".join(value)
    if not isinstance(value, str):
        return msgspec.json.encode(value)
    if _BINARY.fullmatch(media_type):
        try:
            return base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            # Not what the kernel said it is; kept as it came.
            return _text(value)
    return _text(value)


def _text(value: Any) -> bytes:
    text = "".join(value) if isinstance(value, list) else str(value)
    return text.encode("utf-8", "replace")


def _dimensions(
    forms: Sequence[tuple[str, bytes]], metadata: Mapping[str, Any]
) -> tuple[int | None, int | None]:
    """Width and height in pixels of the first image: as told, else as in its header."""
    for media_type, content in forms:
        if not media_type.startswith("image/"):
            continue
        told = metadata.get(media_type)
        if isinstance(told, Mapping):
            width, height = _size(told.get("width")), _size(told.get("height"))
            if width and height:
                return width, height
        return _header_size(content) or (None, None)
    return None, None


def _size(value: Any) -> int | None:
    return round(value) if isinstance(value, int | float) and 0 < value < 1e6 else None


def _header_size(content: bytes) -> tuple[int, int] | None:
    if content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        return width, height
    if content.startswith((b"GIF87a", b"GIF89a")) and len(content) >= 10:
        width, height = struct.unpack("<HH", content[6:10])
        return width, height
    if content.startswith(b"\xff\xd8"):
        return _jpeg_size(content)
    start = content.find(b"<svg")
    if start >= 0:
        tag = content[start : content.find(b">", start)]
        sizes = {
            name: float(number) * (_PIXELS_PER_POINT if unit == b"pt" else 1)
            for name, number, unit in _SVG_SIZE.findall(tag)
            if number.count(b".") <= 1 and number != b"."
        }
        if len(sizes) == 2:
            return round(sizes[b"width"]), round(sizes[b"height"])
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
