"""The status of an execution as a function of its events."""

from msgspec import UNSET

from nbledger_domain.execution import (
    REQUESTED_CAUSE,
    CellStatus,
    Execution,
    ExecutionStatus,
    Phase,
    Resources,
    TerminationCode,
)
from nbledger_domain.execution.usual_durations import Runs, likely, span
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.folding import Change, Fold
from nbledger_projections.read_models.executions.documents import (
    AttemptDocument,
    CellResultDocument,
    EnrichedDataDocument,
    ErrorDocument,
    ExecutionDocument,
    OutputsDocument,
    ProgressDocument,
    ResourcesDocument,
    RunEnvironmentDocument,
)
from nbledger_projections.read_models.executions.resources import added_up, resources_document
from nbledger_projections.read_models.executions.service_reports import is_print
from nbledger_projections.read_models.executions.state import ExecutionRow
from nbledger_projections.read_models.humanize import Duration, Estimate, timestamp
from nbledger_projections.read_models.media_types import OutputKind, kind_of
from nbledger_projections.read_models.notebooks.folding import interrupted

_DONE = frozenset({CellStatus.SUCCESS, CellStatus.ERROR, CellStatus.TIMED_OUT, CellStatus.SKIPPED})
_FAILED = frozenset({CellStatus.ERROR, CellStatus.TIMED_OUT})


def duration(state: ExecutionRow, terminal: RecordedEvent) -> float:
    """Seconds from acceptance to the end."""
    return (terminal.occurred_at - state.started_at).total_seconds()


def _requested(
    recorded: RecordedEvent, event: Execution.Requested, *, earlier: Runs | None = None
) -> ExecutionRow:
    estimated = likely((earlier or {}).get(span(event.cell_range), ()))
    warnings = event.warnings or []
    return ExecutionRow(
        execution_id=recorded.stream_id,
        notebook_id=recorded.subject_id,
        tenant_id=recorded.tenant_id,
        project_id=recorded.project_id,
        position=recorded.position,
        version=recorded.version,
        requested_position=recorded.position,
        updated_at=recorded.recorded_at,
        started_at=recorded.occurred_at,
        silent=[cell.cell_id for cell in event.cells if cell.cell_type != "code"],
        request_warnings=warnings,
        document=ExecutionDocument(
            execution_id=str(recorded.stream_id),
            notebook_id=str(recorded.subject_id),
            notebook_version=event.notebook_version,
            kernel_type=event.kernel_type,
            status=ExecutionStatus.RUNNING,
            phase=Phase.QUEUED,
            start_time=timestamp(recorded.occurred_at),
            estimated_duration=UNSET if estimated is None else Estimate(estimated),
            progress=ProgressDocument(total_cells=len(event.cells)),
            parameters=event.parameters,
            cell_range=event.cell_range or UNSET,
            cell_results=[
                CellResultDocument(cell_id=cell.cell_id, status=CellStatus.PENDING)
                for cell in event.cells
            ],
            outputs=OutputsDocument(),
            resources=ResourcesDocument(),
            attempts=0,
            attempt_history=[],
            requested_by=event.requested_by,
            tags=event.tags or UNSET,
            cause=event.cause or REQUESTED_CAUSE,
            priority=event.options.priority,
            timeout=_plain(event.options.timeout),
            cell_timeout=(
                UNSET if event.options.cell_timeout is None else _plain(event.options.cell_timeout)
            ),
            continue_on_error=event.options.continue_on_error,
            retry_policy=event.options.retry_policy or UNSET,
            cancel_requested=False,
            run_warnings=list(warnings),
        ),
    )


def _plain(number: float) -> int | float:
    """A whole number without a fraction, as it was most likely given."""
    return int(number) if number.is_integer() else number


def _claimed(state: ExecutionRow, recorded: RecordedEvent, event: Execution.Claimed) -> None:
    state.document.attempts = event.epoch
    state.document.attempt_history.append(
        AttemptDocument(
            attempt=event.epoch,
            worker_id=event.worker_id,
            start_time=timestamp(recorded.occurred_at),
            outcome=ExecutionStatus.RUNNING,
        )
    )
    state.document.phase = Phase.STARTING


def _environment_progressed(
    state: ExecutionRow, _: RecordedEvent, event: Execution.EnvironmentProgressed
) -> None:
    state.document.environment = RunEnvironmentDocument(event.stage, event.packages)
    state.document.phase = Phase.STARTING if event.stage == "ready" else Phase.PROVISIONING


def _warned(state: ExecutionRow, _: RecordedEvent, event: Execution.Warned) -> None:
    state.document.run_warnings.append(event.warning)


def _started(state: ExecutionRow, _: RecordedEvent, __: object) -> None:
    state.document.phase = Phase.EXECUTING


def _end_attempt(
    state: ExecutionRow, recorded: RecordedEvent, code: TerminationCode, detail: str = ""
) -> None:
    """Say how the attempt under way has ended, if there is one."""
    history = state.document.attempt_history
    if history and history[-1].end_time is UNSET:
        history[-1].end_time = timestamp(recorded.occurred_at)
        history[-1].outcome = code
        history[-1].detail = detail or UNSET


def _attempt_lost(
    state: ExecutionRow, recorded: RecordedEvent, event: Execution.AttemptLost
) -> None:
    _end_attempt(state, recorded, event.code, event.reason)
    if not event.restart:
        return
    document = state.document
    document.phase = Phase.QUEUED
    document.environment = UNSET
    document.run_warnings = list(state.request_warnings)
    document.metrics = UNSET
    document.progress = ProgressDocument(total_cells=document.progress.total_cells)
    document.cell_results = [
        CellResultDocument(cell_id=cell.cell_id, status=CellStatus.PENDING)
        for cell in document.cell_results
    ]
    document.outputs = OutputsDocument()


def _cancel_requested(state: ExecutionRow, _: RecordedEvent, __: object) -> None:
    state.document.cancel_requested = True


def _cell_started(state: ExecutionRow, _: RecordedEvent, event: Execution.CellStarted) -> None:
    _pass_silent(state, before=event.cell_id)
    index = state.places.of(event.cell_id)
    if index is not None:
        state.document.cell_results[index].status = CellStatus.RUNNING
        state.places.started(index)


def _cell_executed(state: ExecutionRow, _: RecordedEvent, event: Execution.CellExecuted) -> None:
    _pass_silent(state, before=event.cell_id)
    cell = _find(state, event.cell_id)
    if cell is None:
        return
    cell.execution_time = Duration(event.duration)
    if event.error is not None:
        cell.error_type = event.error.error_type
        cell.error_message = event.error.error_message
    if event.resources is not None:
        cell.resources = resources_document(event.resources)
    _finish(state, cell, event.status)
    _show(state, cell, event)


def _outputs_changed(
    state: ExecutionRow,
    _: RecordedEvent,
    event: Execution.OutputsSaved | Execution.OutputsUpdated,
) -> None:
    cell = _find(state, event.cell_id)
    if cell is not None:
        _show(state, cell, event)


def _show(
    state: ExecutionRow,
    cell: CellResultDocument,
    event: Execution.CellExecuted | Execution.OutputsSaved | Execution.OutputsUpdated,
) -> None:
    """What the cell shows now, in place of what it showed before."""
    cell.has_output = event.output_count > 0
    cell.output_type = event.outputs[0].output_type if event.outputs else UNSET
    kinds = [kind_of(output) for output in event.outputs]
    tables, plots = kinds.count(OutputKind.TABLE), sum(kind.is_plot for kind in kinds)
    totals = state.document.outputs
    totals.data_frames += tables - (cell.data_frames or 0)
    totals.plots += plots - (cell.plots or 0)
    cell.data_frames, cell.plots = tables or UNSET, plots or UNSET


def _artifact_stored(
    state: ExecutionRow, _: RecordedEvent, event: Execution.ArtifactStored
) -> None:
    outputs = state.document.outputs
    if event.kind == "model":
        outputs.models += 1
    elif event.kind == "report":
        outputs.reports += not is_print(event)
    elif event.kind == "file":
        outputs.files += 1
    elif event.kind == "dataset":
        before = outputs.enriched_data or EnrichedDataDocument(0, [])
        outputs.enriched_data = added_up(before.datasets, event)


def _metrics_logged(state: ExecutionRow, _: RecordedEvent, event: Execution.MetricsLogged) -> None:
    state.document.metrics = {**(state.document.metrics or {}), **event.metrics}


def _completed(state: ExecutionRow, recorded: RecordedEvent, event: Execution.Completed) -> None:
    _pass_silent(state)
    _end(state, recorded, ExecutionStatus.COMPLETED, TerminationCode.SUCCESS, event.resources)


def _failed(
    state: ExecutionRow, recorded: RecordedEvent, event: Execution.Failed | Execution.TimedOut
) -> None:
    _fail(state, recorded, event.reason, event.detail, event.resources)


def _kernel_died(state: ExecutionRow, recorded: RecordedEvent, event: Execution.KernelDied) -> None:
    _fail(state, recorded, TerminationCode.KERNEL_DIED, event.detail, event.resources)


def _cancelled(state: ExecutionRow, recorded: RecordedEvent, event: Execution.Cancelled) -> None:
    _end(state, recorded, ExecutionStatus.CANCELLED, event.reason, event.resources)


def _fail(
    state: ExecutionRow,
    recorded: RecordedEvent,
    code: TerminationCode,
    detail: str,
    resources: Resources,
) -> None:
    state.document.error = ErrorDocument(code, detail)
    for cell in state.document.cell_results:
        if cell.status == CellStatus.RUNNING:
            cell.error_type = code
            cell.error_message = detail
    _end(state, recorded, ExecutionStatus.ERROR, code, resources)


def _end(
    state: ExecutionRow,
    recorded: RecordedEvent,
    status: ExecutionStatus,
    code: TerminationCode,
    resources: Resources,
) -> None:
    document = state.document
    for cell in document.cell_results:
        if cell.status == CellStatus.RUNNING:
            _finish(state, cell, interrupted(recorded.type))
        elif cell.status == CellStatus.PENDING:
            cell.status = CellStatus.SKIPPED
    _end_attempt(state, recorded, code, document.error.detail if document.error else "")
    document.status = status
    document.phase = UNSET
    document.termination_code = code
    document.termination_category = code.category
    document.end_time = timestamp(recorded.occurred_at)
    document.total_duration = Duration(duration(state, recorded))
    document.current_cell = UNSET
    document.progress.current_cell_index = UNSET
    document.resources = resources_document(resources)


def _finish(state: ExecutionRow, cell: CellResultDocument, status: CellStatus) -> None:
    """Set the status that the cell keeps, and count it."""
    cell.status = status
    progress = state.document.progress
    progress.completed_cells += status in _DONE
    progress.successful_cells += status == CellStatus.SUCCESS
    progress.failed_cells += status in _FAILED
    # Half up: round() would take 12.5 to 12.
    progress.percent_complete = (200 * progress.completed_cells + progress.total_cells) // (
        2 * progress.total_cells
    )


def _pass_silent(state: ExecutionRow, *, before: str | None = None) -> None:
    """Let cells that go to no kernel succeed: those ``before`` a cell, or all."""
    places = state.places
    if not places.silent:
        return
    end = None if before is None else places.of(before)
    for index in range(places.pending, len(places.cells) if end is None else end):
        cell = places.cells[index]
        if cell.cell_id in places.silent and cell.status == CellStatus.PENDING:
            cell.execution_time = Duration(0.0)
            _finish(state, cell, CellStatus.SUCCESS)


def _note(state: ExecutionRow, recorded: RecordedEvent) -> None:
    state.position = recorded.position
    state.version = recorded.version
    state.updated_at = recorded.recorded_at
    if recorded.type in _MOVING and not state.ended:
        _point_at_current(state)


def _point_at_current(state: ExecutionRow) -> None:
    """Tell where the run is: at the running cell, else at the first one that waits."""
    document, places = state.document, state.places
    index = places.pending if places.running is None else places.running
    if index < len(places.cells):
        document.progress.current_cell_index = index + 1
        document.current_cell = places.cells[index].cell_id
    else:
        document.progress.current_cell_index = document.progress.total_cells
        document.current_cell = None


def _find(state: ExecutionRow, cell_id: str) -> CellResultDocument | None:
    index = state.places.of(cell_id)
    return None if index is None else state.document.cell_results[index]


_MOVING = frozenset(
    event.TYPE
    for event in (
        Execution.Requested,
        Execution.CellStarted,
        Execution.CellExecuted,
        Execution.AttemptLost,
    )
)
"""Events that may change where the run is."""

_CHANGES: dict[str, Change[ExecutionRow]] = {
    Execution.Claimed.TYPE: _claimed,
    Execution.EnvironmentProgressed.TYPE: _environment_progressed,
    Execution.Warned.TYPE: _warned,
    Execution.Started.TYPE: _started,
    Execution.CellStarted.TYPE: _cell_started,
    Execution.CellExecuted.TYPE: _cell_executed,
    Execution.OutputsSaved.TYPE: _outputs_changed,
    Execution.OutputsUpdated.TYPE: _outputs_changed,
    Execution.ArtifactStored.TYPE: _artifact_stored,
    Execution.MetricsLogged.TYPE: _metrics_logged,
    Execution.CancelRequested.TYPE: _cancel_requested,
    Execution.AttemptLost.TYPE: _attempt_lost,
    Execution.Completed.TYPE: _completed,
    Execution.Failed.TYPE: _failed,
    Execution.TimedOut.TYPE: _failed,
    Execution.KernelDied.TYPE: _kernel_died,
    Execution.Cancelled.TYPE: _cancelled,
}

fold = Fold(Execution.Requested, _requested, changes=_CHANGES, always=_note)
"""A new execution is estimated by how long ``earlier`` runs of the notebook took."""
