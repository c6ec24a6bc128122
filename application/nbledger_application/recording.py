"""Recording the steps of a run: through the cached aggregate, under its epoch."""

import time
from collections.abc import Callable, Sequence
from uuid import UUID

import structlog

from nbledger_application import repository
from nbledger_application.claims import Claim
from nbledger_domain.errors import ExecutionEndedError, StaleEpochError
from nbledger_domain.execution import Execution
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.backoff import Backoff
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.event_store import (
    DuplicateEventError,
    EventStore,
    RecordConflictError,
    RecordedEvent,
    StoreUnavailableError,
)

log = structlog.get_logger(__name__)


class FencedError(Exception):
    """The execution has ended or is held by a later attempt: this one may write nothing more."""


class Recorder:
    """Appends what one attempt does to its execution; one caller at a time.

    A step is tried for ``away_seconds`` while the store is away. ``on_cancel`` is called when the
    stream turns out to hold a request to cancel.
    """

    def __init__(
        self,
        store: EventStore,
        claim: Claim,
        *,
        away_seconds: float,
        on_cancel: Callable[[], None],
    ) -> None:
        self._store = store
        self._claim = claim
        self._on_cancel = on_cancel
        self._away_seconds = away_seconds
        self._execution: Execution | None = claim.execution

    @property
    def epoch(self) -> int:
        """The epoch of this attempt."""
        return self._claim.epoch

    async def record(self, step: Callable[[Execution], None]) -> None:
        """Let ``step`` decide on the execution and append its events, all in one.

        ``step`` is called again on a fresh state when something else, such as a request to
        cancel, was appended in between. Returns once the events are durable, also where an
        earlier try had succeeded without our being told. Raises :class:`FencedError`, and
        ``StoreUnavailableError`` when the store stays away.
        """
        ids: list[UUID] = []
        give_up_at = time.monotonic() + self._away_seconds
        backoff = Backoff(0.05, 1.0)
        while True:
            try:
                if self._execution is None and await self._reload(ids):
                    return
                await self._append(step, ids)
            except (RecordConflictError, DuplicateEventError):
                self._execution = None
            except StoreUnavailableError:
                self._execution = None
                if time.monotonic() > give_up_at:
                    raise
                if not backoff.failures:
                    log.warning("store is away, step waits")
                await backoff.wait()
            except (StaleEpochError, ExecutionEndedError) as error:
                self._execution = None
                raise FencedError(str(error)) from error
            except BaseException:
                # The cached state may be ahead of the store.
                self._execution = None
                raise
            else:
                return

    async def _append(self, step: Callable[[Execution], None], ids: list[UUID]) -> None:
        execution = self._execution
        assert execution is not None  # noqa: S101 - loaded by the caller
        step(execution)
        decided = repository.collect(execution)
        if not decided:
            return
        # The same ids at every try, so that one that succeeded unseen is recognised.
        ids.extend(new_id() for _ in range(len(decided) - len(ids)))
        await repository.append(
            self._store,
            self._claim.stream,
            decided,
            self._claim.metadata,
            event_ids=ids[: len(decided)],
        )

    async def _reload(self, ids: list[UUID]) -> bool:
        """Read the stream again; True when it holds the events of this step already."""
        history = await self._store.read_stream(self._claim.stream.stream_id)
        execution = aggregates.replay(Execution, history)
        recorded = bool(ids) and _holds(history, ids[0])
        if recorded:
            self._execution = execution
            return True
        if execution is None:
            raise FencedError("the execution has been erased")
        if execution.ended or execution.epoch != self._claim.epoch:
            raise FencedError("the execution has ended or is held by a later attempt")
        self._execution = execution
        if execution.cancel_reason is not None:
            self._on_cancel()
        return False


def _holds(history: Sequence[RecordedEvent], event_id: UUID) -> bool:
    return any(recorded.event_id == event_id for recorded in history)
