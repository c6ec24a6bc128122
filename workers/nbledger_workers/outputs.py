"""Outputs of cells: from nbformat's JSON to what an event says of them, bytes kept apart."""

import asyncio
import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from nbledger_domain.execution import Output, Representation
from nbledger_infrastructure.artifacts import ArtifactStore, Scope
from nbledger_workers.kernel.forms import forms

_DATA_FRAME: Final = re.compile(
    # Nothing that goes on beyond the next tag: of many that are not closed each would be read to
    # the end.
    rb"""<table[^<>]*\bclass=["'][^"'<]*\bdataframe\b|<table[^<>]*\bid=["']T_[0-9a-f]+["']"""
)
_SVG_SIZE: Final = re.compile(rb"""\b(width|height)=["']([0-9.]+)(pt|px)?["']""")
_PIXELS_PER_POINT: Final = 4 / 3

# As many writes at once to the artifact store, for one run.
_WRITERS: Final = 8
# Smaller outputs are taken apart faster than another thread is asked to.
_SMALL_BYTES: Final = 32_768
# Digests of what was stored lately, so that outputs that come again are not written again.
_REMEMBERED: Final = 5_000

_Contents = list[tuple[str, bytes]]


class OutputKeeper:
    """Stores the outputs of one run in the artifact store of its notebook.

    Raises what the artifact store raises.
    """

    def __init__(self, store: ArtifactStore, scope: Scope) -> None:
        self._store = store
        self._scope = scope
        self._stored: dict[str, None] = {}
        self._texts: dict[tuple[int, int], _Text] = {}

    async def add_part(self, place: int, number: int, data: bytes) -> None:
        """Store the next part of the long text of this number of the cell at ``place``."""
        digest = await asyncio.to_thread(_sha256, data)
        text = self._texts.setdefault((place, number), _Text())
        await asyncio.to_thread(text.digest.update, data)
        text.parts.append(digest)
        text.size += len(data)
        await self._put(digest, data)

    async def keep(self, place: int, raw: Sequence[bytes], *, title: str | None) -> list[Output]:
        """Store every form of the outputs (each the JSON of one nbformat 4 output).

        ``place`` is that of the cell. ``title`` goes to displays and results.
        """
        if sum(map(len, raw)) < _SMALL_BYTES:
            found = self._take_apart(place, raw, title)
        else:
            found = await asyncio.to_thread(self._take_apart, place, raw, title)
        outputs, contents, texts = found
        waiting = iter(contents)

        async def write() -> None:
            for digest, content in waiting:
                await self._put(digest, content)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_WRITERS, len(contents))):
                group.create_task(write())
        for digest, parts in texts:
            if digest not in self._stored:
                await self._store.put_joined(self._scope, digest, parts)
                self._remember(digest)
        return outputs

    def forget(self, place: int) -> None:
        """The texts of this cell do not go on."""
        for key in [key for key in self._texts if key[0] == place]:
            del self._texts[key]

    async def _put(self, digest: str, content: bytes) -> None:
        if digest not in self._stored:
            await self._store.put(self._scope, content, digest=digest)
            self._remember(digest)

    def _remember(self, digest: str) -> None:
        self._stored[digest] = None
        if len(self._stored) > _REMEMBERED:
            del self._stored[next(iter(self._stored))]

    def _take_apart(
        self, place: int, raw: Sequence[bytes], title: str | None
    ) -> tuple[list[Output], _Contents, list[tuple[str, list[str]]]]:
        """The outputs as events have them, and by digest the contents and joined texts."""
        outputs: list[Output] = []
        contents: _Contents = []
        texts: list[tuple[str, list[str]]] = []
        for each in raw:
            output: dict[str, Any] = msgspec.json.decode(each)
            found = [(kind, _sha256(content), content) for kind, content in forms(output)]
            contents += [(digest, content) for _, digest, content in found]
            told = [Representation(kind, digest, len(content)) for kind, digest, content in found]
            number = output.get("parts")
            if number is not None:
                text = self._texts[place, number]
                ((kind, digest, content),) = found
                whole = text.digest.copy()
                whole.update(content)
                told = [Representation(kind, whole.hexdigest(), text.size + len(content))]
                texts.append((told[0].digest, [*text.parts, digest]))
            outputs.append(_output(output, told, found, title))
        return outputs, contents, texts


class _Text:
    """The parts so far of one long text."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.parts: list[str] = []
        self.size = 0


def _output(
    output: Mapping[str, Any],
    representations: list[Representation],
    found: Sequence[tuple[str, str, bytes]],
    title: str | None,
) -> Output:
    kind = output["output_type"]
    if kind in ("stream", "error"):
        return Output(
            output_type=kind,
            representations=representations,
            stream=output.get("name") if kind == "stream" else None,
        )
    metadata = dict(output.get("metadata") or {})
    if any(media == "text/html" and _DATA_FRAME.search(content) for media, _, content in found):
        metadata["dataFrame"] = True
    width, height = _dimensions(found, metadata)
    return Output(
        output_type=kind,
        representations=representations,
        title=title,
        width=width,
        height=height,
        metadata=metadata,
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _dimensions(
    found: Sequence[tuple[str, str, bytes]], metadata: Mapping[str, Any]
) -> tuple[int | None, int | None]:
    """Width and height in pixels of the first image: as told, else as in its header."""
    for media_type, _, content in found:
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
            width, height = _size(sizes[b"width"]), _size(sizes[b"height"])
            return None if width is None or height is None else (width, height)
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
