"""Steps performed in the thread that asks."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

from nbledger_client.core.requests import Request
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
from nbledger_client.core.transport import arguments, httpx, options, ours
from nbledger_client.errors import NbledgerError

T = TypeVar("T")


class Blocking:
    """Performs steps with :class:`httpx.Client`; threads may share it."""

    def __init__(self, url: str, http: httpx.Client | None = None) -> None:
        self._http = http or httpx.Client(**options(url))
        self._given = http is not None
        self._foreign: httpx.Client | None = self._http if self._given else None

    def close(self) -> None:
        """Close the connections, but for those of a client that was given."""
        if not self._given:
            self._http.close()
            if self._foreign is not None:
                self._foreign.close()

    def run(self, steps: Steps[T]) -> T:
        """The result of ``steps``."""
        player = Player(steps)
        try:
            while (step := player.next()) is not None:
                self._play(player, step)
            return player.result
        finally:
            self._end(player)

    def iterate(self, items: Items[T]) -> Generator[T, None, None]:
        """What ``items`` hands out."""
        player = Player(items)
        try:
            while (step := player.next()) is not None:
                if isinstance(step, Item):
                    yield step.value
                else:
                    self._play(player, step)
        finally:
            self._end(player)

    def _play(self, player: Player[Any], step: Step | Item[Any]) -> None:
        try:
            player.found = self._perform(step, player.streams)
        except NbledgerError as error:
            player.error = error

    @staticmethod
    def _end(player: Player[Any]) -> None:
        player.close()
        for stream in player.streams:
            stream.response.close()

    def _perform(self, step: Step | Item[Any], streams: list[Stream]) -> Any:
        match step:
            case Send():
                return self._send(step.request)
            case Open():
                stream = self._open(step.request)
                streams.append(stream)
                return stream
            case Read():
                with ours():
                    return next(step.stream.pieces, None)
            case Close():
                step.stream.response.close()
                streams.remove(step.stream)
            case Sleep():
                time.sleep(step.seconds)
            case Do():
                return step.function()
            case Item():
                raise TypeError("An item is for who iterates.")
        return None

    def _send(self, request: Request) -> Received:
        with ours(), arguments(request) as given:
            answer = self._client(request).request(**given)
        return Received(answer.status_code, answer.headers, answer.content)

    def _open(self, request: Request) -> Stream:
        with ours(), arguments(request) as given:
            http = self._client(request)
            answer = http.send(http.build_request(**given), stream=True)
        return Stream(answer.status_code, answer.headers, answer, answer.iter_bytes())

    def _client(self, request: Request) -> httpx.Client:
        if not request.foreign:
            return self._http
        if self._foreign is None:
            self._foreign = httpx.Client()
        return self._foreign
