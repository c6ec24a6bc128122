"""Running one role as a process: settings, logs, signals, health, and a clean end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

import click
import structlog

from nbledger import health
from nbledger.notify import notify_ready
from nbledger_infrastructure import logging
from nbledger_infrastructure.settings import Settings
from nbledger_infrastructure.settings_loading import SettingsError, load, require

if TYPE_CHECKING:
    from nbledger_infrastructure.artifacts.health import ArtifactHealth

log = structlog.get_logger(__name__)

ARTIFACTS: Final = "artifacts.url"
"""The setting that a role needs that uses the artifact store."""


class OnReady(Protocol):
    """What a role calls once it can do its work, with details such as its address."""

    def __call__(self, **details: str) -> None:
        """Report readiness."""

    def lacks(self, what: str, problem: str | None) -> None:
        """Report what does not work, by its name, and why; None where it works again."""


T = TypeVar("T")

Role = Callable[[Settings, asyncio.Event, OnReady], Awaitable[None]]


def load_settings(*required: str) -> Settings:
    """The settings, or an end of the program that says what is wrong with them."""
    try:
        settings = load()
        require(settings, *required)
    except SettingsError as error:
        raise _unusable(error) from None
    return settings


def _unusable(error: SettingsError) -> click.ClickException:
    faults = "\n".join(f"  {fault}" for fault in error.faults)
    return click.ClickException(f"The settings are not usable:\n{faults}")


def run_role(name: str, role: Role, *required: str) -> None:
    """Run ``role`` until it ends or a signal asks for it; ends the program with its status."""
    settings = load_settings(*required)
    logging.configure(settings.log, role=name)
    try:
        run(_supervise(name, role, settings, uses_artifacts=ARTIFACTS in required))
    except SettingsError as error:
        raise _unusable(error) from None
    except Exception as error:  # whatever it was, it is told in the log's form
        log.exception("role failed", error=repr(error))
        sys.exit(1)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` on uvloop where it is installed, and return what it returns."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def run_command(main: Coroutine[Any, Any, T], settings: Settings) -> T:
    """As :func:`run`, for an operator's command: no database to work on is told in one line.

    Exits then with status 2, which nothing that such a command finds out has.
    """
    from asyncpg import InterfaceError, PostgresError, UndefinedFunctionError, UndefinedTableError

    from nbledger_infrastructure.postgres.database import DatabaseUnavailableError

    try:
        return run(main)
    except (UndefinedTableError, UndefinedFunctionError):
        place = database_place(settings.postgres.dsn)
        told = f"the database {place} has not this version's schema: nbledger migrate"
    except (DatabaseUnavailableError, PostgresError, InterfaceError, ConnectionError) as error:
        told = f"the database {database_place(settings.postgres.dsn)}: {error}"
    click.echo(f"Error: {told}", err=True)
    sys.exit(2)


def database_place(dsn: str) -> str:
    """Where the database is, without user and password."""
    found = urlsplit(dsn)
    return f"at {found.netloc.rpartition('@')[2]}{found.path}"


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set ``stop`` at SIGINT and SIGTERM."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)


class _Readiness:
    """What a role says of itself."""

    def __init__(self) -> None:
        self._ready = False
        self._problems: dict[str, str] = {}

    def __call__(self, **details: str) -> None:
        self._ready = True
        log.info("ready", **details)
        notify_ready(**details)

    def lacks(self, what: str, problem: str | None) -> None:
        if problem is None:
            self._problems.pop(what, None)
        else:
            self._problems[what] = problem

    @property
    def missing(self) -> list[str]:
        """What it lacks to be ready."""
        told = [f"{what}: {problem}" for what, problem in self._problems.items()]
        return told if self._ready else ["starting"]


async def _supervise(name: str, role: Role, settings: Settings, *, uses_artifacts: bool) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    readiness = _Readiness()

    # A port is served by every role but the API, which answers for itself.
    follows = uses_artifacts and settings.health.port != 0
    artifacts = _artifact_health(settings) if follows else None

    def missing() -> list[str]:
        if stop.is_set():
            return ["stopping"]
        problem = None if artifacts is None else artifacts.known
        return readiness.missing + ([] if problem is None else [f"artifact store: {problem}"])

    async with health.serve(settings.health, missing):
        following = None if artifacts is None else asyncio.create_task(artifacts.follow())
        try:
            log.info("starting", command=name)
            await role(settings, stop, readiness)
        finally:
            if following is not None:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
    log.info("stopped")


def _artifact_health(settings: Settings) -> ArtifactHealth:
    from nbledger_infrastructure.artifacts.health import ArtifactHealth
    from nbledger_infrastructure.artifacts.store import ArtifactStore, open_store

    return ArtifactHealth(ArtifactStore(open_store(settings.artifacts.url)))
