"""Items of the list of notebooks, folded from events."""

from uuid import UUID

import msgspec

from nbledger_domain.execution import Execution
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.folding import Change, Fold
from nbledger_projections.read_models.humanize import timestamp
from nbledger_projections.read_models.notebooks.activity import (
    OUTCOMES,
    NotebookActivity,
    NotebookStatus,
)


class NotebookItemDocument(msgspec.Struct, rename="camel"):
    """An element of ``notebooks`` in the answer to ``GET …/notebooks``."""

    notebook_id: str
    notebook_name: str
    kernel_type: str
    status: str
    enrichment_mode: bool
    cell_count: int
    last_execution_date: str | None
    date_created: str


class ListState(msgspec.Struct):
    """A row; ``ordinal`` numbers the notebooks of a project from 0 in order of creation."""

    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    ordinal: int
    item: NotebookItemDocument
    activity: NotebookActivity


def _created(recorded: RecordedEvent, event: Notebook.Created, *, ordinal: int) -> ListState:
    return ListState(
        notebook_id=recorded.stream_id,
        tenant_id=recorded.tenant_id,
        project_id=recorded.project_id,
        ordinal=ordinal,
        activity=NotebookActivity(),
        item=NotebookItemDocument(
            notebook_id=str(recorded.stream_id),
            notebook_name=event.name,
            kernel_type=event.kernel_type,
            status=NotebookStatus.READY,
            enrichment_mode=event.integration.enrichment_mode,
            cell_count=len(event.cells),
            last_execution_date=None,
            date_created=timestamp(event.timestamp),
        ),
    )


def _requested(state: ListState, recorded: RecordedEvent, _: object) -> None:
    state.activity.running[str(recorded.stream_id)] = None
    state.item.last_execution_date = timestamp(recorded.occurred_at)


def _ended(state: ListState, recorded: RecordedEvent, _: object) -> None:
    state.activity.running.pop(str(recorded.stream_id), None)
    state.activity.outcome = OUTCOMES[recorded.type]


def _renamed(state: ListState, _: RecordedEvent, event: Notebook.Renamed) -> None:
    state.item.notebook_name = event.name


def _integration_configured(
    state: ListState, _: RecordedEvent, event: Notebook.IntegrationConfigured
) -> None:
    state.item.enrichment_mode = event.integration.enrichment_mode


def _cells_updated(state: ListState, _: RecordedEvent, event: Notebook.CellsUpdated) -> None:
    state.item.cell_count = len(event.cells)


def _note_status(state: ListState, _: RecordedEvent) -> None:
    state.item.status = state.activity.status


_CHANGES: dict[str, Change[ListState]] = {
    Execution.Requested.TYPE: _requested,
    Notebook.Renamed.TYPE: _renamed,
    Notebook.IntegrationConfigured.TYPE: _integration_configured,
    Notebook.CellsUpdated.TYPE: _cells_updated,
    **dict.fromkeys(OUTCOMES, _ended),
}

fold = Fold(
    Notebook.Created, _created, changes=_CHANGES, deleted=Notebook.Deleted, always=_note_status
)
"""A created notebook needs its ``ordinal``."""
