"""A real PostgreSQL server of our own, from a wheel.

We run the wheel's `initdb` and `postgres` ourselves instead of its Python layer: so the server is
our direct child and ends with us, listens on TCP with a password, and no folder's permissions are
widened.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import asyncpg
import psutil
import structlog

from nbledger.embedded.errors import DataFolderInUseError, ServiceFailedError
from nbledger.embedded.ports import LOOPBACK, start_on_port
from nbledger.embedded.postgres_files import (
    data_location,
    database_user,
    programs_folder,
)
from nbledger.embedded.processes import (
    RunAs,
    end_processes,
    limit_log,
    spawn,
    terminate,
    wait,
)
from nbledger_infrastructure.locks import FileLock, LockHeldError, acquire_lock
from nbledger_infrastructure.passed_on import passed_on

DATABASE = "nbledger"
USER = "nbledger"

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] ",
        "log_checkpoints": "off",
        # Statements and rows may hold the source and outputs of notebooks: never log them.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
    }
)
"""Server settings of the embedded PostgreSQL; `start_postgres` may override each."""

_INIT_SECONDS = 120.0
_READY_SECONDS = 120.0  # Recovery after a crash replays the log first.
_FAST_SHUTDOWN_SECONDS = 5.0
_IMMEDIATE_SHUTDOWN_SECONDS = 3.0
_CONNECT_SECONDS = 5.0
_PROBE_SECONDS = 0.02

_log = structlog.get_logger(__name__)


@dataclass
class EmbeddedPostgres:
    """A running server.

    Attributes:
        dsn: connection address with the password; keep it out of logs.
        port: TCP port on 127.0.0.1.
        data_dir: real path of the data.
        log_file: where the server writes.
        process: the server's first process, our child.
    """

    dsn: str = field(repr=False)
    port: int
    data_dir: Path
    log_file: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    _lock: FileLock = field(repr=False)

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self.process.pid

    async def stop(self) -> None:
        """End it: sessions are cut and all is written (5 s), else at once. Safe to call twice."""
        try:
            await _stop(self.process)
        finally:
            self._lock.release()


async def start_postgres(
    data_dir: Path,
    *,
    port: int = 0,
    settings: Mapping[str, str] = MappingProxyType({}),
    instance: str | None = None,
) -> EmbeddedPostgres:
    """Start PostgreSQL on `data_dir`, made at first; return once it answers.

    Beside the folder stand `<name>.password`, `<name>.log` and `<name>.lock`. Leftovers of a
    server that was killed on the same data are ended first. Call it on the thread that lives as
    long as the server shall: on Linux the server shuts down when that thread ends.

    Args:
        data_dir: the data folder; as root see `postgres_files`.
        port: TCP port on 127.0.0.1; 0 takes any free one.
        settings: server settings on top of SETTINGS, e.g. `{"fsync": "off"}` for tests.
        instance: id of the home for NBLEDGER_INSTANCE; None keeps the inherited one.

    Raises:
        DataFolderInUseError: another process runs a server on this folder.
        ServiceFailedError: it ended early or did not answer in time; the message ends with its log.
    """
    data_dir = Path(os.path.abspath(data_dir))  # noqa: PTH100, ASYNC240 - looks at no disk
    run_as = database_user(data_dir)
    programs = await asyncio.to_thread(programs_folder, run_as)
    location = await asyncio.to_thread(data_location, data_dir, run_as)
    log_file = _beside(data_dir, "log")
    try:
        lock = acquire_lock(_beside(data_dir, "lock"))
    except LockHeldError as held:
        raise DataFolderInUseError(data_dir, held.pid) from None
    try:
        limit_log(log_file)
        await _end_leftovers(location)
        start = _Start(programs, location, log_file, run_as, {**SETTINGS, **settings}, instance)
        password = await _initialised(start, _beside(data_dir, "password"))

        async def serve(chosen: int) -> EmbeddedPostgres:
            return EmbeddedPostgres(
                dsn=_dsn(password, chosen, DATABASE),
                port=chosen,
                data_dir=location,
                log_file=log_file,
                process=await _serve(start, chosen, password),
                _lock=lock,
            )

        return await start_on_port("postgres", port, serve)
    except BaseException:
        lock.release()
        raise


@dataclass(frozen=True)
class _Start:
    programs: Path
    location: Path
    log_file: Path
    run_as: RunAs | None
    settings: Mapping[str, str]
    instance: str | None

    def spawn(
        self, argv: Sequence[str | Path], death_signal: signal.Signals
    ) -> subprocess.Popen[bytes]:
        # A clean environment: the server needs no secret of ours, and PG* variables mislead it.
        kept = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")
        return spawn(
            argv,
            instance=self.instance,
            env={"LC_ALL": "C", **passed_on(kept)},
            cwd=self.location.parent,
            log_file=self.log_file,
            run_as=self.run_as,
            death_signal=death_signal,
        )


async def _initialised(start: _Start, password_file: Path) -> str:
    """The password of the data folder, which is made if there is none."""
    if (start.location / "PG_VERSION").exists():
        return _read_password(password_file)
    password = secrets.token_urlsafe(32)
    _write_private(password_file, password)
    # Under another name until it is whole: a killed initdb must not look like data.
    unfinished = start.location.with_name(f"{start.location.name}.unfinished")
    for_initdb = start.location.with_name(f"{start.location.name}.initial")
    await asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    _write_private(for_initdb, password)
    try:
        if start.run_as is not None:
            os.chown(unfinished, *start.run_as)
            os.chown(for_initdb, *start.run_as)
        await _initdb(start, unfinished, for_initdb)
        if start.location.is_dir():
            start.location.rmdir()
        unfinished.rename(start.location)
    finally:
        for_initdb.unlink()
    return password


async def _initdb(start: _Start, folder: Path, password_file: Path) -> None:
    process = start.spawn(
        [
            start.programs / "initdb",
            f"--pgdata={folder}",
            f"--username={USER}",
            f"--pwfile={password_file}",
            "--auth-host=scram-sha-256",
            "--auth-local=reject",
            "--encoding=UTF8",
            # The order of text does not change with the operating system's libraries.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            *(["--no-sync"] if start.settings["fsync"] == "off" else []),
        ],
        signal.SIGKILL,
    )
    try:
        async with asyncio.timeout(_INIT_SECONDS):
            status = await wait(process)
    except TimeoutError:
        raise ServiceFailedError("initdb", "did not end in time", start.log_file) from None
    finally:
        await terminate(process, 0)
    if status != 0:
        raise ServiceFailedError("initdb", f"ended with status {status}", start.log_file)


async def _serve(start: _Start, port: int, password: str) -> subprocess.Popen[bytes]:
    settings = {
        **start.settings,
        "listen_addresses": LOOPBACK,
        "port": str(port),
        # No socket file: its path would have to fit into 107 bytes.
        "unix_socket_directories": "",
    }
    options = [option for item in settings.items() for option in ("-c", "=".join(item))]
    process = start.spawn(
        [start.programs / "postgres", "-D", start.location, *options], signal.SIGINT
    )
    try:
        await _ready(process, start.location, port, password, start.log_file)
    except BaseException:
        await _stop(process)
        raise
    _log.info("postgres is ready", pid=process.pid, port=port)
    return process


async def _ready(
    process: subprocess.Popen[bytes], location: Path, port: int, password: str, log_file: Path
) -> None:
    """Wait until it answers and has our database."""
    try:
        async with asyncio.timeout(_READY_SECONDS):
            while True:
                if process.poll() is not None:
                    raise ServiceFailedError(
                        "postgres", f"ended with status {process.returncode}", log_file
                    )
                if not _says_ready(location):
                    await asyncio.sleep(_PROBE_SECONDS)
                    continue
                try:
                    connection = await asyncpg.connect(
                        _dsn(password, port, "postgres"), timeout=_CONNECT_SECONDS, ssl=False
                    )
                    break
                except (
                    OSError,
                    asyncpg.CannotConnectNowError,
                    asyncpg.ConnectionDoesNotExistError,
                ):
                    await asyncio.sleep(_PROBE_SECONDS)
            try:
                if not await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE
                ):
                    await connection.execute(f"CREATE DATABASE {DATABASE}")
            finally:
                await connection.close(timeout=_CONNECT_SECONDS)
    except TimeoutError:
        raise ServiceFailedError("postgres", "did not answer in time", log_file) from None
    except asyncpg.InvalidPasswordError:
        raise ServiceFailedError(
            "postgres", "does not accept the password beside its data"
        ) from None


def _says_ready(location: Path) -> bool:
    """Whether it takes connections: it logs one that comes before that as fatal."""
    try:
        lines = (location / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return lines[7:8] != [] and lines[7].strip() == "ready"


async def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAST_SHUTDOWN_SECONDS):
                await wait(process)
    await terminate(process, _IMMEDIATE_SHUTDOWN_SECONDS, stop_signal=signal.SIGQUIT)


async def _end_leftovers(location: Path) -> None:
    """End servers on this data whose owner was killed. We hold the lock: none is in use."""
    leftovers = [process for process in psutil.process_iter() if _serves(process, location)]
    if leftovers:
        _log.warning("ending leftovers of a killed server", pids=[p.pid for p in leftovers])
        await end_processes(leftovers, grace=5.0, stop_signal=signal.SIGQUIT)
    # Nobody serves the data now. The file's pid may have a new, innocent owner, for whose sake
    # PostgreSQL would refuse to start.
    (location / "postmaster.pid").unlink(missing_ok=True)


def _serves(process: psutil.Process, location: Path) -> bool:
    # Every process of a server works in its data folder.
    try:
        return process.name().startswith("postgres") and Path(process.cwd()) == location
    except (psutil.Error, OSError):
        return False


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(descriptor)


def _read_password(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise ServiceFailedError(
            "postgres", f"has data, but its password {path} is missing"
        ) from None


def _beside(data_dir: Path, suffix: str) -> Path:
    return data_dir.with_name(f"{data_dir.name}.{suffix}")


def _dsn(password: str, port: int, database: str) -> str:
    return f"postgresql://{USER}:{password}@{LOOPBACK}:{port}/{database}"
