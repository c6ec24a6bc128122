"""Outputs of cells: from nbformat's JSON to what an event says of them, bytes kept apart."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from nbledger_domain.execution import Output, Representation
from nbledger_domain.not_kept import NotKept
from nbledger_domain.vocabulary.outputs import TABLE_MEMBER, TEXT_OUTPUTS
from nbledger_infrastructure.artifacts.store import Scope
from nbledger_workers.kernel.outputs.forms import forms
from nbledger_workers.storing.spool import Spool
from nbledger_workers.translation import images
from nbledger_workers.translation.tables import find_table

# As many writes at once to the artifact store, for one run.
_WRITERS: Final = 8
# Smaller outputs are taken apart faster than another thread is asked to.
_SMALL_BYTES: Final = 32_768
# Digests of what was stored lately, so that outputs that come again are not written again.
_REMEMBERED: Final = 5_000

_Contents = list[tuple[str, bytes]]


class OutputKeeper:
    """Stores the outputs of one run in the artifact store of its notebook."""

    def __init__(self, store: Spool, scope: Scope) -> None:
        self._store = store
        self._scope = scope
        self._stored: dict[str, None] = {}
        self._texts: dict[tuple[int, int], _Text] = {}
        # The cell that has finished last, where nothing in it may change but by what comes late.
        self._fixed: int | None = None

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

        ``place`` is that of the cell. ``title`` goes to displays and results that have none.
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

    def is_lost(self, digest: str) -> bool:
        """Whether the artifact store was away too long for it."""
        return self._store.is_lost(digest)

    def stored(self, outputs: Sequence[Output]) -> list[Output]:
        """What of these can be read: outputs, and forms of them, that are not lost."""
        lost = self._store.is_lost
        if not any(lost(form.digest) for output in outputs for form in output.representations):
            return list(outputs)
        left = []
        for output in outputs:
            forms = [form for form in output.representations if not lost(form.digest)]
            if forms:
                left.append(msgspec.structs.replace(output, representations=forms))
        return left

    async def put(self, content: bytes, media_type: str) -> Representation:
        """Store what belongs to no cell."""
        digest = await self._store.put(self._scope, content)
        return Representation(media_type, digest, len(content))

    def forget(self, place: int, raw: Sequence[bytes]) -> None:
        """Forget texts of a finished cell, whose last outputs these are.

        Those that were cleared are not asked for again. Where nothing is displayed that a later
        cell might change, the others are once the next cell has finished: output of this one may
        come until then.
        """
        if self._fixed is not None:
            self._drop(self._fixed, set())
            self._fixed = None
        if not any(key[0] == place for key in self._texts):
            return
        outputs = [msgspec.json.decode(each, type=_Head) for each in raw]
        if all(each.output_type in TEXT_OUTPUTS for each in outputs):
            self._fixed = place
        self._drop(place, {each.parts for each in outputs})

    def _drop(self, place: int, kept: set[int | None]) -> None:
        for key in [key for key in self._texts if key[0] == place and key[1] not in kept]:
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


class _Head(msgspec.Struct):
    """What an output is, and the number of the long text that it ends."""

    output_type: str
    parts: int | None = None


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
    gap = output.get("notKeptBefore")
    not_kept = None if gap is None else msgspec.convert(gap, NotKept)
    if kind in TEXT_OUTPUTS:
        return Output(
            output_type=kind,
            not_kept_before=not_kept,
            representations=representations,
            stream=output.get("name") if kind == "stream" else None,
        )
    metadata = dict(output.get("metadata") or {})
    # Only we say so.
    metadata.pop(TABLE_MEMBER, None)
    contents = [(media_type, content) for media_type, _, content in found]
    tables = [
        table for media_type, content in contents if (table := find_table(media_type, content))
    ]
    if tables:
        metadata[TABLE_MEMBER] = True
    width, height = images.size(contents, metadata)
    return Output(
        output_type=kind,
        representations=representations,
        title=images.title(contents, metadata) or title,
        width=width,
        height=height,
        rows=next((table.rows for table in tables if table.rows is not None), None),
        columns=next((table.columns for table in tables if table.columns is not None), None),
        metadata=metadata,
        not_kept_before=not_kept,
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
