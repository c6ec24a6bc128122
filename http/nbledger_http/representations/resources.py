"""Single resources, read fresh, and the headers that their answers carry."""

from uuid import UUID

from nbledger_application.caller import Caller
from nbledger_domain.errors import ExecutionNotFoundError, NotebookNotFoundError
from nbledger_infrastructure.postgres.database import Pool
from nbledger_projections.read_models.executions import results as execution_results
from nbledger_projections.read_models.executions import status as execution_status
from nbledger_projections.read_models.executions.results import RecentResults, ResultsView
from nbledger_projections.read_models.executions.status import ExecutionView
from nbledger_projections.read_models.notebooks import details as notebook_details
from nbledger_projections.read_models.notebooks.details import NotebookView


async def notebook(pool: Pool, access: Caller, notebook_id: UUID) -> NotebookView:
    """The notebook as it is now. Raises :class:`NotebookNotFoundError`."""
    view = await notebook_details.get(pool, access.tenant_id, access.project_id, notebook_id)
    if view is None or view.deletion_requested:
        raise NotebookNotFoundError(notebook_id)
    return view


async def execution(
    pool: Pool, access: Caller, notebook_id: UUID, execution_id: UUID
) -> ExecutionView:
    """The execution as it is now. Raises :class:`ExecutionNotFoundError`."""
    view = await execution_status.get(
        pool, access.tenant_id, access.project_id, notebook_id, execution_id
    )
    if view is None:
        raise ExecutionNotFoundError(execution_id)
    return view


async def results(
    pool: Pool,
    access: Caller,
    notebook_id: UUID,
    execution_id: UUID,
    *,
    recent: RecentResults | None = None,
) -> ResultsView:
    """What the execution has put out by now. Raises :class:`ExecutionNotFoundError`."""
    view = await execution_results.get(
        pool, access.tenant_id, access.project_id, notebook_id, execution_id, recent=recent
    )
    if view is None:
        raise ExecutionNotFoundError(execution_id)
    return view


def notebook_etag(view: NotebookView) -> str:
    """The version guards edits; the position tells whatever else has changed."""
    return f'"v{view.stream_version}.p{view.position}"'


def execution_etag(view: ExecutionView) -> str:
    """The version of its stream, and what is told beside it: of its run, repetitions, a notice."""
    used = "" if view.used_at is None else f".u{view.used_at.timestamp() * 1000:.0f}"
    repeated = f".r{view.repeated}" if view.repeated else ""
    slow = ".s" if view.slow else ""
    return f'"v{view.version}{used}{repeated}{slow}"'
