"""What the events of a run tell, as far as lineage needs it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import UNSET

from nbledger_domain.events import DomainEvent
from nbledger_domain.execution import REQUESTED_CAUSE, TERMINAL_EVENTS, Cause, Execution
from nbledger_domain.lineage.documents import STATES
from nbledger_domain.lineage.facts import EngineFacts, Fault, RunState
from nbledger_domain.vocabulary.termination import TerminationCode
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.event_store import RecordedEvent

_TERMINAL = frozenset(each.TYPE for each in TERMINAL_EVENTS)


class RunHistory:
    """Events of a run up to one that is told; of erased ones only that they were is known."""

    def __init__(self, rows: Sequence[RecordedEvent]) -> None:
        self._first, self._last = rows[0], rows[-1]
        self.attempts = sum(each.type == Execution.Claimed.TYPE for each in rows)
        self.requested: Execution.Requested | None = None
        self.engine: EngineFacts | None = None
        self.given: list[tuple[UUID, int]] = []
        self.written: list[tuple[UUID, int]] = []
        self._end: DomainEvent | None = None
        for row in rows:
            self._fold(decode(row))

    def _fold(self, event: DomainEvent | None) -> None:
        match event:
            case Execution.Requested():
                self.requested = event
                pinned = event.datasets or ()
                self.given = [(each.dataset_id, each.version) for each in pinned]
            case Execution.DatasetsGiven():
                self.given = [(each.dataset_id, each.version) for each in event.datasets]
            case Execution.Started():
                self.engine = _engine(event)
            case Execution.ArtifactStored():
                self._take_artifact(event)
            case _:
                self._end = event

    def _take_artifact(self, event: Execution.ArtifactStored) -> None:
        dataset_id = event.attributes.get("datasetId")
        number = event.attributes.get("datasetVersion")
        if event.kind != "dataset" or not isinstance(dataset_id, str):
            return
        if isinstance(number, int) and (place := (UUID(dataset_id), number)) not in self.written:
            self.written.append(place)

    @property
    def notebook_id(self) -> UUID:
        """The notebook, which the run's data is erased with."""
        return self._first.subject_id

    @property
    def at(self) -> datetime:
        """When the last of the events happened."""
        return self._last.occurred_at

    @property
    def requested_at(self) -> datetime:
        """When the run was asked for."""
        return self._first.occurred_at

    @property
    def ended(self) -> bool:
        """Whether the last of the events is the end."""
        return self._last.type in _TERMINAL

    @property
    def state(self) -> RunState:
        """The state that the last of the events brings about."""
        state = STATES[self._last.type]
        return "RUNNING" if state == "START" and self.attempts > 1 else state

    @property
    def cause(self) -> Cause | None:
        """Why there is a run; None where that is erased."""
        if self.requested is None:
            return None
        return REQUESTED_CAUSE if self.requested.cause is UNSET else self.requested.cause

    @property
    def tags(self) -> Sequence[str]:
        """The marks of the run."""
        return () if self.requested is None else self.requested.tags or ()

    @property
    def termination_code(self) -> str | None:
        """Why the run ended; None before, and where that is erased."""
        match self._end:
            case Execution.Completed():
                return TerminationCode.SUCCESS.value
            case Execution.KernelDied():
                return TerminationCode.KERNEL_DIED.value
            case Execution.Failed() | Execution.TimedOut() | Execution.Cancelled():
                return self._end.reason.value
            case _:
                return None

    def fault(self, executed: RecordedEvent | None) -> Fault | None:
        """Why the run failed; ``executed`` is the last of its cells that ended by an exception."""
        match self._end:
            case Execution.Failed() | Execution.TimedOut() | Execution.KernelDied():
                detail = self._end.detail
            case _:
                return None
        cell = None if executed is None else decode(executed)
        error = cell.error if isinstance(cell, Execution.CellExecuted) else None
        return Fault(detail, error if self.termination_code == TerminationCode.CELL_ERROR else None)


def _engine(event: Execution.Started) -> EngineFacts:
    if event.kernel is UNSET:
        return EngineFacts(
            name=event.language, version=event.language_version, language=event.language
        )
    return EngineFacts(
        name=event.kernel.implementation,
        version=event.kernel.implementation_version,
        language=event.language,
    )
