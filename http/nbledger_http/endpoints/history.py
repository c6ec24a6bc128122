"""History, for auditors: events as they are recorded, of whatever has a stream of its own."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Caller, Right
from nbledger_domain.errors import (
    ActionNotFoundError,
    DatasetNotFoundError,
    ExecutionNotFoundError,
    LibraryNotFoundError,
    NotebookNotFoundError,
)
from nbledger_http.description import execution_examples
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.description.schemas import History
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.representations.principals import named
from nbledger_http.requests import queries
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import (
    access_of,
    action_id_of,
    dataset_id_of,
    execution_id_of,
    library_id_of,
    notebook_id_of,
)
from nbledger_projections.read_models import history
from nbledger_projections.read_models.history import HistoryEntry

TAG = "History"
MAX_EVENTS = 1000


class HistoryQuery(msgspec.Struct):
    """Which events are told."""

    after: Annotated[
        int, Meta(ge=0, le=queries.MAX_POSITION, description="Only events after this position.")
    ] = 0
    limit: Annotated[int, Meta(ge=1, le=MAX_EVENTS, description="How many events at most.")] = 100


class NotebookHistoryQuery(HistoryQuery):
    """Which events are told of a notebook."""

    executions: Annotated[
        bool, Meta(description="The events of the notebook's executions and schedule as well.")
    ] = False


ANSWERS = {
    200: Answer(
        description="The events, in order.", schema=History, example=execution_examples.HISTORY
    )
}


@get(
    "/notebook/{notebook_id:str}/history",
    right=Right.AUDIT,
    operation=Operation(
        id="getNotebookHistory",
        tag=TAG,
        summary="Get the history of a notebook",
        description="Who changed what, and when. Of a deleted notebook the events are still "
        "told, without their data.",
        query=NotebookHistoryQuery,
        answers=ANSWERS,
        problems=(Code.NOTEBOOK_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def notebook_history(request: Request[Any, Any, Any]) -> Reply:
    """Events of the notebook."""
    services, access = services_of(request), access_of(request)
    notebook_id = notebook_id_of(request)
    query = queries.checked(request, NotebookHistoryQuery)
    place = (services.pool, access.tenant_id, access.project_id, notebook_id)
    read = partial(history.notebook_history, *place, include_executions=query.executions)
    return await _reply(services, access, read, query, NotebookNotFoundError(notebook_id))


@get(
    "/notebook/{notebook_id:str}/execution/{execution_id:str}/history",
    right=Right.AUDIT,
    operation=Operation(
        id="getExecutionHistory",
        tag=TAG,
        summary="Get the history of an execution",
        description="Who asked for it, with which parameters; which worker ran it; what each "
        "cell did, and how it ended.",
        query=HistoryQuery,
        answers=ANSWERS,
        problems=(Code.EXECUTION_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def execution_history(request: Request[Any, Any, Any]) -> Reply:
    """Events of the execution."""
    services, access = services_of(request), access_of(request)
    notebook_id, execution_id = notebook_id_of(request), execution_id_of(request)
    query = queries.checked(request, HistoryQuery)
    place = (services.pool, access.tenant_id, access.project_id, notebook_id, execution_id)
    read = partial(history.execution_history, *place)
    return await _reply(services, access, read, query, ExecutionNotFoundError(execution_id))


@get(
    "/dataset/{dataset_id:str}/history",
    right=Right.AUDIT,
    operation=Operation(
        id="getDatasetHistory",
        tag=TAG,
        summary="Get the history of a dataset",
        description="Who uploaded or made which version of it, out of what. Of a deleted dataset "
        "the events are still told, without their data.",
        query=HistoryQuery,
        answers=ANSWERS,
        problems=(Code.DATASET_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def dataset_history(request: Request[Any, Any, Any]) -> Reply:
    """Events of the dataset."""
    dataset_id = dataset_id_of(request)
    return await _document_history(request, "dataset", dataset_id, DatasetNotFoundError(dataset_id))


@get(
    "/library/{library_id:str}/history",
    right=Right.AUDIT,
    operation=Operation(
        id="getLibraryHistory",
        tag=TAG,
        summary="Get the history of a library",
        description="Who uploaded it, and who deleted it. Of a deleted library the events are "
        "still told, without their data.",
        query=HistoryQuery,
        answers=ANSWERS,
        problems=(Code.LIBRARY_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def library_history(request: Request[Any, Any, Any]) -> Reply:
    """Events of the library."""
    library_id = library_id_of(request)
    return await _document_history(request, "library", library_id, LibraryNotFoundError(library_id))


@get(
    "/execution-actions/{action_id:str}/history",
    right=Right.AUDIT,
    operation=Operation(
        id="getExecutionActionHistory",
        tag=TAG,
        summary="Get the history of an execution action",
        description="Who asked for it, for which executions, and what became of each. What it did "
        "to an execution is in that one's history, with the action's id as `correlationId`.",
        query=HistoryQuery,
        answers=ANSWERS,
        problems=(Code.ACTION_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def action_history(request: Request[Any, Any, Any]) -> Reply:
    """Events of the action."""
    action_id = action_id_of(request)
    return await _document_history(request, "action", action_id, ActionNotFoundError(action_id))


async def _document_history(
    request: Request[Any, Any, Any],
    kind: Literal["dataset", "library", "action"],
    document_id: UUID,
    not_found: Exception,
) -> Reply:
    services, access = services_of(request), access_of(request)
    query = queries.checked(request, HistoryQuery)
    place = (services.pool, access.tenant_id, access.project_id, document_id)
    read = partial(history.document_history, *place, kind=kind)
    return await _reply(services, access, read, query, not_found)


async def _reply(
    services: Services,
    access: Caller,
    read: Callable[..., Awaitable[list[HistoryEntry]]],
    query: HistoryQuery,
    not_found: Exception,
) -> Reply:
    """The events of ``read`` that ``query`` asks for, and how to ask for those after them.

    Raises ``not_found`` where there is no event at all.
    """
    limit = query.limit
    found = await read(after=query.after, limit=limit + 1)
    if not found and not await read(limit=1):
        raise not_found
    shown = found[:limit]
    following = shown[-1].position if len(found) > limit else None
    told = History(events=await named(services.names, access.tenant_id, shown), next=following)
    return json_reply(msgspec.json.encode(told))


HANDLERS: list[Any] = [
    notebook_history,
    execution_history,
    dataset_history,
    library_history,
    action_history,
]
