"""Items of the list of notebooks, folded from events."""

from uuid import UUID

import msgspec

from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.decoding import (
    CREATED,
    DELETED,
    REQUESTED,
    check_known,
    decode_as,
)
from nbledger_projections.read_models.humanize import timestamp
from nbledger_projections.read_models.notebooks.activity import OUTCOMES, Activity, NotebookStatus

TELLING = {
    CREATED,
    DELETED,
    REQUESTED,
    Notebook.Renamed.TYPE,
    Notebook.IntegrationConfigured.TYPE,
    Notebook.CellsUpdated.TYPE,
    *OUTCOMES,
}
"""Types of events that change a row."""


class ItemDocument(msgspec.Struct, rename="camel"):
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
    item: ItemDocument
    activity: Activity


def fold(
    state: ListState | None, recorded: RecordedEvent, *, ordinal: int | None = None
) -> ListState | None:
    """The state after ``recorded``; ``None`` when there is no such notebook (any more).

    A created notebook needs its ``ordinal``. Takes ``state`` over: the caller must not use it
    afterwards. Raises :class:`UnknownEventTypeError`.
    """
    check_known(recorded)
    if recorded.type == DELETED:
        return None
    if recorded.data is None or recorded.type not in TELLING:
        return state  # where it is erased, the deletion follows
    if recorded.type == CREATED:
        assert ordinal is not None  # noqa: S101 (stated above)
        return _created(recorded, ordinal)
    if state is None:
        return None
    _tell(state, recorded)
    state.item.status = state.activity.status
    return state


def _created(recorded: RecordedEvent, ordinal: int) -> ListState:
    event = decode_as(Notebook.Created, recorded)
    return ListState(
        notebook_id=recorded.stream_id,
        tenant_id=recorded.tenant_id,
        project_id=recorded.project_id,
        ordinal=ordinal,
        activity=Activity(),
        item=ItemDocument(
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


def _tell(state: ListState, recorded: RecordedEvent) -> None:
    if recorded.type == REQUESTED:
        state.activity.running[str(recorded.stream_id)] = None
        state.item.last_execution_date = timestamp(recorded.occurred_at)
    elif recorded.type in OUTCOMES:
        state.activity.running.pop(str(recorded.stream_id), None)
        state.activity.outcome = OUTCOMES[recorded.type]
    else:
        event = decode(recorded)
        if isinstance(event, Notebook.Renamed):
            state.item.notebook_name = event.name
        elif isinstance(event, Notebook.IntegrationConfigured):
            state.item.enrichment_mode = event.integration.enrichment_mode
        elif isinstance(event, Notebook.CellsUpdated):
            state.item.cell_count = len(event.cells)
