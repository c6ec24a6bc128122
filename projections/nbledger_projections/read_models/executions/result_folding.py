"""From a run's events to its results."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from nbledger_domain.execution import (
    TERMINAL_EVENTS,
    ArtifactKind,
    CellError,
    CellStatus,
    Execution,
    ExecutionStatus,
    Output,
    Representation,
)
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.decoding import (
    REQUESTED,
    check_known,
    decode_as,
)
from nbledger_projections.read_models.executions.service_reports import is_own_report, is_print
from nbledger_projections.read_models.notebooks.folding import interrupted

OUTPUT_BYTES = 2_000
"""What is told of results counts as one more output for each so many bytes."""

STATUSES = {event.TYPE: ExecutionStatus.ERROR for event in TERMINAL_EVENTS} | {
    Execution.Completed.TYPE: ExecutionStatus.COMPLETED,
    Execution.Cancelled.TYPE: ExecutionStatus.CANCELLED,
}

TELLING = {
    REQUESTED,
    Execution.CellStarted.TYPE,
    Execution.CellExecuted.TYPE,
    Execution.OutputsSaved.TYPE,
    Execution.OutputsUpdated.TYPE,
    Execution.AttemptLost.TYPE,
    Execution.Warned.TYPE,
    Execution.OutputTruncated.TYPE,
    Execution.WidgetsStored.TYPE,
    Execution.ArtifactStored.TYPE,
    Execution.MetricsLogged.TYPE,
    *STATUSES,
}
"""Types of events that change a row."""


class CellOutputs(msgspec.Struct, rename="camel", omit_defaults=True):
    """What a cell has put out, and what is kept of it.

    ``output_count`` and ``output_bytes`` are of all that came, ``outputs_digest`` as well;
    ``truncated`` says that ``outputs`` are not all. Without output they are 0 and ``None``.
    """

    cell_id: str
    status: CellStatus = CellStatus.PENDING
    outputs: list[Output] = []
    output_count: int = 0
    output_bytes: int = 0
    outputs_digest: str | None = None
    truncated: bool = False
    execution_count: int | None = None
    error: CellError | None = None

    @property
    def kept_bytes(self) -> int:
        """Bytes of the outputs in all their forms."""
        return sum(form.size for output in self.outputs for form in output.representations)


class Artifact(msgspec.Struct, frozen=True, rename="camel"):
    """What the run produced as a file, and in ``attributes`` what is known of it."""

    kind: ArtifactKind
    name: str
    file_name: str
    content: Representation
    attributes: dict[str, Any]


class Results(msgspec.Struct, rename="camel"):
    """Everything that was kept: code cells in the order of the notebook, files, and figures.

    ``metrics`` are those of the run; ``cell_metrics`` has for each cell what it told itself.
    ``widgets`` is what widgets show, as notebooks have it in their metadata. ``run_warnings``
    begin with ``request_warnings``, which hold for every attempt.
    """

    cells: list[CellOutputs]
    artifacts: list[Artifact] = []
    metrics: dict[str, float] = {}
    cell_metrics: dict[str, dict[str, float]] = {}
    notebook_version: str = ""
    widgets: Representation | None = None
    run_warnings: list[str] = []
    request_warnings: list[str] = []


class ResultsState(msgspec.Struct):
    """A row."""

    execution_id: UUID
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    version: int
    updated_at: datetime
    status: str
    notebook_stream_version: int
    results: Results


def fold(state: ResultsState | None, recorded: RecordedEvent) -> ResultsState | None:
    """The state after ``recorded``; ``None`` when there is no such execution.

    Takes ``state`` over: the caller must not use it afterwards. Raises
    :class:`UnknownEventTypeError`.
    """
    check_known(recorded)
    if recorded.data is None:
        return state  # erased: the deletion follows
    if recorded.type == REQUESTED:
        state = _requested(recorded)
    elif state is None:
        return None
    elif recorded.type in TELLING:
        _tell(state, decode(recorded))
    state.version = recorded.version
    state.updated_at = recorded.recorded_at
    if recorded.type in STATUSES:
        state.status = STATUSES[recorded.type]
        for cell in state.results.cells:
            if cell.status is CellStatus.RUNNING:
                cell.status = interrupted(recorded.type)
            elif cell.status is CellStatus.PENDING:
                cell.status = CellStatus.SKIPPED
    return state


def _requested(recorded: RecordedEvent) -> ResultsState:
    event = decode_as(Execution.Requested, recorded)
    warnings = event.warnings or []
    return ResultsState(
        execution_id=recorded.stream_id,
        notebook_id=recorded.subject_id,
        tenant_id=recorded.tenant_id,
        project_id=recorded.project_id,
        version=recorded.version,
        updated_at=recorded.recorded_at,
        status=ExecutionStatus.RUNNING,
        notebook_stream_version=event.notebook_stream_version,
        results=Results(
            [CellOutputs(cell.cell_id) for cell in event.cells if cell.cell_type == "code"],
            notebook_version=event.notebook_version,
            run_warnings=list(warnings),
            request_warnings=list(warnings),
        ),
    )


def _tell(state: ResultsState, event: object) -> None:
    if isinstance(event, _OF_CELLS):
        for cell in state.results.cells:
            if cell.cell_id == event.cell_id:
                _tell_cell(cell, event)
    elif isinstance(event, Execution.AttemptLost):
        state.results = _anew(state.results) if event.restart else state.results
    elif isinstance(event, Execution.Warned):
        state.results.run_warnings.append(event.warning)
    elif isinstance(event, Execution.WidgetsStored):
        state.results.widgets = event.content
    elif isinstance(event, Execution.ArtifactStored):
        _keep(state.results.artifacts, event)
    elif isinstance(event, Execution.MetricsLogged):
        state.results.metrics |= event.metrics
        if event.cell_id is not msgspec.UNSET:
            of_cell = state.results.cell_metrics.setdefault(event.cell_id, {})
            of_cell |= event.metrics


def _keep(artifacts: list[Artifact], event: Execution.ArtifactStored) -> None:
    """Add a file; the run's own report printed is another form of that report."""
    if is_print(event):
        for place, artifact in enumerate(artifacts):
            if artifact.kind == "report" and is_own_report(artifact.attributes):
                artifacts[place] = _with_form(artifact, event)
                return
    artifacts.append(
        Artifact(event.kind, event.name, event.file_name, event.content, event.attributes)
    )


def _with_form(artifact: Artifact, event: Execution.ArtifactStored) -> Artifact:
    further = {
        "role": event.attributes["format"],
        "fileName": event.file_name,
        "contentType": event.content.content_type,
        "digest": event.content.digest,
        "size": event.content.size,
    }
    before = artifact.attributes.get("alternatives", [])
    attributes = {**artifact.attributes, "alternatives": [*before, further]}
    return msgspec.structs.replace(artifact, attributes=attributes)


_OutputEvent = Execution.CellExecuted | Execution.OutputsSaved | Execution.OutputsUpdated

_OF_CELLS = _OutputEvent | Execution.CellStarted | Execution.OutputTruncated


def _tell_cell(
    cell: CellOutputs, event: _OutputEvent | Execution.CellStarted | Execution.OutputTruncated
) -> None:
    if isinstance(event, Execution.CellStarted):
        cell.status = CellStatus.RUNNING
        return
    if isinstance(event, Execution.OutputTruncated):
        cell.truncated = True
        return
    cell.outputs = event.outputs
    cell.output_count = event.output_count
    cell.output_bytes = event.output_bytes
    if isinstance(event, Execution.CellExecuted):
        cell.status = event.status
        cell.execution_count = event.execution_count
        cell.error = event.error
    if not isinstance(event, Execution.OutputsSaved):
        cell.outputs_digest = event.outputs_digest


def _anew(results: Results) -> Results:
    """What is known of a run before its next attempt."""
    return Results(
        [CellOutputs(cell.cell_id) for cell in results.cells],
        notebook_version=results.notebook_version,
        run_warnings=list(results.request_warnings),
        request_warnings=results.request_warnings,
    )
