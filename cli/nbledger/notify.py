"""Telling a supervisor that a process is ready, in the protocol of systemd's sd_notify(3).

``nbledger up`` listens to its children this way; under systemd ``Type=notify`` works as well.
"""

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

SOCKET_VARIABLE = "NOTIFY_SOCKET"


def notify_ready(**details: str) -> None:
    """Say that this process is ready, with ``details`` as ``X_NAME=value``.

    Does nothing where nobody has asked to be told.
    """
    address = os.environ.get(SOCKET_VARIABLE)
    if not address:
        return
    lines = ["READY=1", *(f"X_{name.upper()}={value}" for name, value in details.items())]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        sender.send("\n".join(lines).encode())


class Listener(asyncio.DatagramProtocol):
    """Hears one child: ``ready`` resolves with the details it sent."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 (protocol)
        """Take one message."""
        fields: dict[str, str] = {}
        for line in data.decode().splitlines():
            name, _, value = line.partition("=")
            fields[name] = value
        if fields.get("READY") == "1" and not self.ready.done():
            self.ready.set_result(
                {
                    name.removeprefix("X_").lower(): value
                    for name, value in fields.items()
                    if name.startswith("X_")
                }
            )


@asynccontextmanager
async def sockets() -> AsyncIterator[Callable[[str], Path]]:
    """A private folder for notification sockets; call what you get with a child's name."""
    with tempfile.TemporaryDirectory(prefix="nbl-") as folder:
        yield lambda name: Path(folder) / name


@asynccontextmanager
async def listen(path: Path) -> AsyncIterator[Listener]:
    """Listen at ``path`` (a socket path holds at most 107 bytes)."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setblocking(False)
    try:
        receiver.bind(str(path))
    except OSError:
        receiver.close()
        raise
    transport, listener = await asyncio.get_running_loop().create_datagram_endpoint(
        Listener, sock=receiver
    )
    try:
        yield listener
    finally:
        transport.close()
        listener.ready.cancel()
        os.unlink(path)  # noqa: PTH108 (not worth a thread)
