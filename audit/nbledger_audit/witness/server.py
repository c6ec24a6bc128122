"""The witness over HTTP, with limits on what one client and all of them can take.

h11 parses, asyncio carries. TLS is for whatever stands before it, as with other witnesses.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import h11
import structlog

from nbledger_audit.witness.connections import ClientConnections, HeldConnection
from nbledger_audit.witness.cosigner import Cosigner, WitnessAnswer

log = structlog.get_logger(__name__)

MOST_BODY_BYTES: Final = 131_072
"""Of a request: 63 hashes, and a checkpoint with 16 signatures of the largest kind."""

MOST_HEADER_BYTES: Final = 16_384
MOST_CONNECTIONS: Final = 64
MOST_OF_ONE_CLIENT: Final = 16
"""Connections of one address, or of one IPv6 network of 64 bits."""

IDLE_SECONDS: Final = 10.0
"""How long a connection may wait for the head of its next request."""

REQUEST_SECONDS: Final = 10.0
"""How long the rest of a request may take to arrive, and its answer to leave."""

REQUESTS_PER_SECOND: Final = 200.0
"""What all clients together may ask, with as many at once."""

_READ_BYTES: Final = 16_384
_HEADERS: Final = {
    405: [("Allow", "GET, POST")],
    413: [("Connection", "close")],
    429: [("Retry-After", "1")],
}
_CHECKPOINT: Final = re.compile(r"/([0-9a-f]{64})/checkpoint")


async def serve(
    cosigner: Cosigner, host: str, port: int, stop: asyncio.Event, on_ready: Callable[[int], None]
) -> None:
    """Serve until ``stop`` is set; ``on_ready`` gets the port. Raises ``OSError``."""
    with ThreadPoolExecutor(1, "cosigner") as executor:
        service = _Service(cosigner, executor)
        server = await asyncio.start_server(service.connection, host, port, limit=_READ_BYTES)
        on_ready(server.sockets[0].getsockname()[1])
        try:
            await stop.wait()
        finally:
            server.close()
            await service.close()


class _Allowance:
    """So many requests a second, and so many at once."""

    def __init__(self, per_second: float) -> None:
        self._per_second = self._left = per_second
        self._at = asyncio.get_running_loop().time()

    def take(self) -> bool:
        """Whether there is one left; it is taken."""
        now = asyncio.get_running_loop().time()
        self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _TooLargeError(Exception):
    """A request with a larger body than is taken."""


class _Service:
    def __init__(self, cosigner: Cosigner, executor: ThreadPoolExecutor) -> None:
        self._cosigner = cosigner
        self._executor = executor
        self._allowance = _Allowance(REQUESTS_PER_SECOND)
        self._connections = ClientConnections(MOST_CONNECTIONS, MOST_OF_ONE_CLIENT)

    async def close(self) -> None:
        """End all connections."""
        await self._connections.close()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection, one after the other."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a handler of asyncio's runs as a task)
        try:
            with self._connections.held(task, writer.get_extra_info("peername")) as held:
                if held is not None:
                    await _Connection(reader, writer, self._answer, held).run()
        except (TimeoutError, OSError, h11.ProtocolError) as error:
            log.debug("connection ended", error=repr(error))
        finally:
            writer.close()

    async def _answer(self, method: str, target: str, body: bytes) -> WitnessAnswer:
        if not self._allowance.take():
            return WitnessAnswer(429, "too many requests\n")
        path = target.partition("?")[0]
        if path == "/add-checkpoint":
            if method != "POST":
                return WitnessAnswer(405, "POST a checkpoint\n")
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, self._cosigner.add_checkpoint, body)
        if method != "GET":
            return WitnessAnswer(405, "GET or POST\n")
        if path == "/":
            return WitnessAnswer(200, f"{self._cosigner.key.encoded}\n")
        found = _CHECKPOINT.fullmatch(path)
        return (
            WitnessAnswer(404, "not found\n")
            if found is None
            else self._cosigner.checkpoint(found[1])
        )


class _Connection:
    """One connection: h11 between its bytes and ``answer``."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Callable[[str, str, bytes], Awaitable[WitnessAnswer]],
        held: HeldConnection,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._held = held
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADER_BYTES)

    async def run(self) -> None:
        """Answer until either side ends the connection, or keeps the other waiting."""
        try:
            while await self._exchange():
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                await self._send(WitnessAnswer(error.error_status_hint, "no good HTTP\n"))

    async def _exchange(self) -> bool:
        """Answer a request; returns whether another may follow."""
        self._held.idle_since = asyncio.get_running_loop().time()
        async with asyncio.timeout(IDLE_SECONDS):
            request = await self._next()
        self._held.idle_since = None
        if not isinstance(request, h11.Request):
            return False
        async with asyncio.timeout(REQUEST_SECONDS):
            try:
                body = await self._body()
            except _TooLargeError:
                await self._send(WitnessAnswer(413, f"more than {MOST_BODY_BYTES} bytes\n"))
                return False
            method, target = request.method.decode(), request.target.decode("latin-1")
            await self._send(await self._answer(method, target, body))
        return self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}

    async def _body(self) -> bytes:
        if self._http.they_are_waiting_for_100_continue:
            going_on = h11.InformationalResponse(status_code=100, headers=[])
            await self._write(self._http.send(going_on))
        body = bytearray()
        while isinstance(event := await self._next(), h11.Data):
            body += event.data
            if len(body) > MOST_BODY_BYTES:
                raise _TooLargeError
        return bytes(body)

    async def _next(self) -> object:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self._reader.read(_READ_BYTES))

    async def _send(self, answer: WitnessAnswer) -> None:
        body = answer.body.encode()
        headers = [
            ("Content-Type", answer.media_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            *_HEADERS.get(answer.status, ()),
        ]
        sent = [
            h11.Response(status_code=answer.status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ]
        await self._write(b"".join(self._http.send(each) or b"" for each in sent))

    async def _write(self, told: bytes | None) -> None:
        self._writer.write(told or b"")
        await self._writer.drain()
