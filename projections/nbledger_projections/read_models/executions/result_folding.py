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
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.folding import Change, Fold
from nbledger_projections.read_models.executions.service_reports import is_own_report, is_print
from nbledger_projections.read_models.notebooks.folding import interrupted

OUTPUT_BYTES = 2_000
"""What is told of results counts as one more output for each so many bytes."""

STATUSES = {event.TYPE: ExecutionStatus.ERROR for event in TERMINAL_EVENTS} | {
    Execution.Completed.TYPE: ExecutionStatus.COMPLETED,
    Execution.Cancelled.TYPE: ExecutionStatus.CANCELLED,
}


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


def _requested(recorded: RecordedEvent, event: Execution.Requested) -> ResultsState:
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


def _cells(state: ResultsState, cell_id: str) -> list[CellOutputs]:
    """The cell, unless it is none of code."""
    return [cell for cell in state.results.cells if cell.cell_id == cell_id]


def _cell_started(state: ResultsState, _: RecordedEvent, event: Execution.CellStarted) -> None:
    for cell in _cells(state, event.cell_id):
        cell.status = CellStatus.RUNNING


def _truncated(state: ResultsState, _: RecordedEvent, event: Execution.OutputTruncated) -> None:
    for cell in _cells(state, event.cell_id):
        cell.truncated = True


def _shown(state: ResultsState, _: RecordedEvent, event: _OutputEvent) -> None:
    for cell in _cells(state, event.cell_id):
        cell.outputs = event.outputs
        cell.output_count = event.output_count
        cell.output_bytes = event.output_bytes
        if isinstance(event, Execution.CellExecuted):
            cell.status = event.status
            cell.execution_count = event.execution_count
            cell.error = event.error
        if not isinstance(event, Execution.OutputsSaved):
            cell.outputs_digest = event.outputs_digest


def _attempt_lost(state: ResultsState, _: RecordedEvent, event: Execution.AttemptLost) -> None:
    if event.restart:
        state.results = _anew(state.results)


def _warned(state: ResultsState, _: RecordedEvent, event: Execution.Warned) -> None:
    state.results.run_warnings.append(event.warning)


def _widgets_stored(state: ResultsState, _: RecordedEvent, event: Execution.WidgetsStored) -> None:
    state.results.widgets = event.content


def _artifact_stored(
    state: ResultsState, _: RecordedEvent, event: Execution.ArtifactStored
) -> None:
    _keep(state.results.artifacts, event)


def _metrics_logged(state: ResultsState, _: RecordedEvent, event: Execution.MetricsLogged) -> None:
    state.results.metrics |= event.metrics
    if event.cell_id is not msgspec.UNSET:
        of_cell = state.results.cell_metrics.setdefault(event.cell_id, {})
        of_cell |= event.metrics


def _ended(state: ResultsState, recorded: RecordedEvent, _: object) -> None:
    state.status = STATUSES[recorded.type]
    for cell in state.results.cells:
        if cell.status is CellStatus.RUNNING:
            cell.status = interrupted(recorded.type)
        elif cell.status is CellStatus.PENDING:
            cell.status = CellStatus.SKIPPED


def _anew(results: Results) -> Results:
    """What is known of a run before its next attempt."""
    return Results(
        [CellOutputs(cell.cell_id) for cell in results.cells],
        notebook_version=results.notebook_version,
        run_warnings=list(results.request_warnings),
        request_warnings=results.request_warnings,
    )


def _note(state: ResultsState, recorded: RecordedEvent) -> None:
    state.version = recorded.version
    state.updated_at = recorded.recorded_at


_CHANGES: dict[str, Change[ResultsState]] = {
    Execution.CellStarted.TYPE: _cell_started,
    Execution.CellExecuted.TYPE: _shown,
    Execution.OutputsSaved.TYPE: _shown,
    Execution.OutputsUpdated.TYPE: _shown,
    Execution.OutputTruncated.TYPE: _truncated,
    Execution.AttemptLost.TYPE: _attempt_lost,
    Execution.Warned.TYPE: _warned,
    Execution.WidgetsStored.TYPE: _widgets_stored,
    Execution.ArtifactStored.TYPE: _artifact_stored,
    Execution.MetricsLogged.TYPE: _metrics_logged,
    **dict.fromkeys(STATUSES, _ended),
}

fold = Fold(Execution.Requested, _requested, changes=_CHANGES, always=_note)
