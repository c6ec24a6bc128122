"""Waiting for a database or an artifact store that is away, for the sake of a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import structlog

from nbledger_infrastructure.artifacts.store import ArtifactStoreUnavailableError
from nbledger_infrastructure.backoff import Backoff
from nbledger_infrastructure.postgres.database import DatabaseUnavailableError

log = structlog.get_logger(__name__)

T = TypeVar("T")

AWAY: Final = (DatabaseUnavailableError, ArtifactStoreUnavailableError)
"""What is worth waiting for."""


class Patience:
    """Repeats what one run needs of a service that is away, for as many seconds as it may be.

    The time that is waited does not count against the limit that :meth:`within` names.
    """

    def __init__(self, *, database_seconds: float, artifacts_seconds: float) -> None:
        self._database_seconds = database_seconds
        self._artifacts_seconds = artifacts_seconds
        self._limit: asyncio.Timeout | None = None

    @contextmanager
    def within(self, limit: asyncio.Timeout) -> Iterator[None]:
        """Do not count the time that is waited in the block against this limit."""
        self._limit = limit
        try:
            yield
        finally:
            self._limit = None

    async def wait_for(self, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` returns, which may be called again: nothing of it may stay half done.

        Raises what it raises; what says that a service is away only after the time is over.
        """
        try:
            return await work()
        except AWAY as error:
            log.warning("the run waits", reason=str(error))
        begun = time.monotonic()
        limit = self._limit
        ends = None if limit is None else limit.when()
        if limit is not None and ends is not None:
            limit.reschedule(None)
        backoff = Backoff(0.05, 1.0)
        while True:
            await backoff.wait()
            try:
                found = await work()
            except AWAY as error:
                if time.monotonic() - begun > self._most(error):
                    raise
                continue
            waited = time.monotonic() - begun
            log.info("the run goes on", waited=round(waited, 1))
            if limit is not None and ends is not None and limit.when() is None:
                limit.reschedule(ends + waited)
            return found

    def _most(self, error: Exception) -> float:
        if isinstance(error, ArtifactStoreUnavailableError):
            return self._artifacts_seconds
        return self._database_seconds
