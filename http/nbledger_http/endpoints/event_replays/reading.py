"""Replays of events: list and read them."""

from datetime import datetime
from typing import Any, Final

import msgspec
from litestar import Request, get

from nbledger_application.caller import Right
from nbledger_application.republishing.requesting import load_replay
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.description.schemas import PageBody
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.representations.principals import with_name
from nbledger_http.requests import queries
from nbledger_http.requests.queries import Paging
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, id_of
from nbledger_infrastructure.postgres import event_replays
from nbledger_infrastructure.postgres.database import acquire
from nbledger_infrastructure.postgres.event_replays import EventReplay, ReplayState
from nbledger_projections.read_models.humanize import timestamp

TAG: Final = "Event replays"


class ReplayDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A replay, and how far it is.

    The broker has everything up to `position`; that is `to` in the end. `published` counts
    messages. `restarts` tells how often the broker had forgotten the topic, and got everything from
    the first event on. `problem` says why it failed, or does not go on at the moment.
    """

    replay_id: str
    topic: str
    first: int = msgspec.field(name="from")
    last: int = msgspec.field(name="to")
    state: ReplayState
    position: int
    published: int
    restarts: int
    problem: str | None
    requested_by: str
    requested_at: str
    updated_at: str
    ended_at: str | None


class ReplayList(PageBody, rename="camel", kw_only=True):
    """A page of the project's replays, the newest first."""

    replays: list[ReplayDocument]


EXAMPLE: Final[dict[str, Any]] = {
    "replayId": "01901640-2b1c-7c11-8a4e-0d6a5d4c3b2a",
    "topic": "nbledger.replay.warehouse",
    "from": 1,
    "to": 481516,
    "state": "running",
    "position": 230000,
    "published": 2342,
    "restarts": 0,
    "problem": None,
    "requestedBy": "user123",
    "requestedAt": "2024-01-20T10:30:00.000Z",
    "updatedAt": "2024-01-20T10:30:07.000Z",
    "endedAt": None,
}


@get(
    "/event-replay",
    right=Right.ADMINISTER,
    operation=Operation(
        id="listEventReplays",
        tag=TAG,
        summary="List replays of events",
        query=Paging,
        answers={
            200: Answer(
                description="The replays, the newest first.",
                schema=ReplayList,
                example={
                    "replays": [EXAMPLE],
                    "totalCount": 1,
                    "page": 1,
                    "pageSize": 20,
                    "hasNextPage": False,
                },
            )
        },
        problems=(Code.PROJECT_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def list_replays(request: Request[Any, Any, Any]) -> Reply:
    """A page of replays."""
    query = queries.checked(request, Paging)
    services, access = services_of(request), access_of(request)
    number, size = query.page, query.page_size
    async with acquire(services.pool) as connection:
        total, _ = await event_replays.count(connection, access.tenant_id, access.project_id)
    found = await event_replays.page(
        services.pool,
        *(access.tenant_id, access.project_id),
        limit=size,
        offset=(number - 1) * size,
    )
    body = {
        "replays": [msgspec.Raw(await document(request, each)) for each in found],
        "totalCount": total,
        "page": number,
        "pageSize": size,
        "hasNextPage": number * size < total,
    }
    return json_reply(msgspec.json.encode(body))


@get(
    "/event-replay/{replay_id:str}",
    right=Right.ADMINISTER,
    operation=Operation(
        id="getEventReplay",
        tag=TAG,
        summary="Get a replay of events",
        answers={200: Answer(description="It.", schema=ReplayDocument, example=EXAMPLE)},
        problems=(Code.REPLAY_NOT_FOUND,),
    ),
)
async def get_replay(request: Request[Any, Any, Any]) -> Reply:
    """The replay."""
    services = services_of(request)
    found = await load_replay(services.pool, access_of(request), id_of(request, "replay_id"))
    return json_reply(await document(request, found))


async def document(request: Request[Any, Any, Any], replay: EventReplay) -> bytes:
    """What is told of a replay, with the name of whoever asked for it."""
    services: Services = services_of(request)
    told = ReplayDocument(
        replay_id=str(replay.replay_id),
        topic=replay.asked.topic,
        first=replay.asked.first,
        last=replay.asked.last,
        state=replay.state,
        position=replay.position,
        published=replay.published,
        restarts=replay.restarts,
        problem=replay.problem,
        requested_by=replay.requested_by,
        requested_at=timestamp(replay.requested_at),
        updated_at=timestamp(replay.updated_at),
        ended_at=_time(replay.ended_at),
    )
    tenant_id = access_of(request).tenant_id
    return await with_name(services.names, tenant_id, msgspec.json.encode(told), "requestedBy")


def _time(at: datetime | None) -> str | None:
    return None if at is None else timestamp(at)


HANDLERS: list[Any] = [list_replays, get_replay]
