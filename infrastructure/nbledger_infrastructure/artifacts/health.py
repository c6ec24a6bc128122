"""Whether the artifact store can be written, read and deleted: found out now and then."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from nbledger_infrastructure.artifacts.store import ArtifactStore, ArtifactStoreUnavailableError

log = structlog.get_logger(__name__)

GOOD_SECONDS: Final = 15.0
"""How long a good answer holds."""
BAD_SECONDS: Final = 2.0
"""How long a bad one does."""


class ArtifactHealth:
    """Asks the store when somebody wants to know and the last answer is old."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._known: str | None = None
        self._until = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def problem(self) -> str | None:
        """What is wrong with the store; ``None`` where it can do its part."""
        if time.monotonic() >= self._until:
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask(), name="artifact store check")
            # Whoever goes away leaves the question to the others.
            await asyncio.shield(self._asking)
        return self._known

    async def follow(self) -> None:
        """Keep :attr:`known` up to date until cancelled."""
        while True:
            await self.problem()
            await asyncio.sleep(max(self._until - time.monotonic(), 0.0))

    async def until_good(self) -> None:
        """Wait until the store can do its part, saying in the log what is wrong meanwhile."""
        while await self.problem() is not None:  # noqa: ASYNC110 - asked, nothing tells of it
            await asyncio.sleep(BAD_SECONDS)

    @property
    def known(self) -> str | None:
        """The last answer."""
        return self._known

    async def _ask(self) -> None:
        before = self._known
        try:
            await self._store.check()
        except ArtifactStoreUnavailableError as error:
            self._known = error.reason
        else:
            self._known = None
        if self._known is not None and self._known != before:
            log.error("artifact store is not usable", reason=self._known)
        elif self._known is None and before is not None:
            log.info("artifact store is usable again")
        self._until = time.monotonic() + (GOOD_SECONDS if self._known is None else BAD_SECONDS)
