"""One fresh database for each test, cloned from a migrated one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from support.services import locked, run_folder, service_address

_TEMPLATE = "migrated"
_CONNECT_SECONDS = 30.0

_Result = TypeVar("_Result")


def create_database() -> str:
    """Make a migrated database and return its DSN."""
    server = service_address("postgres")
    _ensure_template(server)
    name = f"test_{uuid.uuid4().hex}"
    _blocking(_execute(server, f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY FILE_COPY"))
    return _with_database(server, name)


def empty_database() -> str:
    """Make a database without a schema and return its DSN."""
    server = service_address("postgres")
    name = f"test_{uuid.uuid4().hex}"
    _blocking(_execute(server, f"CREATE DATABASE {name}"))
    return _with_database(server, name)


def drop_database(dsn: str) -> None:
    """Drop the database of the DSN and cut whoever is still connected."""
    name = urlsplit(dsn).path.lstrip("/")
    server = service_address("postgres")
    _blocking(_execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def _ensure_template(server: str) -> None:
    done = run_folder() / "template.done"
    if done.exists():
        return
    with locked("template"):
        if done.exists():
            return
        from nbledger_infrastructure.postgres.database import migrate

        _blocking(_execute(server, f"DROP DATABASE IF EXISTS {_TEMPLATE}"))
        _blocking(_execute(server, f"CREATE DATABASE {_TEMPLATE}"))
        _blocking(migrate(_with_database(server, _TEMPLATE)))
        done.touch()


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS, ssl=False)
    try:
        await connection.execute(statement, timeout=_CONNECT_SECONDS)
    finally:
        await connection.close(timeout=_CONNECT_SECONDS)


def _blocking(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run to the end in a thread: fixtures may be asked for from inside a running loop."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


def _with_database(dsn: str, name: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def as_user(dsn: str, user: str, password: str) -> str:
    """The DSN with another user."""
    parts = urlsplit(dsn)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{address}"))
