"""History, for auditors: events as they are recorded, of whatever has a stream of its own."""

from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import msgspec
from litestar import Request, get
from msgspec import Meta

from nbledger_application.caller import Right
from nbledger_domain.errors import (
    ActionNotFoundError,
    DatasetNotFoundError,
    ExecutionNotFoundError,
    LibraryNotFoundError,
    NotebookNotFoundError,
    WebhookNotFoundError,
)
from nbledger_domain.histories import HistoryKind
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.description.schemas import History
from nbledger_http.endpoints.histories import asking, examples
from nbledger_http.endpoints.histories.asking import HistoryQuery
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.representations.principals import named
from nbledger_http.requests import queries
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import (
    access_of,
    action_id_of,
    dataset_id_of,
    execution_id_of,
    library_id_of,
    notebook_id_of,
    webhook_id_of,
)
from nbledger_projections.read_models.histories import pages, selection
from nbledger_projections.read_models.histories.changes import with_changes
from nbledger_projections.read_models.histories.selection import Selection

TAG: Final = "History"
ANSWERS: Final = {
    200: Answer(description="The events, in order.", schema=History, example=examples.HISTORY)
}
NOTES: Final = (
    "Each event comes with what it has changed: fields before and after. Large values are "
    "shortened, and say so; `data` is whole. For a page 10,000 events or 32 MiB are folded, no "
    "more; of what comes behind them `changes` is null and `changesUnavailable` is "
    "`too_much_before`. That you read the history is recorded."
)
ERASED: Final = "are still told, without their data, and with who had it erased, and when."


class NotebookHistoryQuery(HistoryQuery, kw_only=True):
    """Which events are told of a notebook."""

    executions: Annotated[
        bool, Meta(description="The events of the notebook's executions and schedule as well.")
    ] = False


def _operation(
    operation_id: str,
    subject: str,
    description: str,
    unknown: Code,
    query: type[HistoryQuery] = HistoryQuery,
) -> Operation:
    return Operation(
        id=operation_id,
        tag=TAG,
        summary=f"Get the history of {subject}",
        description=f"{description} {NOTES}",
        query=query,
        answers=ANSWERS,
        problems=(unknown, Code.VALIDATION_FAILED),
    )


@get(
    "/notebook/{notebook_id:str}/history",
    right=Right.AUDIT,
    operation=_operation(
        "getNotebookHistory",
        "a notebook",
        f"Who changed what, and when. Of a deleted notebook the events {ERASED}",
        Code.NOTEBOOK_NOT_FOUND,
        NotebookHistoryQuery,
    ),
)
async def notebook_history(request: Request[Any, Any, Any]) -> Reply:
    """Events of the notebook."""
    notebook_id = notebook_id_of(request)
    query = queries.checked(request, NotebookHistoryQuery)
    own = _of_stream(request, "notebook", notebook_id)
    scope = _of_notebook(request, notebook_id, None) if query.executions else own
    subject = _Subject("notebook", notebook_id, own, NotebookNotFoundError(notebook_id))
    return await _reply(request, query, subject, scope)


@get(
    "/notebook/{notebook_id:str}/execution/{execution_id:str}/history",
    right=Right.AUDIT,
    operation=_operation(
        "getExecutionHistory",
        "an execution",
        "Who asked for it, with which parameters; which worker ran it; what each cell did, and "
        "how it ended.",
        Code.EXECUTION_NOT_FOUND,
    ),
)
async def execution_history(request: Request[Any, Any, Any]) -> Reply:
    """Events of the execution."""
    access = access_of(request)
    notebook_id, execution_id = notebook_id_of(request), execution_id_of(request)
    query = queries.checked(request, HistoryQuery)
    place = access.tenant_id, access.project_id, notebook_id, execution_id
    scope = selection.of_execution(*place)
    subject = _Subject("execution", execution_id, scope, ExecutionNotFoundError(execution_id))
    return await _reply(request, query, subject, scope)


@get(
    "/notebook/{notebook_id:str}/schedule/history",
    right=Right.AUDIT,
    operation=_operation(
        "getScheduleHistory",
        "a schedule",
        "Who set, changed, paused or removed the notebook's schedule, and what became of each time "
        "at which it was due. Empty where the notebook never had one.",
        Code.NOTEBOOK_NOT_FOUND,
    ),
)
async def schedule_history(request: Request[Any, Any, Any]) -> Reply:
    """Events of the notebook's schedule and its firings."""
    return await _part_of_notebook(request, "schedule", ["schedule", "firing"])


@get(
    "/notebook/{notebook_id:str}/automatic-execution/history",
    right=Right.AUDIT,
    operation=_operation(
        "getAutomaticExecutionHistory",
        "automatic execution",
        "Which changes became a run of the notebook, and which did not and why. Empty where there "
        "were none.",
        Code.NOTEBOOK_NOT_FOUND,
    ),
)
async def automation_history(request: Request[Any, Any, Any]) -> Reply:
    """Events of the notebook's triggers."""
    return await _part_of_notebook(request, "automation", ["trigger"])


@get(
    "/dataset/{dataset_id:str}/history",
    right=Right.AUDIT,
    operation=_operation(
        "getDatasetHistory",
        "a dataset",
        "Who uploaded or made which version of it, out of what. Of a deleted dataset the events "
        f"{ERASED}",
        Code.DATASET_NOT_FOUND,
    ),
)
async def dataset_history(request: Request[Any, Any, Any]) -> Reply:
    """Events of the dataset."""
    dataset_id = dataset_id_of(request)
    return await _document(request, "dataset", dataset_id, DatasetNotFoundError(dataset_id))


@get(
    "/library/{library_id:str}/history",
    right=Right.AUDIT,
    operation=_operation(
        "getLibraryHistory",
        "a library",
        f"Who uploaded it, and who deleted it. Of a deleted library the events {ERASED}",
        Code.LIBRARY_NOT_FOUND,
    ),
)
async def library_history(request: Request[Any, Any, Any]) -> Reply:
    """Events of the library."""
    library_id = library_id_of(request)
    return await _document(request, "library", library_id, LibraryNotFoundError(library_id))


@get(
    "/execution-actions/{action_id:str}/history",
    right=Right.AUDIT,
    operation=_operation(
        "getExecutionActionHistory",
        "an execution action",
        "Who asked for it, for which executions, and what became of each. What it did to an "
        "execution is in that one's history, with the action's id as `correlationId`.",
        Code.ACTION_NOT_FOUND,
    ),
)
async def action_history(request: Request[Any, Any, Any]) -> Reply:
    """Events of the action."""
    action_id = action_id_of(request)
    return await _document(request, "action", action_id, ActionNotFoundError(action_id))


@get(
    "/webhook/{webhook_id:str}/history",
    right=Right.AUDIT,
    operation=_operation(
        "getWebhookHistory",
        "a webhook",
        "Who created it, changed or disabled it, had its secret rotated or events sent again. "
        f"Of a deleted webhook the events {ERASED} Its reading is recorded as one of the "
        "project's history, with the webhook as `subjectId`.",
        Code.WEBHOOK_NOT_FOUND,
    ),
)
async def webhook_history(request: Request[Any, Any, Any]) -> Reply:
    """Events of the webhook."""
    webhook_id = webhook_id_of(request)
    query = queries.checked(request, HistoryQuery)
    scope = _of_stream(request, "webhook", webhook_id)
    # The kinds of histories are a closed list for those who read events of reading.
    subject = _Subject("project", webhook_id, scope, WebhookNotFoundError(webhook_id))
    return await _reply(request, query, subject, scope)


async def _document(
    request: Request[Any, Any, Any], kind: HistoryKind, document_id: UUID, not_found: Exception
) -> Reply:
    query = queries.checked(request, HistoryQuery)
    scope = _of_stream(request, kind, document_id)
    return await _reply(request, query, _Subject(kind, document_id, scope, not_found), scope)


async def _part_of_notebook(
    request: Request[Any, Any, Any], kind: HistoryKind, types: list[str]
) -> Reply:
    notebook_id = notebook_id_of(request)
    query = queries.checked(request, HistoryQuery)
    scope = _of_notebook(request, notebook_id, types)
    own = _of_stream(request, "notebook", notebook_id)
    subject = _Subject(kind, notebook_id, own, NotebookNotFoundError(notebook_id))
    return await _reply(request, query, subject, scope)


def _of_stream(request: Request[Any, Any, Any], kind: str, stream_id: UUID) -> Selection:
    access = access_of(request)
    return selection.of_stream(access.tenant_id, access.project_id, stream_id, kind)


def _of_notebook(
    request: Request[Any, Any, Any], notebook_id: UUID, kinds: list[str] | None
) -> Selection:
    access = access_of(request)
    return selection.of_subject(access.tenant_id, access.project_id, notebook_id, kinds)


class _Subject(NamedTuple):
    """Whose history; where ``there`` has no event, it is unknown."""

    kind: HistoryKind
    subject_id: UUID
    there: Selection
    unknown: Exception


async def _reply(
    request: Request[Any, Any, Any], query: HistoryQuery, subject: _Subject, scope: Selection
) -> Reply:
    """The events of ``scope`` that ``query`` asks for, and how to ask for those after them.

    Raises the exception of an unknown subject. Reading is recorded first.
    """
    services, access = services_of(request), access_of(request)
    narrow = await asking.filter_of(request, types=query.type, actor=query.actor)
    bounds = await asking.bounds_of(services, query)
    async with services.histories:
        found = await pages.page(
            services.pool,
            access.tenant_id,
            scope,
            bounds=bounds,
            filter=narrow,
            order=query.order,
            limit=query.limit,
        )
        if not found.entries and not await pages.is_there(services.pool, subject.there):
            raise subject.unknown
        await services.history_reads.record(access, subject.kind, subject.subject_id)
        shown = await named(services.names, access.tenant_id, found.entries)
        told = History(
            events=await with_changes(services.pool, shown),
            next=shown[-1].position if found.more else None,
        )
        return json_reply(msgspec.json.encode(told))


HANDLERS: list[Any] = [
    notebook_history,
    execution_history,
    schedule_history,
    automation_history,
    dataset_history,
    library_history,
    action_history,
    webhook_history,
]
