"""Connecting to addresses that were checked, and to none else."""

import asyncio
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, cast

import httpcore

from nbledger_infrastructure.egress.addresses import Address, Reach, address_of

ADDRESS_SECONDS: Final = 5.0
"""So long an address is tried where the name has others: one network may lead nowhere."""


class AddressRefusedError(Exception):
    """A name resolves to no address that may be connected to."""


class NameUnknownError(Exception):
    """A name resolves to nothing."""


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses within ``reach``, which are looked at after the name was resolved.

    Up to ``resolvers`` names are resolved at a time, apart from all other threads of the process: a
    name that resolves slowly holds a thread for longer than its request takes.
    """

    def __init__(self, reach: Reach, resolvers: int) -> None:
        self._reach = reach
        # Without anyio httpcore has a class in its place that only tells so.
        self._inner = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())
        self._threads = ThreadPoolExecutor(resolvers, thread_name_prefix="resolve")

    def close(self) -> None:
        """Let go of the threads, without waiting for a name that resolves slowly."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address of ``host`` that may be connected to and answers."""
        *others, last = await self._acceptable(host, port)

        async def connect(address: Address, within: float | None) -> httpcore.AsyncNetworkStream:
            return await self._inner.connect_tcp(
                str(address),
                port,
                timeout=within,
                local_address=local_address,
                socket_options=socket_options,
            )

        for each in others:
            try:
                return await connect(each, ADDRESS_SECONDS)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await connect(last, timeout)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._inner.sleep(seconds)

    async def _acceptable(self, host: str, port: int) -> Sequence[Address]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except (OSError, UnicodeError) as error:
            raise NameUnknownError(f"{host}: {error}") from error
        addresses = dict.fromkeys(address_of(str(each[4][0])) for each in found)
        good = [each for each in addresses if self._reach.takes(each)]
        if not good:
            # Not which it is: names of inside would be resolved for whoever asks.
            raise AddressRefusedError(f"{host} has no address that may be connected to")
        return good
