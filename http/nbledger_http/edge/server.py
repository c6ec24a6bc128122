"""Serving the API: granian in our own event loop, so that we own its beginning and its end."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec
import structlog
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from nbledger_application.commands.record_history_read import ReadRecorder
from nbledger_http.edge.app import create_app
from nbledger_http.edge.proxies import Proxied
from nbledger_http.requests.services import Services
from nbledger_http.security.authentication import Authenticator
from nbledger_http.security.links import LinkSigner, signing_key
from nbledger_infrastructure.artifacts import store as artifacts
from nbledger_infrastructure.artifacts.health import ArtifactHealth
from nbledger_infrastructure.datasets.ingest import warm_up
from nbledger_infrastructure.postgres.database import connect_pool
from nbledger_infrastructure.postgres.event_store import EventStore, StreamWatch
from nbledger_infrastructure.postgres.principals import Names
from nbledger_infrastructure.postgres.pulse import Pulse
from nbledger_infrastructure.settings import Settings
from nbledger_projections.machinery.positions import PositionWatch

log = structlog.get_logger(__name__)

BACKLOG = 1024
MAX_CONNECTIONS = 16_384
"""How many clients may be connected at once; more wait in the socket's queue."""

SPARE_FILES = 256
"""Open files that are no connections of clients."""

CLOSE_SECONDS = 3.0
STARTUP_SECONDS = 10.0


class AddressInUseError(Exception):
    """Another program listens on the address of the API."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host}:{port}: {reason}")


async def serve(
    settings: Settings, *, stop: asyncio.Event, on_ready: Callable[[str], None]
) -> None:
    """Serve until ``stop`` is set; ``on_ready`` is told the URL once requests are answered.

    Ends in order: not ready any more, no new connections, whoever waits for news is told that
    there are none and streams end, requests in hand are answered within
    ``settings.http.drain_seconds``, then everything is closed. Raises
    :class:`AddressInUseError` and ``DatabaseUnavailableError`` at the start.
    """
    async with open_services(settings) as services:
        await asyncio.to_thread(warm_up)
        await _serve(services, stop, on_ready)


@contextlib.asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Everything that the handlers work with, open for the block."""
    async with contextlib.AsyncExitStack() as stack:
        # The store keeps one connection for itself, whoever waits for lists another, and
        # whoever follows executions a third.
        pool = await connect_pool(
            settings.postgres.dsn,
            min_size=2,
            max_size=settings.postgres.pool_size + 3,
            application_name="nbledger-api",
            reset=False,
        )
        stack.push_async_callback(_close, "pool", pool.close)
        store = EventStore(pool)
        await store.start()
        stack.push_async_callback(_close, "event store", store.close)
        positions = PositionWatch(pool)
        stack.push_async_callback(_close, "position watch", positions.close)
        streams = StreamWatch(pool)
        stack.push_async_callback(_close, "stream watch", streams.close)
        pulse = Pulse(pool, settings.postgres.dsn, application_name="nbledger-api-pulse")
        # Whoever waits for news is answered now: reading fails at once.
        pulse.on_away(streams.wake)
        pulse.on_away(positions.wake)
        pulse.start()
        stack.push_async_callback(_close, "database pulse", pulse.close)
        key = await signing_key(pool)
        store_of_files = artifacts.ArtifactStore(artifacts.open_store(settings.artifacts.url))
        health = ArtifactHealth(store_of_files)
        # What is wrong with it is in the log from the start on; the rest of the API works.
        await health.problem()
        yield Services(
            settings=settings,
            pool=pool,
            store=store,
            artifacts=store_of_files,
            artifact_health=health,
            authenticator=Authenticator(pool, rate_limit=settings.http.rate_limit),
            names=Names(pool),
            history_reads=ReadRecorder(store),
            links=LinkSigner(key, lifetime_seconds=settings.http.download_link_hours * 3600.0),
            positions=positions,
            streams=streams,
        )


async def _close(name: str, close: Callable[[], Awaitable[object]]) -> None:
    """Close a part; one that takes too long is left behind, as the process ends anyway."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await close()
    except Exception as error:  # noqa: BLE001 (the other parts are still to be closed)
        log.warning("not closed cleanly", part=name, reason=type(error).__name__)


async def _serve(services: Services, stop: asyncio.Event, on_ready: Callable[[str], None]) -> None:
    http = services.settings.http
    with _reserved(http.host, http.port) as port:
        # Documents tell the address, so they need the port that was found.
        http = msgspec.structs.replace(http, port=port)
        services.settings = msgspec.structs.replace(services.settings, http=http)
        app = create_app(services)
        server = Server(
            Proxied(app, http),
            address=http.host,
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backlog=BACKLOG,
            backpressure=_connections(),
            http1_settings=HTTP1Settings(header_read_timeout=10_000),
            log_enabled=False,
        )
        serving = asyncio.create_task(server.serve(), name="granian")
        try:
            await _until_listening(http.host, port, serving)
        except BaseException:
            await _end(server, serving, 0.0)
            raise
    log.info("api ready", host=http.host, port=port)
    on_ready(http.own_address)
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            raise RuntimeError("the HTTP server has ended by itself")
    finally:
        stopping.cancel()
        services.draining = True
        services.positions.end()
        services.streams.end()
        log.info("api stopping", requests_in_hand=app.in_hand)
        await _end(server, serving, http.drain_seconds)
        log.info("api stopped", requests_cut_off=app.in_hand)


def _connections() -> int:
    """As many connections as the system grants files for, having asked for enough."""
    wanted = MAX_CONNECTIONS + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(64, min(MAX_CONNECTIONS, soft - SPARE_FILES))


async def _end(server: Server, serving: asyncio.Task[None], seconds: float) -> None:
    """Stop intake and let the requests in hand end, for ``seconds`` at most."""
    server.stop()  # type: ignore[no-untyped-call]
    done, _ = await asyncio.wait({serving}, timeout=seconds)
    if not done:
        serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@contextlib.contextmanager
def _reserved(host: str, port: int) -> Iterator[int]:
    """The port to listen on, kept from others for the block; 0 takes a free one.

    granian binds with SO_REUSEPORT, by which a second server on one port would go unnoticed:
    so try without it first.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if port:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        with socket.socket(family, socket.SOCK_STREAM) as reserved:
            if hasattr(socket, "SO_REUSEPORT"):
                reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind((host, port))
            yield reserved.getsockname()[1]
    except OSError as error:
        raise AddressInUseError(host, port, error.strerror or str(error)) from error


async def _until_listening(host: str, port: int, serving: asyncio.Task[None]) -> None:
    """Wait until connections are taken."""
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared only)
    async with asyncio.timeout(STARTUP_SECONDS):
        while True:
            if serving.done():
                await serving
                raise RuntimeError("the HTTP server has ended by itself")
            try:
                _, writer = await asyncio.open_connection(target, port)
            except OSError:
                # The server tells nobody when it begins to listen.
                await asyncio.sleep(0.01)
                continue
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return
