"""Steps awaited in a loop, of asyncio or trio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from nbledger_client.core.requests import Content, Request
from nbledger_client.core.steps import (
    Close,
    Do,
    Item,
    Items,
    Open,
    Player,
    Read,
    Received,
    Send,
    Sleep,
    Step,
    Steps,
    Stream,
)
from nbledger_client.core.transport import PIECE_BYTES, arguments, httpx, options, ours
from nbledger_client.errors import NbledgerError

T = TypeVar("T")

CLOSE_SECONDS = 5.0
"""How long a connection may take to be given up, also by who is cancelled."""


class Awaiting:
    """Performs steps with :class:`httpx.AsyncClient`; tasks of one loop may share it."""

    def __init__(self, url: str, http: httpx.AsyncClient | None = None) -> None:
        self._http = http or httpx.AsyncClient(**options(url))
        self._given = http is not None
        self._foreign: httpx.AsyncClient | None = self._http if self._given else None

    async def close(self) -> None:
        """Close the connections, but for those of a client that was given."""
        if not self._given:
            await self._http.aclose()
            if self._foreign is not None:
                await self._foreign.aclose()

    async def run(self, steps: Steps[T]) -> T:
        """The result of ``steps``."""
        player = Player(steps)
        try:
            while (step := player.next()) is not None:
                await self._play(player, step)
            return player.result
        finally:
            await self._end(player)

    async def iterate(self, items: Items[T]) -> AsyncGenerator[T, None]:
        """What ``items`` hands out."""
        player = Player(items)
        try:
            while (step := player.next()) is not None:
                if isinstance(step, Item):
                    yield step.value
                else:
                    await self._play(player, step)
        finally:
            await self._end(player)

    async def _play(self, player: Player[Any], step: Step | Item[Any]) -> None:
        try:
            player.found = await self._perform(step, player.streams)
        except NbledgerError as error:
            player.error = error

    @staticmethod
    async def _end(player: Player[Any]) -> None:
        player.close()
        if player.streams:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                for stream in player.streams:
                    await stream.response.aclose()

    async def _perform(self, step: Step | Item[Any], streams: list[Stream]) -> Any:
        match step:
            case Send():
                return await self._send(step.request)
            case Open():
                stream = await self._open(step.request)
                streams.append(stream)
                return stream
            case Read():
                with ours():
                    return await anext(step.stream.pieces, None)
            case Close():
                await step.stream.response.aclose()
                streams.remove(step.stream)
            case Sleep():
                await anyio.sleep(step.seconds)
            case Do():
                return await anyio.to_thread.run_sync(step.function)
            case Item():
                raise TypeError("An item is for who iterates.")
        return None

    async def _send(self, request: Request) -> Received:
        with ours(), arguments(request) as given:
            answer = await self._client(request).request(**_streamed(request, given))
        return Received(answer.status_code, answer.headers, answer.content)

    async def _open(self, request: Request) -> Stream:
        with ours(), arguments(request) as given:
            http = self._client(request)
            answer = await http.send(http.build_request(**_streamed(request, given)), stream=True)
        return Stream(answer.status_code, answer.headers, answer, answer.aiter_bytes())

    def _client(self, request: Request) -> httpx.AsyncClient:
        if not request.foreign:
            return self._http
        if self._foreign is None:
            self._foreign = httpx.AsyncClient()
        return self._foreign


def _streamed(request: Request, given: dict[str, Any]) -> dict[str, Any]:
    """A file as a body is read piece by piece, in a thread."""
    body = request.body
    if not isinstance(body, Content) or isinstance(body.source, bytes):
        return given
    size = str(body.source.stat().st_size)
    headers = {**given["headers"], "Content-Length": size}
    return {**given, "content": _pieces(body.source), "headers": headers}


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while piece := await file.read(PIECE_BYTES):
            yield piece
