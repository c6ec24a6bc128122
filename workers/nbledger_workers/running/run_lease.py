"""The lease of one run: written down at its start, renewed meanwhile, released at its end."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from nbledger_application import leases
from nbledger_application.claims import Claim
from nbledger_infrastructure.postgres.database import UNAVAILABLE, DatabaseUnavailableError
from nbledger_workers.running.services import RunServices

log = structlog.get_logger(__name__)

_AGAIN_SECONDS: Final = 0.2
_RELEASE_SECONDS: Final = 5.0


class RunLease:
    """Taken beside the work: the claim has decided already who holds the execution."""

    def __init__(
        self,
        services: RunServices,
        claim: Claim,
        *,
        on_lost: Callable[[], None],
        on_cancel: Callable[[], None],
    ) -> None:
        self._services = services
        self._claim = claim
        self._on_lost = on_lost
        self._on_cancel = on_cancel
        self._taking = asyncio.create_task(self._take())

    async def _take(self) -> None:
        """Write the lease down and have it renewed; gives the run up where that fails."""
        services, claim = self._services, self._claim
        seconds = services.settings.worker.lease_seconds
        until = claim.taken_at + services.settings.worker.database_away_seconds
        taken = False
        while time.monotonic() < until:
            try:
                taken = await leases.take(
                    services.pool, claim.lease, services.worker_id, seconds=seconds
                )
                break
            except (DatabaseUnavailableError, *UNAVAILABLE):
                log.warning("lease not taken yet")
                await asyncio.sleep(_AGAIN_SECONDS)
        if not taken:
            self._on_lost()
            return
        services.keeper.hold(
            claim.lease,
            taken_at=claim.taken_at,
            on_lost=self._on_lost,
            on_cancel=self._on_cancel,
        )

    async def end(self, *, lost: bool) -> None:
        """Have it renewed no more, and release it unless it is ``lost``."""
        await asyncio.wait({self._taking}, timeout=_RELEASE_SECONDS)
        self._taking.cancel()
        await asyncio.gather(self._taking, return_exceptions=True)
        self._services.keeper.drop(self._claim.lease)
        if lost:
            return
        try:
            await leases.release(self._services.pool, self._claim.lease)
        except (DatabaseUnavailableError, *UNAVAILABLE):
            log.warning("lease not released, it will run out")
