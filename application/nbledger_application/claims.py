"""Claiming an execution in the store, and giving one up."""

import asyncio
import time
from collections.abc import Container, Sequence
from datetime import datetime

import msgspec
import structlog

from nbledger_application import repository
from nbledger_application.leases import Lease
from nbledger_application.queue import NO_LIMITS, ShareLimits
from nbledger_domain.errors import DomainError
from nbledger_domain.execution import Execution, Phase, Resources, TerminationCode
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure import actors, aggregates, clock
from nbledger_infrastructure.aggregates import stream_of
from nbledger_infrastructure.commands import Command
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    LimitReachedError,
    Metadata,
    RecordConflictError,
    RecordedEvent,
    Stream,
)

log = structlog.get_logger(__name__)


class Claim(msgspec.Struct, frozen=True):
    """An execution that this worker holds.

    ``notebook`` is it as it was at the request, or ``None`` when it is deleted by now.
    ``taken_at`` is the monotonic time from which its lease counts.
    """

    execution: Execution
    notebook: Notebook | None
    stream: Stream
    epoch: int
    metadata: Metadata
    taken_at: float

    @property
    def lease(self) -> Lease:
        """The lease of this attempt."""
        return Lease(self.stream.stream_id, self.epoch)


class Histories(msgspec.Struct, frozen=True):
    """What a claim decides on: the events of the execution, and of its notebook."""

    execution: Sequence[RecordedEvent]
    notebook: Sequence[RecordedEvent]


async def read(store: EventStore, command: Command) -> Histories:
    """What :func:`claim` decides on. Raises ``DatabaseUnavailableError``."""
    # Both at once: from the command to the kernel every round trip is waited for.
    return Histories(
        *await asyncio.gather(
            store.read_stream(command.execution_id), store.read_stream(command.notebook_id)
        )
    )


async def claim(
    store: EventStore,
    command: Command,
    *,
    worker_id: str,
    kernel_types: Container[str],
    limits: ShareLimits = NO_LIMITS,
    unsure: bool = False,
    histories: Histories | None = None,
) -> Claim | None:
    """Take an execution that waits; ``None`` when there is nothing for this worker to do.

    It has ended, somebody else holds it or was quicker, it is of a kernel type that is not offered
    here, or as many runs as ``limits`` or its notebook allow are claimed already. The lease is yet
    to be taken. Raises ``DatabaseUnavailableError``; the claim may then have been made, which a
    second call that is told so (``unsure``) finds out. ``histories`` is what was read already.
    """
    execution_id = command.execution_id
    histories = histories or await read(store, command)
    history, notebook = histories.execution, histories.notebook
    execution = aggregates.replay(Execution, history)
    if (
        execution is None
        or execution.ended
        or not (
            execution.phase is Phase.QUEUED
            or (unsure and _is_own_claim(history[-1], execution, worker_id))
        )
    ):
        log.debug("command dropped", execution_id=str(execution_id))
        return None
    if execution.kernel_type not in kernel_types:
        log.warning(
            "command for a kernel type that is not offered here",
            execution_id=str(execution_id),
            kernel_type=execution.kernel_type,
        )
        return None
    if execution.notebook_id != command.notebook_id:
        log.warning("command for another notebook's execution", execution_id=str(execution_id))
        return None
    requested = history[0]
    stream = stream_of(requested)
    metadata = worker_metadata(requested, worker_id)
    taken_at = time.monotonic()
    epoch = execution.epoch
    if execution.phase is Phase.QUEUED:
        epoch = execution.claim(worker_id, at=clock.now())
        try:
            await repository.save(store, execution, stream, metadata, limits=limits)
        except RecordConflictError:
            log.debug("somebody else was quicker", execution_id=str(execution_id))
            if not unsure:
                return None
            # Perhaps the earlier call was, which has come through only now.
            return await claim(
                store,
                command,
                worker_id=worker_id,
                kernel_types=kernel_types,
                limits=limits,
                unsure=True,
            )
        except LimitReachedError as error:
            log.debug("run waits", execution_id=str(execution_id), limit=error.limit)
            return None
    pinned = _pinned(notebook, execution.notebook_stream_version)
    return Claim(execution, pinned, stream, epoch, metadata, taken_at)


def _is_own_claim(last: RecordedEvent, execution: Execution, worker_id: str) -> bool:
    """Whether an earlier call of this worker made the claim and was not told so."""
    return last.type == Execution.Claimed.TYPE and execution.worker_id == worker_id


def _pinned(history: Sequence[RecordedEvent], version: int) -> Notebook | None:
    gone = (Notebook.DeletionRequested.TYPE, Notebook.Deleted.TYPE)
    if any(recorded.type in gone for recorded in history):
        return None
    return aggregates.replay(Notebook, history[:version])


def give_up(
    execution: Execution, epoch: int, reason: str, *, max_attempts: int, at: datetime
) -> None:
    """Decide what becomes of an attempt that will not be finished by its worker.

    It waits again if no cell has run, or its request allows that they run again; but after
    ``max_attempts`` claims, or as many as the request allows if that is more, it has failed.
    """
    would_wait = not execution.has_run_cells and execution.cancel_reason is None
    policy = execution.options.retry_policy
    if policy is not None:
        max_attempts = max(max_attempts, policy.max_attempts)
    if would_wait and epoch >= max_attempts:
        execution.fail(
            epoch,
            TerminationCode.WORKER_LOST,
            detail=f"{reason} This was attempt {epoch} of {max_attempts}.",
            resources=Resources(),
            at=at,
        )
    else:
        execution.lose_attempt(epoch, reason, at=at)


async def give_up_if_held(
    store: EventStore, lease: Lease, reason: str, metadata: Metadata, *, max_attempts: int
) -> Execution | None:
    """Give up the attempt of ``lease`` if it is still the one that holds the execution.

    Returns the execution when that changed something.
    """

    def decide(execution: Execution) -> None:
        give_up(execution, lease.epoch, reason, max_attempts=max_attempts, at=clock.now())

    try:
        updated = await repository.update(store, Execution, lease.execution_id, decide, metadata)
    except DomainError:
        # It has ended, waits already, or a later attempt holds it.
        return None
    return None if updated is None else updated[0].aggregate


def worker_metadata(requested: RecordedEvent, worker_id: str) -> Metadata:
    """What a worker's events carry: caused by the request, in the course of the same work."""
    return Metadata(
        actor=actors.worker(worker_id),
        correlation_id=requested.metadata.correlation_id or str(requested.stream_id),
        causation_id=str(requested.event_id),
        traceparent=requested.metadata.traceparent,
        request_id=requested.metadata.request_id,
        on_behalf_of=requested.metadata.responsible,
    )
