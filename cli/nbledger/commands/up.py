"""``nbledger up``: everything on one machine, on embedded services unless others are named."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import msgspec
from asyncpg import PostgresError

from nbledger import notify
from nbledger.children import Child, Service
from nbledger.embedded.errors import (
    ArtifactsNotUsableError,
    DatabaseNotUsableError,
    HomeNotUsableError,
    PortNotUsableError,
)
from nbledger.embedded.home import (
    Home,
    ServerInfo,
    open_home,
    write_atomically,
    write_server_json,
)
from nbledger.embedded.postgres import start_postgres
from nbledger.embedded.processes import sweep_instance
from nbledger.embedded.tansu import DEFAULT_PARTITIONS, start_tansu
from nbledger.role import database_place
from nbledger_audit.keys import Signer
from nbledger_infrastructure.artifacts.store import (
    ArtifactStore,
    ArtifactStoreUnavailableError,
    open_store,
)
from nbledger_infrastructure.postgres import tokens
from nbledger_infrastructure.postgres.database import (
    DatabaseUnavailableError,
    connect_pool,
    migrate,
)
from nbledger_infrastructure.settings import Audit, Settings

DEFAULT_HOME = ".nbledger"
STOP_SECONDS = 5.0
"""Seconds the roles have to end in order; with the services all stays below 10."""

Progress = Callable[[str], None]


class Credentials(msgspec.Struct, frozen=True, rename="camel"):
    """The tenant, project and token of a home, made once and kept for its owner alone."""

    tenant_id: UUID
    project_id: UUID
    token: str


def home_path() -> Path:
    """The home folder: ``NBLEDGER_HOME`` or ``.nbledger`` in the working folder."""
    return Path(os.environ.get("NBLEDGER_HOME") or DEFAULT_HOME)


@asynccontextmanager
async def running(settings: Settings, *, progress: Progress) -> AsyncIterator[ServerInfo]:
    """Everything started and ready, for the length of the block; then ended in order.

    ``progress`` is told what is being done. Raises ``EmbeddedError`` with a message for a
    person.
    """
    with open_home(home_path()) as home:
        async with AsyncExitStack() as stack:
            swept = await sweep_instance(home.instance)
            if swept:
                progress(f"Ended {len(swept)} processes that an earlier run left behind")
            port = _free_port(settings)
            _tell_services_of_others(settings, progress)
            named = settings.postgres.dsn
            # Before anything is started for nothing.
            credentials = await _prepare_named(home, named) if named else None
            environment = await _start_services(stack, home, settings, port, progress)
            if settings.artifacts.url:
                await _check_artifacts(settings.artifacts.url)
            if credentials is None:
                credentials = await _prepare(home, environment["NBLEDGER_POSTGRES_DSN"])
            progress("Starting API, relay, projector, sealer and worker")
            url = await _start_roles(stack, home, environment)
            info = ServerInfo(
                url=url,
                token=credentials.token,
                tenant_id=str(credentials.tenant_id),
                project_id=str(credentials.project_id),
                kafka=environment["NBLEDGER_KAFKA_BOOTSTRAP_SERVERS"],
                postgres=environment["NBLEDGER_POSTGRES_DSN"],
            )
            write_server_json(home.path, info)
            notify.notify_ready(url=url)
            yield info
            progress("Stopping")


def _free_port(settings: Settings) -> str:
    """The port of the API, found free before anything is started; 0 is any.

    Raises :class:`PortNotUsableError`.
    """
    port = os.environ.get("NBLEDGER_PORT") or str(settings.http.port)
    host = settings.http.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, int(port)), family=family).close()
    except (ValueError, OverflowError):
        raise PortNotUsableError(port, "it has to be a number from 0 to 65535") from None
    except OSError as error:
        raise PortNotUsableError(f"{port} of {host}", error.strerror or str(error)) from None
    return port


async def _start_services(
    stack: AsyncExitStack, home: Home, settings: Settings, port: str, progress: Progress
) -> dict[str, str]:
    """Start what the settings do not name; returns the settings of the roles."""
    environment = {
        "NBLEDGER_POSTGRES_DSN": settings.postgres.dsn,
        "NBLEDGER_KAFKA_BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "NBLEDGER_ARTIFACTS_URL": settings.artifacts.url,
        "NBLEDGER_WORKER_WORK_FOLDER": settings.worker.work_folder,
        "NBLEDGER_ENVIRONMENTS_FOLDER": (
            settings.environments.folder or str(home.path / "environments")
        ),
        "NBLEDGER_WORKER_SHUTDOWN_GRACE_SECONDS": str(STOP_SECONDS - 2),
        "NBLEDGER_HTTP_DRAIN_SECONDS": str(STOP_SECONDS - 2),
        "NBLEDGER_HTTP_PORT": port,
        "NBLEDGER_HEALTH_PORT": "0",
        "NBLEDGER_LOG_FORMAT": "json",
    }
    if not settings.postgres.dsn:
        progress("Starting PostgreSQL")
        data = home.path / "postgres"
        postgres = await start_postgres(data, instance=home.instance)
        await _keep(
            stack,
            Service(
                "postgres",
                postgres,
                partial(start_postgres, data, port=postgres.port, instance=home.instance),
            ),
        )
        environment["NBLEDGER_POSTGRES_DSN"] = postgres.dsn
    if not settings.kafka.bootstrap_servers:
        progress("Starting the Kafka broker")
        log_file = home.path / "logs" / "tansu.log"
        broker = await start_tansu(log_file, instance=home.instance)
        broker_port = int(broker.bootstrap_servers.rpartition(":")[2])
        await _keep(
            stack,
            Service(
                "tansu",
                broker,
                partial(start_tansu, log_file, port=broker_port, instance=home.instance),
                # It keeps everything that it was sent; nothing of ours depends on that.
                memory_mb=settings.kafka.embedded_memory_mb,
            ),
        )
        environment["NBLEDGER_KAFKA_BOOTSTRAP_SERVERS"] = broker.bootstrap_servers
        environment["NBLEDGER_KAFKA_IDEMPOTENT"] = "false"
        environment["NBLEDGER_KAFKA_KEEP_OFFSETS"] = "true"
        # A subscriber that asks for the topic of a broker started anew may be first, and make it.
        environment["NBLEDGER_KAFKA_PARTITIONS"] = str(DEFAULT_PARTITIONS)
        # It lets a worker join half a session after asking.
        environment["NBLEDGER_KAFKA_SESSION_TIMEOUT_SECONDS"] = "1"
        # A consumer that waits is told up to 256 ms late; asked often it costs little, as long as
        # there are few partitions, and the one worker needs no more than one of each topic.
        environment["NBLEDGER_KAFKA_FETCH_WAIT_SECONDS"] = "0.02"
        environment["NBLEDGER_KAFKA_COMMAND_PARTITIONS"] = "1"
    if not settings.artifacts.url:
        environment["NBLEDGER_ARTIFACTS_URL"] = (home.path / "artifacts").as_uri()
    environment |= _sealing(home, settings.audit)
    if not settings.worker.work_folder:
        environment["NBLEDGER_WORKER_WORK_FOLDER"] = str(home.path / "work")
    # Database, outputs and tokens are there.
    hidden = json.dumps([*settings.worker.hidden_folders, str(home.path)])
    environment["NBLEDGER_WORKER_HIDDEN_FOLDERS"] = hidden
    return environment


def _sealing(home: Home, audit: Audit) -> dict[str, str]:
    """What the sealer signs by, as far as the settings do not say it; a key is made once."""
    folder = home.path / "sealer"
    folder.mkdir(mode=0o700, exist_ok=True)
    key_file = folder / "key.pem"
    own = not audit.key_file and not audit.key_command
    if own and not key_file.exists():
        Signer.generate(key_file)
    return {
        # No other installation has this one's id.
        "NBLEDGER_AUDIT_ORIGIN": audit.origin or f"localhost/{home.instance}",
        "NBLEDGER_AUDIT_KEY_FILE": str(key_file) if own else audit.key_file,
        "NBLEDGER_AUDIT_STATE_FOLDER": audit.state_folder or str(folder / "signed"),
    }


async def _check_artifacts(url: str) -> None:
    """Raise :class:`ArtifactsNotUsableError` when the store cannot be written, read and deleted."""
    try:
        await ArtifactStore(open_store(url)).check()
    except (ArtifactStoreUnavailableError, OSError) as error:
        raise ArtifactsNotUsableError(str(error)) from None


async def _keep(stack: AsyncExitStack, service: Service) -> None:
    stack.push_async_callback(service.stop)
    keeper = asyncio.create_task(service.keep_running())
    stack.push_async_callback(_cancel_all, [keeper])


def _tell_services_of_others(settings: Settings, progress: Progress) -> None:
    """Say which services are used in place of those that would be started here."""
    if settings.postgres.dsn:
        progress(
            f"Using the database {database_place(settings.postgres.dsn)} (NBLEDGER_POSTGRES_DSN)"
        )
    if brokers := settings.kafka.bootstrap_servers:
        progress(f"Using the Kafka broker at {brokers} (NBLEDGER_KAFKA_BOOTSTRAP_SERVERS)")
    if url := settings.artifacts.url:
        progress(f"Using the artifact store {_without_secrets(url)} (NBLEDGER_ARTIFACTS_URL)")


def _without_secrets(url: str) -> str:
    found = urlsplit(url)
    return f"{found.scheme}://{found.netloc.rpartition('@')[2]}{found.path}"


async def _prepare_named(home: Home, dsn: str) -> Credentials:
    """As :func:`_prepare`; raises :class:`DatabaseNotUsableError` for what is wrong there."""
    try:
        return await _prepare(home, dsn)
    except (DatabaseUnavailableError, PostgresError, ValueError) as error:
        told = " ".join(str(error.__cause__ or error).split())
        raise DatabaseNotUsableError(
            database_place(dsn), told or "it does not answer in time"
        ) from None


async def _prepare(home: Home, dsn: str) -> Credentials:
    """Bring the database up to date, with the home's token in it."""
    await migrate(dsn)
    credentials = _credentials(home.path / "credentials.json")
    pool = await connect_pool(dsn, max_size=1, application_name="nbledger-up")
    try:
        if await tokens.find(pool, credentials.token) is None:
            await tokens.create(
                pool,
                name="local-admin",
                tenant_id=credentials.tenant_id,
                project_ids=None,
                roles=[tokens.Role.ADMIN],
                token=credentials.token,
            )
    finally:
        async with asyncio.timeout(STOP_SECONDS):
            await pool.close()
    return credentials


def _credentials(path: Path) -> Credentials:
    """The home's credentials, made at the first start.

    Raises :class:`HomeNotUsableError` for a file that cannot be read: others would be a new tenant,
    who sees none of the notebooks.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except FileNotFoundError:
        credentials = Credentials(uuid4(), uuid4(), tokens.generate())
    except (OSError, msgspec.DecodeError) as error:
        raise HomeNotUsableError(path.parent, f"{path.name} cannot be read: {error}") from None
    write_atomically(path, msgspec.json.encode(credentials))
    return credentials


async def _start_roles(stack: AsyncExitStack, home: Home, environment: dict[str, str]) -> str:
    """Start the roles side by side; returns the address of the API.

    Where that finds a port for itself, the relay waits for it: its messages tell the address.
    """
    logs = home.path / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    socket = await stack.enter_async_context(notify.sockets())
    children = [
        Child(
            name,
            environment,
            instance=home.instance,
            log_file=logs / f"{name}.log",
            socket=socket(name),
        )
        for name in ("api", "relay", "projector", "sealer", "worker")
    ]
    stack.push_async_callback(_stop_all, children)
    api, relay, *others = children
    async with asyncio.TaskGroup() as starting:
        starting.create_task(_start_api_and_relay(api, relay, environment, starting))
        for child in others:
            starting.create_task(child.start())
    url = api.details["url"]
    keepers = [asyncio.create_task(child.keep_running()) for child in children]
    stack.push_async_callback(_cancel_all, keepers)
    return url


async def _start_api_and_relay(
    api: Child, relay: Child, environment: dict[str, str], starting: asyncio.TaskGroup
) -> None:
    found = int(environment["NBLEDGER_HTTP_PORT"]) == 0
    if not found:
        starting.create_task(relay.start())
    await api.start()
    port = str(urlsplit(api.details["url"]).port)
    # A restarted API has to be found where it was.
    api.pin("NBLEDGER_HTTP_PORT", port)
    relay.pin("NBLEDGER_HTTP_PORT", port)
    if found:
        await relay.start()


async def _stop_all(children: list[Child]) -> None:
    await asyncio.gather(*(child.stop(STOP_SECONDS) for child in children))


async def _cancel_all(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
