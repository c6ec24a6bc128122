"""How many connections a witness holds, of one client and of all.

One that waits for its next request makes room for another one. So neither a client that opens many
nor a proxy that keeps many open keeps others out.
"""

import asyncio
import ipaddress
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import msgspec


class HeldConnection(msgspec.Struct, eq=False):
    """A connection: the task that serves it, whose it is, and since when it waits for a request.

    ``idle_since`` is None while a request is answered.
    """

    task: asyncio.Task[None]
    client: str
    idle_since: float | None


class ClientConnections:
    """The connections that are open: at most ``most``, and ``most_of_one`` of one client."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._held: set[HeldConnection] = set()
        self._ending: set[asyncio.Task[None]] = set()

    @contextmanager
    def held(self, task: asyncio.Task[None], address: object) -> Iterator[HeldConnection | None]:
        """Hold a connection for the block; None where there is no room, nor any to be made."""
        new = HeldConnection(task, client_of(address), asyncio.get_running_loop().time())
        own = [each for each in self._held if each.client == new.client]
        if len(own) >= self._most_of_one:
            room = self._end_idle(own)
        else:
            room = len(self._held) < self._most or self._end_idle(self._held)
        if not room:
            yield None
            return
        self._held.add(new)
        try:
            yield new
        finally:
            self._held.discard(new)
            self._ending.discard(task)

    async def close(self) -> None:
        """End all connections."""
        tasks = [each.task for each in self._held] + list(self._ending)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end_idle(self, among: Collection[HeldConnection]) -> bool:
        """End the connection that waits for the longest time; whether there was one.

        It is one of whoever holds most.
        """
        counts: dict[str, int] = {}
        for each in self._held:
            counts[each.client] = counts.get(each.client, 0) + 1
        idle = [each for each in among if each.idle_since is not None]
        if not idle:
            return False
        ended = min(idle, key=lambda each: (-counts[each.client], each.idle_since or 0.0))
        self._held.discard(ended)
        self._ending.add(ended.task)
        ended.task.cancel()
        return True


def client_of(address: object) -> str:
    """Whom a peer's address belongs to: of IPv6 a network of 64 bits is one client's."""
    host = str(address[0]) if isinstance(address, tuple) and address else ""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
