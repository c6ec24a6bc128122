"""The notebook as the API shows it: one row each, folded from its own and its runs' events."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain import semver
from nbledger_domain.cells import Cell
from nbledger_domain.execution import TERMINAL_EVENTS, CellStatus, Execution
from nbledger_domain.input_files import InputFile
from nbledger_domain.notebook import Environment, Integration, Notebook
from nbledger_infrastructure.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.event_store import RecordedEvent
from nbledger_projections import fresh
from nbledger_projections.activity import OUTCOMES, Activity, NotebookStatus
from nbledger_projections.decoding import (
    CREATED,
    DELETED,
    apply,
    check_known,
    decode_as,
    is_execution,
)
from nbledger_projections.rows import Rows
from nbledger_projections.words import timestamp

NAME = "notebook_details"


class IntegrationDocument(msgspec.Struct, rename="camel"):
    """How the notebook takes part in data enrichment, every member told."""

    enrichment_mode: bool
    dataset_binding: str | None
    output_format: str | None
    auto_execution: bool
    schedule_execution: str | UnsetType = UNSET


class CellDocument(msgspec.Struct, rename="camel"):
    """A cell; what a run leaves behind is told of code cells only."""

    cell_id: str
    cell_type: str
    content: str
    metadata: dict[str, Any]
    attachments: dict[str, Any] | UnsetType = UNSET
    execution_count: int | UnsetType | None = UNSET
    has_output: bool | UnsetType = UNSET
    last_executed: str | UnsetType | None = UNSET
    execution_status: str | UnsetType | None = UNSET
    last_modified: str | None = None


class EnvironmentDocument(msgspec.Struct, rename="camel"):
    """What the code expects to import, and the Python that last ran it."""

    python_version: str | UnsetType = UNSET
    packages: list[str] = []
    custom_libraries: list[str] = []


class FileDocument(msgspec.Struct, rename="camel"):
    """An input file: its path below the notebook's folder, and the SHA-256 of its bytes.

    `executable` is there, and true, where runs get it as a program.
    """

    path: str
    content_type: str
    size: int
    digest: str
    date_modified: str
    executable: bool | UnsetType = UNSET


class NotebookDocument(msgspec.Struct, rename="camel"):
    """The body that ``GET …/notebook/{notebookId}`` answers with."""

    notebook_id: str
    project_id: str
    notebook_name: str
    notebook_description: str
    notebook_version: str
    kernel_type: str
    template: str | None
    status: str
    integration: IntegrationDocument
    cells: list[CellDocument]
    environment: EnvironmentDocument
    date_created: str
    date_modified: str
    created_by: str
    last_execution_date: str | None
    execution_count: int
    files: list[FileDocument] = []


class NotebookState(msgspec.Struct):
    """A row: the document, and what folding on needs besides."""

    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    position: int
    stream_version: int
    modified_at: datetime
    deletion_requested: bool
    document: NotebookDocument
    activity: Activity


class NotebookView(msgspec.Struct, frozen=True):
    """A notebook as it is at this moment.

    ``document`` is the JSON body. ``position`` is that of the last event of the notebook or
    its executions, ``stream_version`` counts the notebook's own events, ``modified_at`` is
    when any of them was recorded last. ``running`` counts executions under way.
    """

    notebook_id: UUID
    document: bytes
    position: int
    stream_version: int
    modified_at: datetime
    deletion_requested: bool
    running: int


def fold(state: NotebookState | None, recorded: RecordedEvent) -> NotebookState | None:
    """The state after ``recorded``; ``None`` when there is no such notebook (any more).

    Takes ``state`` over: the caller must not use it afterwards. Raises
    :class:`UnknownEventTypeError`.
    """
    check_known(recorded)
    if recorded.type == DELETED:
        return None
    if recorded.data is None:
        return state  # erased: the deletion follows
    if recorded.type == CREATED:
        state = _created(recorded)
    elif state is None:
        return None
    else:
        apply(_HANDLERS, state, recorded)
    state.position = recorded.position
    state.modified_at = recorded.recorded_at
    if not is_execution(recorded):
        state.stream_version = recorded.version
        state.document.date_modified = timestamp(recorded.occurred_at)
    state.document.status = state.activity.status
    return state


def _created(recorded: RecordedEvent) -> NotebookState:
    event = decode_as(Notebook.Created, recorded)
    at = timestamp(event.timestamp)
    return NotebookState(
        notebook_id=recorded.stream_id,
        tenant_id=recorded.tenant_id,
        project_id=recorded.project_id,
        position=0,
        stream_version=0,
        modified_at=recorded.recorded_at,
        deletion_requested=False,
        activity=Activity(),
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


_Handler = Callable[[NotebookState, RecordedEvent, Any], None]

_HANDLERS: dict[str, _Handler] = {
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
    **{event.TYPE: _ended for event in TERMINAL_EVENTS},
}


_document_decoder = msgspec.json.Decoder(NotebookDocument)
_activity_decoder = msgspec.json.Decoder(Activity)
_encode = msgspec.json.Encoder().encode

_ROW = (
    "notebook_id, tenant_id, project_id, position, stream_version, modified_at, "
    "deletion_requested, running, document, activity"
)

_LOAD = f"SELECT {_ROW} FROM notebook_details WHERE notebook_id = ANY($1)"  # noqa: S608 (constants)

_SAVE = f"""
INSERT INTO notebook_details ({_ROW})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::integer[], $6::timestamptz[],
    $7::boolean[], $8::integer[], $9::json[], $10::json[]
)
ON CONFLICT (notebook_id) DO UPDATE SET
    position = excluded.position, stream_version = excluded.stream_version,
    modified_at = excluded.modified_at, deletion_requested = excluded.deletion_requested,
    running = excluded.running, document = excluded.document, activity = excluded.activity
"""  # noqa: S608 (constants)

_DELETE = "DELETE FROM notebook_details WHERE notebook_id = ANY($1)"

_GET = fresh.query(
    _ROW,
    f"""(
        SELECT {_ROW} FROM notebook_details
        WHERE notebook_id = $3 AND tenant_id = $1 AND project_id = $2
    )""",  # noqa: S608 (constants)
    events="""
        e.subject_id = $3 AND e.tenant_id = $1 AND e.project_id = $2
        AND e.position > coalesce(d.position, 0)
    """,
    order="position",
)


class NotebookDetailsProjection:
    """The projection that keeps table ``notebook_details``."""

    name: ClassVar[str] = NAME
    tables: ClassVar[tuple[str, ...]] = ("notebook_details",)

    def __init__(self) -> None:
        self._rows: Rows[NotebookState] = Rows()

    async def load(self, connection: PooledConnection, events: Sequence[RecordedEvent]) -> None:
        """Bring the rows that ``events`` change into memory."""
        keys = self._rows.missing(recorded.subject_id for recorded in events)
        new = {recorded.subject_id for recorded in events if recorded.type == CREATED}
        known = [key for key in keys if key not in new]
        found = await connection.fetch(_LOAD, known) if known else []
        self._rows.fill(keys, {row["notebook_id"]: _state(row) for row in found})

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""
        before = self._rows.get(recorded.subject_id)
        after = fold(before, recorded)
        if after is not None or before is not None:
            self._rows.put(recorded.subject_id, after)

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        written, deleted = self._rows.changes()
        if written:
            await connection.execute(_SAVE, *_columns(written))
        if deleted:
            await connection.execute(_DELETE, deleted)

    def settle(self) -> None:
        """What was saved is committed."""
        self._rows.settle()

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""
        self._rows.clear()


async def get(
    pool: Pool, tenant_id: UUID, project_id: UUID, notebook_id: UUID
) -> NotebookView | None:
    """The notebook as of now; ``None`` when there is none in this tenant and project."""
    async with acquire(pool) as connection:
        found = await connection.fetch(_GET, tenant_id, project_id, notebook_id)
    row, news = fresh.split(_ROW, found)
    if not news:
        return None if row is None else _stored_view(row)
    state = None if row is None else _state(row)
    for recorded in news:
        state = fold(state, recorded)
    if state is None:
        return None
    return NotebookView(
        notebook_id=state.notebook_id,
        document=_encode(state.document),
        position=state.position,
        stream_version=state.stream_version,
        modified_at=state.modified_at,
        deletion_requested=state.deletion_requested,
        running=len(state.activity.running),
    )


def _stored_view(row: asyncpg.Record) -> NotebookView:
    return NotebookView(
        notebook_id=row["notebook_id"],
        document=row["document"].encode(),
        position=row["position"],
        stream_version=row["stream_version"],
        modified_at=row["modified_at"],
        deletion_requested=row["deletion_requested"],
        running=row["running"],
    )


def _state(row: asyncpg.Record) -> NotebookState:
    return NotebookState(
        notebook_id=row["notebook_id"],
        tenant_id=row["tenant_id"],
        project_id=row["project_id"],
        position=row["position"],
        stream_version=row["stream_version"],
        modified_at=row["modified_at"],
        deletion_requested=row["deletion_requested"],
        document=_document_decoder.decode(row["document"]),
        activity=_activity_decoder.decode(row["activity"]),
    )


def _columns(states: Sequence[NotebookState]) -> tuple[list[Any], ...]:
    """The states as the arrays that ``_SAVE`` takes."""
    return (
        [state.notebook_id for state in states],
        [state.tenant_id for state in states],
        [state.project_id for state in states],
        [state.position for state in states],
        [state.stream_version for state in states],
        [state.modified_at for state in states],
        [state.deletion_requested for state in states],
        [len(state.activity.running) for state in states],
        [_encode(state.document).decode() for state in states],
        [_encode(state.activity).decode() for state in states],
    )
