"""How an attempt ends, and how that is recorded when the work could not do so itself."""

import asyncio
import secrets
from enum import Enum
from typing import Final

import structlog

from nbledger_application import claims
from nbledger_application.claims import Claim
from nbledger_application.recording import FencedError, Recorder
from nbledger_domain.execution import Execution, Resources, TerminationCode
from nbledger_infrastructure import clock
from nbledger_infrastructure.artifacts.store import ArtifactStoreUnavailableError
from nbledger_infrastructure.postgres.database import DatabaseUnavailableError
from nbledger_infrastructure.postgres.event_store import StoreUnavailableError
from nbledger_workers.kernel.protocol import Outcome, RunFinished
from nbledger_workers.translation.steps import Step, last_step, resources_of

log = structlog.get_logger(__name__)

LAST_WORD_SECONDS: Final = 5.0
"""Seconds for recording what is left to be recorded once a run cannot go on."""


class Halt(Enum):
    """Why a worker stops a run that has not ended."""

    LEASE_LOST = "lease lost"
    SHUTDOWN = "shutdown"


class Conclusion:
    """The terminal events of one attempt."""

    def __init__(self, recorder: Recorder, claim: Claim, *, max_attempts: int) -> None:
        self._recorder = recorder
        self._claim = claim
        self._max_attempts = max_attempts

    async def after(self, work: asyncio.Task[None], halted: Halt | None) -> None:
        """Record how the attempt ends when its work ended otherwise than by a terminal event."""
        if work.cancelled():
            if halted is Halt.LEASE_LOST:
                log.warning("run stopped: its lease has ended")
            elif halted is Halt.SHUTDOWN:
                await self._last_word(self._give_up)
                log.info("run handed back")
            return
        error = work.exception()
        if error is None:
            return
        if isinstance(error, FencedError):
            log.warning("run stopped: another attempt holds it or it has ended")
        elif isinstance(error, DatabaseUnavailableError):
            log.error("run stopped: the database stays away")
        elif isinstance(error, ArtifactStoreUnavailableError):
            log.error("run failed: the artifact store stays away", reason=error.reason)
            await self._last_word(self.unkept(error))
        else:
            reference = secrets.token_hex(4)
            log.error("run failed", exc_info=error, reference=reference)
            detail = f"The worker failed; its log has the cause under the reference {reference}."
            await self._last_word(self.failing(TerminationCode.INTERNAL_ERROR, detail))

    async def _last_word(self, step: Step) -> None:
        try:
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await self._recorder.record(step)
        except FencedError:
            pass
        except (TimeoutError, StoreUnavailableError):
            log.warning("end of the run not recorded, it will be swept")

    def _give_up(self, execution: Execution) -> None:
        claims.give_up(
            execution,
            self._claim.epoch,
            "The worker was shut down.",
            max_attempts=self._max_attempts,
            at=clock.now(),
        )

    def failing(
        self, reason: TerminationCode, detail: str, finished: RunFinished | None = None
    ) -> Step:
        """The step by which the execution fails; what it used is known once it has finished."""
        at = clock.now()
        used = Resources() if finished is None else resources_of(finished)
        return lambda execution: execution.fail(
            self._claim.epoch, reason, detail=detail, resources=used, at=at
        )

    def unkept(
        self, error: ArtifactStoreUnavailableError, finished: RunFinished | None = None
    ) -> Step:
        """The step by which the execution fails as what it put out cannot be kept."""
        detail = f"What the run has put out could not be kept. The artifact store: {error.reason}."
        return self.failing(TerminationCode.ARTIFACT_STORE_UNAVAILABLE, detail, finished)

    async def notebook_deleted(self) -> None:
        """Record that there is nothing to run any more."""
        at = clock.now()
        await self._recorder.record(
            lambda execution: execution.cancel(
                self._claim.epoch,
                resources=Resources(),
                reason=TerminationCode.NOTEBOOK_DELETED,
                at=at,
            )
        )

    async def before_cells(self, outcome: Outcome, detail: str) -> None:
        """Record an end before any kernel was started."""
        finished = RunFinished(outcome=outcome, detail=detail)
        await self._recorder.record(last_step(finished, self._claim.epoch, parameters_failed=None))
