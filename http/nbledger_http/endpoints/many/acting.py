"""Doing something to many executions at once, as a resource with its progress."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, get, post

from nbledger_application.caller import Caller, Right
from nbledger_application.commands.act_on_executions import cancel_action, request_action
from nbledger_application.idempotency import RequestKey
from nbledger_domain.errors import ActionNotFoundError, CountMismatchError
from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.execution_action import ActionKind, ExecutionAction
from nbledger_domain.vocabulary.addresses import project_path
from nbledger_http.description import execution_action_examples
from nbledger_http.description.documentation import (
    ETAG,
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_PROBLEMS,
    LOCATION,
    NOT_MODIFIED,
    POSITION,
    PREFER_NEWS,
    PREFERENCE_APPLIED,
    READ_CONDITIONS,
    REPLAYED,
    Answer,
    Body,
    Operation,
)
from nbledger_http.description.schemas import PageBody
from nbledger_http.replies.problems import RETRY_AFTER_SECONDS, Code, Problem
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.representations.conditional import document_reply
from nbledger_http.representations.documents import (
    LIST_HEADERS,
    LIST_NOTES,
    READ_OWN_WRITES,
    etag,
    page_reply,
    state_headers,
)
from nbledger_http.representations.filters import by_recorded_ids, with_filter_by_names
from nbledger_http.representations.idempotency import New, once
from nbledger_http.representations.principals import with_names
from nbledger_http.requests import queries
from nbledger_http.requests.concurrency import turn_of
from nbledger_http.requests.json_bodies import json_object, no_members
from nbledger_http.requests.many.filters import (
    MAX_FOUND,
    ExecutionActionRequest,
    asked_action,
)
from nbledger_http.requests.queries import Paging
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, action_id_of
from nbledger_projections.machinery.documents import Page, View
from nbledger_projections.read_models import execution_actions
from nbledger_projections.read_models.execution_actions import ActionDocument, ActionItemDocument
from nbledger_projections.read_models.executions import listing

TAG = "Execution actions"
CREATE = "createExecutionAction"

CATCH_UP_SECONDS = 15
"""For so long is waited until the list knows of everything that was recorded before the request."""

ENDED = frozenset(EVENT_TYPES.stored_names(ExecutionAction.Ended.TYPE))


class ActionList(PageBody, rename="camel", kw_only=True):
    """A page of the project's execution actions, newest first."""

    actions: list[ActionItemDocument]


class CountedExecutions(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """What would be done, and to how many executions.

    With `tooMany` there are more than the 50,000 that an action takes, counted no further.
    """

    action: ActionKind
    count: int
    too_many: bool = False


@post(
    "/execution-actions",
    right=Right.WRITE,
    operation=Operation(
        id=CREATE,
        tag=TAG,
        summary="Cancel or rerun many executions",
        description="Those in `ids`, at most 10,000, or those that `filter` finds, at most 50,000. "
        "With a filter, `expectedCount` says how many it is to find; where there are others by "
        "now, nothing is done, and the answer tells how many. Which executions they are is settled "
        "by the request; it is carried out afterwards, each execution once. One that has ended is "
        "not cancelled, one that runs is not rerun, and one that the filter does not find any more "
        "when its turn comes is left alone: these are skipped, and told with the reason.",
        headers=(IDEMPOTENCY_KEY,),
        body=Body(schema=ExecutionActionRequest, example=execution_action_examples.REQUEST),
        answers={
            200: Answer(
                description="How many there are, where the request has `dryRun`.",
                schema=CountedExecutions,
                example=execution_action_examples.COUNTED,
            ),
            202: Answer(
                description="The action, which is about to be carried out.",
                schema=ActionDocument,
                opens="actionId",
                example=execution_action_examples.NEW_ACTION,
                headers={**LOCATION, **ETAG, **POSITION, **REPLAYED},
            ),
        },
        problems=(
            Code.PROJECT_NOT_FOUND,
            Code.ACTION_NOT_FOUND,
            Code.COUNT_MISMATCH,
            Code.CONFLICT,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
            *IDEMPOTENCY_PROBLEMS,
        ),
    ),
)
async def create(request: Request[Any, Any, Any]) -> Reply:
    """The new action."""
    services, access = services_of(request), access_of(request)
    project = access.tenant_id, access.project_id
    asked = asked_action(await json_object(request))
    if asked.dry_run:
        count = len(asked.ids)
        if asked.text is not None:
            wanted, _ = await by_recorded_ids(services.names, access.tenant_id, asked.text)
            await _caught_up(request)
            count = await listing.count(services.pool, *project, wanted, most=MAX_FOUND)
        counted = CountedExecutions(action=asked.action, count=count, too_many=count > MAX_FOUND)
        return json_reply(msgspec.json.encode(counted))

    async def make(key: RequestKey | None) -> New:
        ids, kept = asked.ids, None
        if asked.text is not None:
            wanted, kept = await by_recorded_ids(services.names, access.tenant_id, asked.text)
            await _caught_up(request)
            ids = await listing.select(services.pool, *project, wanted, most=MAX_FOUND)
            if len(ids) != asked.expected:
                raise CountMismatchError(asked.expected or 0, len(ids), most=MAX_FOUND)
        action_id = await request_action(
            services.store, access, asked.action, ids, wanted=kept, key=key
        )
        return New(action_id, {})

    def said() -> list[Any]:
        ids = sorted(map(str, asked.ids))
        return [asked.action, asked.text, asked.expected, ids]

    return await once(request, CREATE, said, make, partial(_accepted, request))


async def _caught_up(request: Request[Any, Any, Any]) -> None:
    """Wait until the list knows of everything that was recorded before the request."""
    services = services_of(request)
    head = await services.store.head_position()
    reached = await services.positions.reached(listing.NAME, head, 0)
    if not reached:
        turn_of(request.scope).give_back()
        reached = await services.positions.reached(listing.NAME, head, CATCH_UP_SECONDS)
    if not reached:
        raise Problem(
            Code.UNAVAILABLE,
            "The list of executions is behind; what the filter finds cannot be told yet.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )


async def _accepted(
    request: Request[Any, Any, Any], action_id: UUID, _: Mapping[str, Any]
) -> Reply:
    """202 with the action as it is now."""
    access = access_of(request)
    view = await _view(services_of(request), access, action_id)
    location = project_path(
        *(access.tenant_id, access.project_id), *("execution-actions", action_id)
    )
    return json_reply(
        view.document, status=202, headers={"Location": location, **state_headers(view)}
    )


@get(
    "/execution-actions",
    right=Right.READ,
    operation=Operation(
        id="listExecutionActions",
        tag=TAG,
        summary="List execution actions",
        description=LIST_NOTES,
        query=Paging,
        headers=READ_OWN_WRITES,
        answers={
            200: Answer(
                description="The actions.",
                schema=ActionList,
                example=execution_action_examples.ACTION_LIST,
                headers=LIST_HEADERS,
            )
        },
        problems=(Code.PROJECT_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def list_actions(request: Request[Any, Any, Any]) -> Reply:
    """A page of the project's actions."""
    services, access = services_of(request), access_of(request)

    async def read(page: int, size: int) -> Page:
        found = await execution_actions.page(
            services.pool, access.tenant_id, access.project_id, page=page, page_size=size
        )
        return msgspec.structs.replace(found, items=await _shown(services, access, found.items))

    asked = queries.read(request, Paging)
    return await page_reply(request, asked, "actions", execution_actions.NAME, read)


@get(
    "/execution-actions/{action_id:str}",
    right=Right.READ,
    operation=Operation(
        id="getExecutionAction",
        tag=TAG,
        summary="Get the progress of an execution action",
        description="As of now. With `Prefer: wait=N` the answer comes when the action has ended, "
        "or after N seconds (60 at most).",
        headers=(*READ_CONDITIONS, PREFER_NEWS),
        answers={
            200: Answer(
                description="The action.",
                schema=ActionDocument,
                example=execution_action_examples.ACTION,
                headers={**ETAG, **PREFERENCE_APPLIED},
            ),
            304: NOT_MODIFIED,
        },
        problems=(Code.ACTION_NOT_FOUND, Code.PRECONDITION_FAILED),
    ),
)
async def get_action(request: Request[Any, Any, Any]) -> Reply:
    """The action."""
    services, access, action_id = services_of(request), access_of(request), action_id_of(request)
    wait = queries.preferred_wait(request)
    view = await _view(services, access, action_id)
    if wait and _runs(view):
        turn_of(request.scope).give_back()
        view = await _ended(services, access, action_id, wait)
    return document_reply(
        request,
        view.document,
        etag=etag(view),
        modified_at=view.modified_at,
        headers=queries.wait_applied(wait),
    )


async def _ended(services: Services, access: Caller, action_id: UUID, seconds: float) -> View:
    """The action when it has ended, or as it is after ``seconds``."""
    watch = services.streams
    deadline = time.monotonic() + seconds
    with watch.follow(action_id, ENDED) as follower:
        while True:
            async with watch.reads:
                view = await _view(services, access, action_id)
            left = deadline - time.monotonic()
            if not _runs(view) or watch.ended or left <= 0:
                return view
            await follower.moved(left)


class _Status(msgspec.Struct):
    status: str


def _runs(view: View) -> bool:
    return msgspec.json.decode(view.document, type=_Status).status == "Running"


@post(
    "/execution-actions/{action_id:str}/cancel",
    right=Right.WRITE,
    operation=Operation(
        id="cancelExecutionAction",
        tag=TAG,
        summary="Cancel an execution action",
        description="It goes on with no more executions; what it has done stays done. Asking again "
        "changes nothing.",
        answers={
            202: Answer(
                description="The action, which is about to end.",
                schema=ActionDocument,
                opens="actionId",
                example=execution_action_examples.CANCELLED_ACTION,
                headers={**ETAG, **POSITION},
            )
        },
        problems=(Code.ACTION_NOT_FOUND, Code.ACTION_ENDED, Code.CONFLICT),
    ),
)
async def cancel(request: Request[Any, Any, Any]) -> Reply:
    """The action that is to stop."""
    await no_members(request)
    services, access, action_id = services_of(request), access_of(request), action_id_of(request)
    await cancel_action(services.store, access, action_id)
    view = await _view(services, access, action_id)
    return json_reply(view.document, status=202, headers=state_headers(view))


async def _view(services: Services, access: Caller, action_id: UUID) -> View:
    view = await execution_actions.get(
        services.pool, access.tenant_id, access.project_id, action_id
    )
    if view is None:
        raise ActionNotFoundError(action_id)
    (document,) = await _shown(services, access, [view.document])
    return msgspec.structs.replace(view, document=document)


async def _shown(services: Services, access: Caller, documents: Sequence[bytes]) -> list[bytes]:
    """Actions with the names of those who asked, for them and for what their filters find."""
    named = await with_names(services.names, access.tenant_id, documents, "requestedBy")
    return await with_filter_by_names(services.names, access.tenant_id, named)


HANDLERS: list[Any] = [create, list_actions, get_action, cancel]
