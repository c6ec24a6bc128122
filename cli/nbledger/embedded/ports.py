"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

from nbledger.embedded.errors import ServiceFailedError

LOOPBACK = "127.0.0.1"
_ATTEMPTS = 3

_Service = TypeVar("_Service")


async def start_on_port(
    name: str, port: int, start: Callable[[int], Awaitable[_Service]]
) -> _Service:
    """Start a service that cannot choose a port itself.

    Args:
        name: the service's name, for the error.
        port: the port to use; 0 takes a free one, and another if it is lost to somebody meanwhile.
        start: starts the service on a port; leaves nothing behind when it fails.

    Raises:
        ServiceFailedError: as `start` raised it, or the port is taken.
    """
    chosen = port
    for _ in range(_ATTEMPTS):
        chosen = port or free_port()
        if is_taken(chosen):
            continue
        try:
            return await start(chosen)
        except ServiceFailedError:
            if not is_taken(chosen):
                raise
    raise ServiceFailedError(name, f"cannot listen: port {chosen} is taken")


def free_port() -> int:
    """A port nobody listens on now. Another process may take it before its user does: retry."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_taken(port: int) -> bool:
    """Whether somebody listens on the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
        return False
