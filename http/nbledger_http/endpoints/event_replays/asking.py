"""Replays of events: ask for them, and cancel them."""

from typing import Any

from litestar import Request, post

from nbledger_application.caller import Right
from nbledger_application.republishing.requesting import cancel_replay, request_replay
from nbledger_domain.vocabulary.addresses import project_path
from nbledger_http.description.documentation import LOCATION, Answer, Body, Operation
from nbledger_http.endpoints.event_replays.reading import EXAMPLE, TAG, ReplayDocument, document
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.requests.event_replays import ReplayRequest, asked_replay
from nbledger_http.requests.json_bodies import json_object, no_members
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import access_of, id_of

_NEW = {**EXAMPLE, "state": "waiting", "position": 0, "published": 0}
_CANCELLED = {**EXAMPLE, "state": "cancelled", "endedAt": "2024-01-20T10:30:07.000Z"}


@post(
    "/event-replay",
    status_code=202,
    right=Right.ADMINISTER,
    operation=Operation(
        id="replayEvents",
        tag=TAG,
        summary="Publish events of the project to Kafka again",
        description="To a topic of their own, which is made where it is missing. Each message is "
        "as it was but for the header `ce_replay`. The relay carries it out and goes on after any "
        "interruption: no event is left out, and some may come twice. The request is recorded as "
        "an export of the project's history.",
        body=Body(schema=ReplayRequest, example={"topic": "nbledger.replay.warehouse", "from": 1}),
        answers={
            202: Answer(
                description="The replay, which is about to begin.",
                schema=ReplayDocument,
                opens="replayId",
                example=_NEW,
                headers=LOCATION,
            )
        },
        problems=(
            Code.PROJECT_NOT_FOUND,
            Code.TOO_MANY_REPLAYS,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def replay_events(request: Request[Any, Any, Any]) -> Reply:
    """The new replay."""
    services, access = services_of(request), access_of(request)
    asked = asked_replay(await json_object(request), services.settings.kafka)
    made = await request_replay(services.pool, services.history_reads, access, asked)
    path = project_path(access.tenant_id, access.project_id, "event-replay", made.replay_id)
    return json_reply(await document(request, made), status=202, headers={"Location": path})


@post(
    "/event-replay/{replay_id:str}/cancel",
    status_code=200,
    right=Right.ADMINISTER,
    operation=Operation(
        id="cancelEventReplay",
        tag=TAG,
        summary="Cancel a replay of events",
        description="What has been published stays in the topic.",
        answers={
            200: Answer(
                description="The replay, which publishes no more.",
                schema=ReplayDocument,
                opens="replayId",
                example=_CANCELLED,
            )
        },
        problems=(
            Code.REPLAY_NOT_FOUND,
            Code.REPLAY_ENDED,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def cancel(request: Request[Any, Any, Any]) -> Reply:
    """The replay."""
    await no_members(request)
    services = services_of(request)
    ended = await cancel_replay(services.pool, access_of(request), id_of(request, "replay_id"))
    return json_reply(await document(request, ended))


HANDLERS: list[Any] = [replay_events, cancel]
