"""Connections that are kept for a while, so that the next request to the same place is quick."""

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import httpcore

KEPT: Final = 64
KEPT_SECONDS: Final = 15.0

Connection = httpcore.AsyncConnectionPool
"""Of one connection: a pool of many looks at all of them at each request."""


class KeptConnections:
    """Connections that are not in use; whoever takes one gives it back where it still is good.

    ``connect`` makes one. Keys say where they lead to.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        # The oldest first.
        self._kept: OrderedDict[Connection, tuple[str, float]] = OrderedDict()
        self._by_key: dict[str, list[Connection]] = {}

    def take(self, key: str) -> Connection:
        """One that leads there, or a new one."""
        found = self._by_key.get(key)
        if not found:
            return self._connect()
        newest = found[-1]
        self._remove(newest)
        return newest

    async def give_back(self, key: str, connection: Connection) -> None:
        """Keep one, in place of those that are there for longest."""
        now = time.monotonic()
        self._kept[connection] = (key, now)
        self._by_key.setdefault(key, []).append(connection)
        while self._kept:
            oldest, (_, since) = next(iter(self._kept.items()))
            if len(self._kept) <= KEPT and since > now - KEPT_SECONDS:
                return
            self._remove(oldest)
            # It is none of those who have just been answered.
            with suppress(Exception):
                await oldest.aclose()

    async def aclose(self) -> None:
        """Close all that are kept."""
        while self._kept:
            oldest = next(iter(self._kept))
            self._remove(oldest)
            await oldest.aclose()

    def _remove(self, connection: Connection) -> None:
        key, _ = self._kept.pop(connection)
        others = self._by_key[key]
        others.remove(connection)
        if not others:
            del self._by_key[key]
