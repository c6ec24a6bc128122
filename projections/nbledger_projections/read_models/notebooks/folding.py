"""From a notebook's events, and those of its runs, to its document."""

from msgspec import UNSET

from nbledger_domain import semver
from nbledger_domain.cells import Cell
from nbledger_domain.execution import TERMINAL_EVENTS, CellStatus, Execution
from nbledger_domain.input_files import InputFile
from nbledger_domain.notebook import Environment, Integration, Notebook
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.decoding import is_execution
from nbledger_projections.machinery.folding import Change, Fold
from nbledger_projections.read_models.humanize import timestamp
from nbledger_projections.read_models.notebooks.activity import (
    OUTCOMES,
    NotebookActivity,
    NotebookStatus,
)
from nbledger_projections.read_models.notebooks.documents import (
    CellDocument,
    EnvironmentDocument,
    FileDocument,
    IntegrationDocument,
    NotebookDocument,
    NotebookState,
)


def _note(state: NotebookState, recorded: RecordedEvent) -> None:
    state.position = recorded.position
    state.modified_at = recorded.recorded_at
    if not is_execution(recorded):
        state.stream_version = recorded.version
        state.document.date_modified = timestamp(recorded.occurred_at)
    state.document.status = state.activity.status


def _created(recorded: RecordedEvent, event: Notebook.Created) -> NotebookState:
    at = timestamp(event.timestamp)
    return NotebookState(
        notebook_id=recorded.stream_id,
        tenant_id=recorded.tenant_id,
        project_id=recorded.project_id,
        position=0,
        stream_version=0,
        modified_at=recorded.recorded_at,
        deletion_requested=False,
        activity=NotebookActivity(),
        document=NotebookDocument(
            notebook_id=str(recorded.stream_id),
            project_id=str(recorded.project_id),
            notebook_name=event.name,
            notebook_description=event.description,
            notebook_version=semver.INITIAL,
            kernel_type=event.kernel_type,
            template=event.template,
            status=NotebookStatus.READY,
            integration=_integration(event.integration),
            cells=[_cell(cell) for cell in event.cells],
            environment=_environment(event.environment),
            date_created=at,
            date_modified=at,
            created_by=event.created_by,
            last_execution_date=None,
            execution_count=0,
        ),
    )


def _integration(integration: Integration) -> IntegrationDocument:
    return IntegrationDocument(
        enrichment_mode=integration.enrichment_mode,
        dataset_binding=integration.dataset_binding,
        output_format=integration.output_format,
        auto_execution=integration.auto_execution,
        schedule_execution=integration.schedule_execution or UNSET,
        max_concurrent_runs=integration.max_concurrent_runs or UNSET,
    )


def _environment(environment: Environment) -> EnvironmentDocument:
    return EnvironmentDocument(
        packages=environment.packages, custom_libraries=environment.custom_libraries
    )


def _cell(cell: Cell, before: CellDocument | None = None) -> CellDocument:
    """A cell as it is written; with what a run of it ``before`` the change has left behind."""
    document = CellDocument(
        cell_id=cell.cell_id,
        cell_type=cell.cell_type,
        content=cell.source,
        metadata=cell.metadata,
        attachments=UNSET if cell.attachments is None else cell.attachments,
        last_modified=None if cell.modified_at is None else timestamp(cell.modified_at),
    )
    if cell.cell_type == "code":
        if before is not None and before.cell_type == "code":
            document.execution_count = before.execution_count
            document.has_output = before.has_output
            document.last_executed = before.last_executed
            document.execution_status = before.execution_status
        else:
            document.execution_count = cell.execution_count
            document.has_output = cell.outputs is not None and cell.outputs.count > 0
            document.last_executed = None
            document.execution_status = None
    return document


def _renamed(state: NotebookState, _: RecordedEvent, event: Notebook.Renamed) -> None:
    state.document.notebook_name = event.name


def _described(state: NotebookState, _: RecordedEvent, event: Notebook.Described) -> None:
    state.document.notebook_description = event.description


def _integration_configured(
    state: NotebookState, _: RecordedEvent, event: Notebook.IntegrationConfigured
) -> None:
    state.document.integration = _integration(event.integration)


def _environment_configured(
    state: NotebookState, _: RecordedEvent, event: Notebook.EnvironmentConfigured
) -> None:
    python_version = state.document.environment.python_version
    state.document.environment = _environment(event.environment)
    state.document.environment.python_version = python_version


def _cells_updated(state: NotebookState, _: RecordedEvent, event: Notebook.CellsUpdated) -> None:
    before = {cell.cell_id: cell for cell in state.document.cells}
    state.document.cells = [_cell(cell, before.get(cell.cell_id)) for cell in event.cells]


def file_document(file: InputFile) -> FileDocument:
    """What is told of an input file."""
    assert file.modified_at is not None  # noqa: S101 (what is recorded has it)
    return FileDocument(
        path=file.path,
        content_type=file.content_type,
        size=file.size,
        digest=file.digest,
        date_modified=timestamp(file.modified_at),
        executable=file.executable,
    )


def _files_put(state: NotebookState, _: RecordedEvent, event: Notebook.FilesPut) -> None:
    files = {file.path: file for file in state.document.files}
    files |= {file.path: file_document(file) for file in event.files}
    state.document.files = [files[path] for path in sorted(files)]


def _files_removed(state: NotebookState, _: RecordedEvent, event: Notebook.FilesRemoved) -> None:
    gone = set(event.paths)
    state.document.files = [file for file in state.document.files if file.path not in gone]


def _version_bumped(state: NotebookState, _: RecordedEvent, event: Notebook.VersionBumped) -> None:
    state.document.notebook_version = event.notebook_version


def _deletion_requested(state: NotebookState, _: RecordedEvent, __: object) -> None:
    state.deletion_requested = True


def _requested(state: NotebookState, recorded: RecordedEvent, _: object) -> None:
    state.activity.running[str(recorded.stream_id)] = None
    state.document.execution_count += 1
    state.document.last_execution_date = timestamp(recorded.occurred_at)


def _started(state: NotebookState, _: RecordedEvent, event: Execution.Started) -> None:
    if event.language == "python":
        state.document.environment.python_version = event.language_version


def _cell_started(
    state: NotebookState, recorded: RecordedEvent, event: Execution.CellStarted
) -> None:
    state.activity.running[str(recorded.stream_id)] = event.cell_id
    cell = _code_cell(state, event.cell_id)
    if cell is not None:
        cell.execution_status = CellStatus.RUNNING


def _cell_executed(
    state: NotebookState, recorded: RecordedEvent, event: Execution.CellExecuted
) -> None:
    if event.status == CellStatus.SKIPPED:
        return  # it has not run
    state.activity.running[str(recorded.stream_id)] = None
    cell = _code_cell(state, event.cell_id)
    if cell is not None:
        cell.execution_status = event.status
        cell.last_executed = timestamp(recorded.occurred_at)
        cell.has_output = event.output_count > 0
        if event.execution_count is not None:
            cell.execution_count = event.execution_count


def _outputs_changed(
    state: NotebookState,
    _: RecordedEvent,
    event: Execution.OutputsSaved | Execution.OutputsUpdated,
) -> None:
    cell = _code_cell(state, event.cell_id)
    if cell is not None:
        cell.has_output = event.output_count > 0


def _ended(state: NotebookState, recorded: RecordedEvent, _: object) -> None:
    cell_id = state.activity.running.pop(str(recorded.stream_id), None)
    state.activity.outcome = OUTCOMES[recorded.type]
    cell = None if cell_id is None else _code_cell(state, cell_id)
    if cell is not None:
        cell.execution_status = interrupted(recorded.type)
        cell.last_executed = timestamp(recorded.occurred_at)


def interrupted(terminal_type: str) -> CellStatus:
    """What becomes of a cell that was running when its execution ended with this event."""
    if terminal_type == Execution.Cancelled.TYPE:
        return CellStatus.CANCELLED
    if terminal_type == Execution.TimedOut.TYPE:
        return CellStatus.TIMED_OUT
    return CellStatus.ERROR


def _code_cell(state: NotebookState, cell_id: str) -> CellDocument | None:
    for cell in state.document.cells:
        if cell.cell_id == cell_id:
            return cell if cell.cell_type == "code" else None
    return None  # removed since the run was asked for


_CHANGES: dict[str, Change[NotebookState]] = {
    Notebook.Renamed.TYPE: _renamed,
    Notebook.Described.TYPE: _described,
    Notebook.IntegrationConfigured.TYPE: _integration_configured,
    Notebook.EnvironmentConfigured.TYPE: _environment_configured,
    Notebook.CellsUpdated.TYPE: _cells_updated,
    Notebook.FilesPut.TYPE: _files_put,
    Notebook.FilesRemoved.TYPE: _files_removed,
    Notebook.VersionBumped.TYPE: _version_bumped,
    Notebook.DeletionRequested.TYPE: _deletion_requested,
    Execution.Requested.TYPE: _requested,
    Execution.Started.TYPE: _started,
    Execution.CellStarted.TYPE: _cell_started,
    Execution.CellExecuted.TYPE: _cell_executed,
    Execution.OutputsSaved.TYPE: _outputs_changed,
    Execution.OutputsUpdated.TYPE: _outputs_changed,
    **{event.TYPE: _ended for event in TERMINAL_EVENTS},
}

fold = Fold(Notebook.Created, _created, changes=_CHANGES, deleted=Notebook.Deleted, always=_note)
