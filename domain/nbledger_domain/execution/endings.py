"""How runs and attempts end."""

from datetime import datetime

from nbledger_domain.errors import IllegalTransitionError
from nbledger_domain.execution import events
from nbledger_domain.execution.state import ExecutionState
from nbledger_domain.execution.values import Phase, Resources
from nbledger_domain.vocabulary.termination import TerminationCode


class ExecutionEndings(ExecutionState):
    """The commands that end a run, or one attempt of it."""

    def request_cancel(
        self,
        *,
        requested_by: str,
        at: datetime,
        reason: TerminationCode = TerminationCode.CANCELLED,
    ) -> None:
        """Ask for a stop. A waiting execution ends at once; asking again changes nothing.

        Raises :class:`ExecutionEndedError`.
        """
        self.must_run()
        if self.cancel_reason is not None:
            return
        self.trigger_event(
            events.CancelRequested, timestamp=at, requested_by=requested_by, reason=reason
        )
        if self.phase is Phase.QUEUED:
            self.trigger_event(events.Cancelled, timestamp=at, reason=reason, resources=Resources())

    def lose_attempt(self, epoch: int, reason: str, *, at: datetime) -> None:
        """Record that the worker of ``epoch`` is lost, and output of a running cell perhaps too.

        Before the first cell the execution waits for a worker again. After it the run has
        failed, since what its cells have done outside cannot be undone; unless its request
        allows that they run twice.
        """
        self.must_hold(epoch)
        if self.phase is Phase.QUEUED:
            raise IllegalTransitionError(f"Execution {self.id} is held by no worker.")
        restart = self.cancel_reason is None and (
            not self.has_run_cells or self.may_retry(TerminationCode.WORKER_LOST)
        )
        if not restart:
            self._flag_running_cell(epoch, at=at)
        self.trigger_event(
            events.AttemptLost, timestamp=at, epoch=epoch, reason=reason, restart=restart
        )
        if restart:
            return
        if self.cancel_reason is not None:
            self.trigger_event(
                events.Cancelled, timestamp=at, reason=self.cancel_reason, resources=Resources()
            )
        else:
            self.trigger_event(
                events.Failed,
                timestamp=at,
                reason=TerminationCode.WORKER_LOST,
                detail=reason,
                resources=Resources(),
            )

    def retry(self, epoch: int, code: TerminationCode, reason: str, *, at: datetime) -> None:
        """End this attempt, so that the run waits to begin anew.

        Raises :class:`IllegalTransitionError` where the request does not allow it.
        """
        self.must_hold(epoch)
        if not self.may_retry(code):
            raise IllegalTransitionError(f"Execution {self.id} may not begin anew.")
        self.trigger_event(
            events.AttemptLost, timestamp=at, epoch=epoch, reason=reason, restart=True, code=code
        )

    def complete(self, epoch: int, *, resources: Resources, at: datetime) -> None:
        """End the run: every cell that was to run has run."""
        self.must_hold(epoch)
        self.trigger_event(events.Completed, timestamp=at, resources=resources)

    def fail(
        self,
        epoch: int,
        reason: TerminationCode,
        *,
        detail: str,
        resources: Resources,
        at: datetime,
    ) -> None:
        """End the run early by a fault."""
        self.must_hold(epoch)
        self._flag_running_cell(epoch, at=at)
        self.trigger_event(
            events.Failed, timestamp=at, reason=reason, detail=detail, resources=resources
        )

    def time_out(
        self,
        epoch: int,
        reason: TerminationCode,
        *,
        detail: str,
        resources: Resources,
        at: datetime,
    ) -> None:
        """End the run because it, or a cell, took too long."""
        self.must_hold(epoch)
        self.trigger_event(
            events.TimedOut, timestamp=at, reason=reason, detail=detail, resources=resources
        )

    def kernel_died(self, epoch: int, *, detail: str, resources: Resources, at: datetime) -> None:
        """End the run because its kernel is gone."""
        self.must_hold(epoch)
        self.trigger_event(events.KernelDied, timestamp=at, detail=detail, resources=resources)

    def expire(self, *, detail: str, at: datetime) -> None:
        """End a run that no worker has taken in time."""
        self.must_run()
        if self.phase is not Phase.QUEUED:
            raise IllegalTransitionError(f"Execution {self.id} does not wait.")
        self.trigger_event(
            events.TimedOut,
            timestamp=at,
            reason=TerminationCode.QUEUE_TIMEOUT,
            detail=detail,
            resources=Resources(),
        )

    def cancel(
        self,
        epoch: int,
        *,
        resources: Resources,
        at: datetime,
        reason: TerminationCode = TerminationCode.CANCELLED,
    ) -> None:
        """End the run as it was asked to."""
        self.must_hold(epoch)
        self.trigger_event(
            events.Cancelled,
            timestamp=at,
            reason=self.cancel_reason or reason,
            resources=resources,
        )

    def _flag_running_cell(self, epoch: int, *, at: datetime) -> None:
        """Record that output of a cell may be lost whose end nobody has seen."""
        if self.running_cell is None:
            return
        output_bytes, kept_bytes = self.saved_bytes
        self.trigger_event(
            events.OutputTruncated,
            timestamp=at,
            epoch=epoch,
            cell_id=self.running_cell,
            output_bytes=output_bytes,
            kept_bytes=kept_bytes,
        )
        self.trigger_event(
            events.Warned,
            timestamp=at,
            epoch=epoch,
            warning=f"Output of cell {self.running_cell} may be lost: nobody has seen its end.",
        )
