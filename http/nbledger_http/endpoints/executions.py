"""Executions: ask for one, follow it, list them, cancel one."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, get, post

from nbledger_application.caller import Right
from nbledger_application.commands.cancel_execution import cancel_execution
from nbledger_application.commands.execute_notebook import execute_notebook, plan_execution
from nbledger_application.idempotency import RequestKey
from nbledger_application.queue import ShareLimits
from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.execution import TERMINAL_EVENTS
from nbledger_domain.past.moments import AsOf
from nbledger_domain.vocabulary.addresses import project_path
from nbledger_http.description import execution_examples
from nbledger_http.description.documentation import (
    AS_OF_POSITION,
    AS_OF_PROBLEMS,
    ETAG,
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_PROBLEMS,
    LOCATION,
    NOT_MODIFIED,
    POSITION,
    PRECONDITIONS,
    PREFER_NEWS,
    PREFERENCE_APPLIED,
    READ_CONDITIONS,
    REPLAYED,
    Answer,
    Body,
    Operation,
)
from nbledger_http.description.schemas import PageBody
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply, with_members
from nbledger_http.representations import past, resources
from nbledger_http.representations.conditional import (
    document_reply,
    last_modified,
    none_match,
    precondition_of,
)
from nbledger_http.representations.documents import LIST_HEADERS, READ_OWN_WRITES, page_reply
from nbledger_http.representations.executions.queue_places import PlacedView, told
from nbledger_http.representations.executions.run_plans import RunPlanDocument, plan_reply
from nbledger_http.representations.idempotency import New, beyond_defaults, once
from nbledger_http.representations.principals import with_name, with_names
from nbledger_http.requests import queries
from nbledger_http.requests.concurrency import turn_of
from nbledger_http.requests.json_bodies import json_object, no_members
from nbledger_http.requests.past.moments import NOTES as AS_OF_NOTES
from nbledger_http.requests.past.moments import AsOfQuery, as_of
from nbledger_http.requests.queries import Paging, preferred_wait, wait_applied
from nbledger_http.requests.runs import ExecuteNotebook, asked_of, run_request
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, execution_id_of, notebook_id_of
from nbledger_projections.machinery.documents import Page
from nbledger_projections.read_models.executions import status as execution_status
from nbledger_projections.read_models.executions.documents import ExecutionDocument
from nbledger_projections.read_models.executions.status import ExecutionView

TAG = "Executions"
EXECUTE = "executeNotebook"
TERMINAL = frozenset(
    name for event in TERMINAL_EVENTS for name in EVENT_TYPES.stored_names(event.TYPE)
)


class NewExecution(ExecutionDocument, rename="camel", kw_only=True):
    """The execution, and what is to be said of the request that has made it."""

    warnings: list[str]


class ExecutionListDocument(PageBody, rename="camel", kw_only=True):
    """A page of a notebook's executions, newest first; without what each cell did."""

    executions: list[dict[str, Any]]


@post(
    "/notebook/{notebook_id:str}/execute",
    right=Right.WRITE,
    operation=Operation(
        id=EXECUTE,
        tag=TAG,
        summary="Execute a notebook",
        description="All cells, or a range of them, in a fresh kernel. The answer comes at once; "
        "follow the run at the address in Location. Its status is Running until it has ended, "
        "its phase tells whether it waits, starts or runs. Without a live worker that offers "
        "the kernel type it is refused, unless this installation lets it wait for one; so it is "
        "where as many runs of the tenant or project wait as may, and, with `If-Match`, where the "
        "notebook has changed since it was read. With `dryRun` everything is "
        "checked in the same way but how many wait, and nothing runs.",
        headers=(*PRECONDITIONS, IDEMPOTENCY_KEY),
        body=Body(
            schema=ExecuteNotebook, required=False, example=execution_examples.EXECUTE_NOTEBOOK
        ),
        answers={
            200: Answer(
                description="What would run, where the request has `dryRun`.",
                schema=RunPlanDocument,
                example=execution_examples.RUN_PLAN,
            ),
            202: Answer(
                description="The execution, which waits for a worker.",
                schema=NewExecution,
                opens="executionId",
                example=execution_examples.NEW_EXECUTION,
                headers={**LOCATION, **ETAG, **POSITION, **REPLAYED},
            ),
        },
        problems=(
            Code.NOTEBOOK_NOT_FOUND,
            Code.NOTHING_TO_EXECUTE,
            Code.PRECONDITION_FAILED,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
            Code.QUEUE_FULL,
            Code.KERNEL_UNAVAILABLE,
            *IDEMPOTENCY_PROBLEMS,
        ),
    ),
)
async def execute(request: Request[Any, Any, Any]) -> Reply:
    """The new execution."""
    services, access = services_of(request), access_of(request)
    notebook_id = notebook_id_of(request)
    body = await json_object(request, optional=True)
    limits = services.settings.execution
    waiting = services.settings.queue
    precondition = precondition_of(request)
    if body.get("dryRun") is True:
        plan = await plan_execution(
            services.store,
            services.pool,
            access,
            notebook_id,
            run_request(body, limits),
            precondition=precondition,
            queue_without_worker=limits.queue_without_worker,
        )
        return plan_reply(plan)

    async def make(key: RequestKey | None) -> New:
        execution_id, _, warnings = await execute_notebook(
            services.store,
            services.pool,
            access,
            notebook_id,
            run_request(body, limits),
            precondition=precondition,
            queue_without_worker=limits.queue_without_worker,
            limits=ShareLimits.of(waiting.max_waiting_per_tenant, waiting.max_waiting_per_project),
            key=key,
        )
        return New(execution_id, {"warnings": warnings})

    return await once(
        request,
        EXECUTE,
        lambda: [notebook_id, beyond_defaults(asked_of(body, limits))],
        make,
        partial(requested, request, notebook_id),
        look_first=False,
    )


async def requested(
    request: Request[Any, Any, Any],
    notebook_id: UUID,
    execution_id: UUID,
    told: Mapping[str, Any],
) -> Reply:
    """202 with the execution as it is now."""
    services, access = services_of(request), access_of(request)
    view = await resources.execution(services.pool, access, notebook_id, execution_id)
    document = await with_name(services.names, access.tenant_id, view.document, "requestedBy")
    location = project_path(
        *(access.tenant_id, access.project_id),
        *("notebook", notebook_id, "execution", execution_id),
    )
    return json_reply(
        with_members(document, **_said_of_estimate(view), **told),
        status=202,
        headers={"Location": location, **state_headers(view)},
    )


class _Estimate(msgspec.Struct, rename="camel"):
    estimated_duration: str | None = None


def _said_of_estimate(view: ExecutionView) -> dict[str, Any]:
    """Clients read the estimate of a new execution unseen, so that it is there even if unknown."""
    known = msgspec.json.decode(view.document, type=_Estimate).estimated_duration
    return {} if known else {"estimatedDuration": None}


def state_headers(view: ExecutionView) -> dict[str, str]:
    """What the answer to a command says of the execution's state."""
    return {
        "ETag": resources.execution_etag(view),
        "Last-Modified": last_modified(view.modified_at),
        "Nbledger-Position": str(view.position),
    }


@get(
    "/notebook/{notebook_id:str}/execution/{execution_id:str}",
    right=Right.READ,
    operation=Operation(
        id="getExecution",
        tag=TAG,
        summary="Get execution status",
        description="As of now, cell by cell; of a run that waits, `queue` tells where it stands "
        "and what it waits for. With `Prefer: wait=N` the answer comes when the "
        "execution has ended, or, with If-None-Match, as soon as its state is another one; "
        "after N seconds (60 at most) it tells what is then: 200, or 304 where nothing changed."
        + AS_OF_NOTES
        + " Left out then are `queue`, and what a run that goes on uses: no event tells them.",
        query=AsOfQuery,
        headers=(*READ_CONDITIONS, PREFER_NEWS),
        answers={
            200: Answer(
                description="The execution.",
                schema=ExecutionDocument,
                example=execution_examples.EXECUTION,
                headers={**ETAG, **PREFERENCE_APPLIED, **AS_OF_POSITION},
            ),
            304: NOT_MODIFIED,
        },
        problems=(
            Code.EXECUTION_NOT_FOUND,
            *AS_OF_PROBLEMS,
            Code.PRECONDITION_FAILED,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def get_execution(request: Request[Any, Any, Any]) -> Reply:
    """The execution."""
    services, access = services_of(request), access_of(request)
    notebook_id, execution_id = notebook_id_of(request), execution_id_of(request)
    wanted = as_of(request, AsOfQuery)
    if wanted is not None:
        return await _execution_then(request, notebook_id, execution_id, wanted)
    wait = preferred_wait(request)
    view = await resources.execution(services.pool, access, notebook_id, execution_id)
    found = None
    if not wait or view.ended or not _only_for_the_end(request):
        found = await told(services, access.tenant_id, view)
    if found is None or (wait and not _is_news(request, found)):
        turn_of(request.scope).give_back()
        found = await _news(request, services, view, wait or 0)
    return document_reply(
        request,
        found.document,
        etag=found.etag,
        modified_at=found.view.modified_at,
        # A place in the queue changes at no recorded time, and another run at none of this one.
        by_time=not (found.view.waits or found.view.repeated),
        headers=wait_applied(wait),
    )


async def _execution_then(
    request: Request[Any, Any, Any], notebook_id: UUID, execution_id: UUID, wanted: AsOf
) -> Reply:
    """The execution as it was; no wait brings other news of that."""
    services, access = services_of(request), access_of(request)
    view, moment = await past.execution(services, access, notebook_id, execution_id, wanted)
    return document_reply(
        request,
        await with_name(services.names, access.tenant_id, view.document, "requestedBy"),
        etag=resources.execution_etag(view),
        modified_at=view.modified_at,
        by_time=not view.repeated,
        headers=past.position_header(moment),
    )


def _is_news(request: Request[Any, Any, Any], found: PlacedView) -> bool:
    """Whether a client that would wait has nothing to wait for."""
    if found.view.ended:
        return True
    return "if-none-match" in request.headers and not none_match(request, found.etag)


def _only_for_the_end(request: Request[Any, Any, Any]) -> bool:
    """Whether a client that waits has said no state: where its run stands meanwhile is no news."""
    return "if-none-match" not in request.headers


async def _news(
    request: Request[Any, Any, Any], services: Services, view: ExecutionView, seconds: float
) -> PlacedView:
    """The execution when there is news of it, or as it is after ``seconds``."""
    access, watch = access_of(request), services.streams
    only_end = _only_for_the_end(request)
    deadline = time.monotonic() + seconds
    with watch.follow(view.execution_id, TERMINAL if only_end else None) as follower:
        while True:
            async with watch.reads:
                view = await resources.execution(
                    services.pool, access, view.notebook_id, view.execution_id
                )
                left = deadline - time.monotonic()
                over = watch.ended or left <= 0
                found = None
                if over or view.ended or not only_end:
                    found = await told(services, access.tenant_id, view)
            if found is not None and (over or _is_news(request, found)):
                return found
            await follower.moved(left)


@get(
    "/notebook/{notebook_id:str}/executions",
    right=Right.READ,
    operation=Operation(
        id="listExecutions",
        tag=TAG,
        summary="List a notebook's executions",
        description="Newest first. Follows changes within moments, like the list of notebooks.",
        query=Paging,
        headers=READ_OWN_WRITES,
        answers={
            200: Answer(
                description="The executions.",
                schema=ExecutionListDocument,
                example=execution_examples.EXECUTION_LIST,
                headers=LIST_HEADERS,
            )
        },
        problems=(Code.NOTEBOOK_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def list_executions(request: Request[Any, Any, Any]) -> Reply:
    """A page of the notebook's executions."""
    services, access = services_of(request), access_of(request)
    pool, notebook_id = services.pool, notebook_id_of(request)

    async def read(page: int, size: int) -> Page:
        await resources.notebook(pool, access, notebook_id)
        found = await execution_status.for_notebook(
            pool, access.tenant_id, access.project_id, notebook_id, page=page, page_size=size
        )
        items = await with_names(services.names, access.tenant_id, found.items, "requestedBy")
        return msgspec.structs.replace(found, items=items)

    asked = queries.read(request, Paging)
    return await page_reply(request, asked, "executions", execution_status.NAME, read)


@post(
    "/notebook/{notebook_id:str}/execution/{execution_id:str}/cancel",
    right=Right.WRITE,
    operation=Operation(
        id="cancelExecution",
        tag=TAG,
        summary="Cancel an execution",
        description="One that waits ends at once; one that runs is interrupted, and ended by "
        "force where it does not heed that. Asking again changes nothing.",
        answers={
            202: Answer(
                description="The execution, which is about to end or has just ended.",
                schema=ExecutionDocument,
                opens="executionId",
                example=execution_examples.CANCELLED_EXECUTION,
                headers={**ETAG, **POSITION},
            )
        },
        problems=(Code.EXECUTION_NOT_FOUND, Code.EXECUTION_ENDED, Code.CONFLICT),
    ),
)
async def cancel(request: Request[Any, Any, Any]) -> Reply:
    """The execution that is to stop."""
    await no_members(request)
    services, access = services_of(request), access_of(request)
    notebook_id, execution_id = notebook_id_of(request), execution_id_of(request)
    await cancel_execution(services.store, access, notebook_id, execution_id)
    view = await resources.execution(services.pool, access, notebook_id, execution_id)
    document = await with_name(services.names, access.tenant_id, view.document, "requestedBy")
    return json_reply(document, status=202, headers=state_headers(view))


HANDLERS: list[Any] = [execute, get_execution, list_executions, cancel]
