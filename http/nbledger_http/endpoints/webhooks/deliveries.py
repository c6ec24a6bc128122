"""Deliveries to webhooks: what was sent, what came of it, and sending it again."""

from typing import Annotated, Any

import msgspec
from litestar import Request, get, post
from msgspec import Meta

from nbledger_application.caller import Right
from nbledger_application.webhooks import log
from nbledger_application.webhooks.log import DeliveryState, LoggedAttempt, LoggedDelivery
from nbledger_application.webhooks.subscribing import (
    load_webhook,
    redeliver_events,
    redeliver_range,
)
from nbledger_http.description.documentation import POSITION, Answer, Body, Operation
from nbledger_http.endpoints.webhooks import examples
from nbledger_http.endpoints.webhooks.reading import TAG, view_of
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_http.representations.documents import state_headers
from nbledger_http.requests import queries
from nbledger_http.requests.json_bodies import json_object
from nbledger_http.requests.queries import MAX_POSITION
from nbledger_http.requests.services import services_of
from nbledger_http.requests.webhooks.asked import WebhookRedelivery, asked_redelivery
from nbledger_http.security.access import access_of, id_of, webhook_id_of
from nbledger_infrastructure.kafka.structured import envelope
from nbledger_infrastructure.settings import Settings
from nbledger_projections.read_models.humanize import timestamp
from nbledger_projections.read_models.webhooks import WebhookDocument


class DeliveriesQuery(msgspec.Struct, kw_only=True):
    """Which deliveries are listed."""

    state: Annotated[
        DeliveryState | None,
        Meta(
            description="Only these: pending, delivered, or dead, which are not attempted again "
            "by themselves."
        ),
    ] = None
    before: (
        Annotated[int, Meta(ge=0, le=MAX_POSITION, description="`next` of the page before it.")]
        | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=1000, description="How many a page has at most.")] = 100


class DeliveryItem(msgspec.Struct, rename="camel", kw_only=True):
    """A delivery in a list. ``nextAttemptAt`` is null where none is due."""

    event_id: str
    position: int
    type: str
    state: DeliveryState
    attempts: int
    created_at: str
    next_attempt_at: str | None
    ended_at: str | None


class DeliveryPage(msgspec.Struct, kw_only=True):
    """Deliveries, those of the newest events first; `next` is null on the last page."""

    deliveries: list[DeliveryItem]
    next: int | None


class DeliveryAttemptDocument(msgspec.Struct, rename="camel", kw_only=True):
    """An attempt. ``error`` is null where it was delivered.

    ``answerBody`` is the beginning of the answer's body as text; it is null without an answer, and
    once the subject of the event is erased.
    """

    number: int
    at: str
    milliseconds: int
    url: str
    request_headers: dict[str, str]
    status: int | None
    answer_headers: list[tuple[str, str]] | None
    answer_body: str | None
    error: str | None
    detail: str | None


class DeliveryDocument(DeliveryItem, rename="camel", kw_only=True):
    """A delivery with its attempts. ``requestBody`` is what is sent, without data once erased."""

    request_body: msgspec.Raw
    log: list[DeliveryAttemptDocument]


@get(
    "/webhook/{webhook_id:str}/delivery",
    right=Right.READ,
    operation=Operation(
        id="listWebhookDeliveries",
        tag=TAG,
        summary="List the deliveries of a webhook",
        description="Each event that the webhook gets, as far as the log goes back. Dead ones are "
        "those whose attempts are used up, or that were answered with 410.",
        query=DeliveriesQuery,
        answers={
            200: Answer(
                description="The deliveries.", schema=DeliveryPage, example=examples.DELIVERIES
            )
        },
        problems=(Code.WEBHOOK_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def list_deliveries(request: Request[Any, Any, Any]) -> Reply:
    """A page of deliveries."""
    query = queries.checked(request, DeliveriesQuery)
    services, webhook_id = services_of(request), webhook_id_of(request)
    await load_webhook(services.store, access_of(request), webhook_id)
    found = await log.page(
        services.pool,
        webhook_id,
        state=query.state,
        before=MAX_POSITION if query.before is None else query.before,
        limit=query.limit + 1,
    )
    shown = found[: query.limit]
    body = DeliveryPage(
        deliveries=[DeliveryItem(**_members(each)) for each in shown],
        next=shown[-1].position if len(found) > len(shown) else None,
    )
    return json_reply(msgspec.json.encode(body))


@get(
    "/webhook/{webhook_id:str}/delivery/{event_id:str}",
    right=Right.WRITE,
    operation=Operation(
        id="getWebhookDelivery",
        tag=TAG,
        summary="Get a delivery with its attempts",
        description="What is sent, and what was answered at each attempt.",
        answers={
            200: Answer(
                description="The delivery.", schema=DeliveryDocument, example=examples.DELIVERY
            )
        },
        problems=(Code.WEBHOOK_NOT_FOUND, Code.EVENT_NOT_FOUND),
    ),
)
async def get_delivery(request: Request[Any, Any, Any]) -> Reply:
    """The delivery."""
    services, webhook_id = services_of(request), webhook_id_of(request)
    event_id = id_of(request, "event_id")
    await load_webhook(services.store, access_of(request), webhook_id)
    found = await log.find(services.pool, webhook_id, event_id)
    if found is None:
        raise Problem(Code.EVENT_NOT_FOUND, "The log of the webhook has no such event.")
    return json_reply(_told(found, services.settings))


@post(
    "/webhook/{webhook_id:str}/redelivery",
    status_code=202,
    right=Right.WRITE,
    operation=Operation(
        id="redeliverToWebhook",
        tag=TAG,
        summary="Send events to a webhook again",
        description="Events by their ids, wanted or not; or those that the webhook wants in a "
        "range of positions, whether they were delivered or not. Receivers know them again by "
        "`webhook-id`. A webhook that is disabled gets them once it is enabled.",
        body=Body(schema=WebhookRedelivery, example=examples.REDELIVERY),
        answers={
            202: Answer(
                description="The webhook; the events are about to be sent.",
                schema=WebhookDocument,
                opens="webhookId",
                example=examples.WEBHOOK,
                headers=POSITION,
            )
        },
        problems=(
            Code.WEBHOOK_NOT_FOUND,
            Code.CONFLICT,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def redeliver(request: Request[Any, Any, Any]) -> Reply:
    """The webhook."""
    services, access, webhook_id = services_of(request), access_of(request), webhook_id_of(request)
    asked = asked_redelivery(await json_object(request))
    if isinstance(asked, list):
        await redeliver_events(services.store, access, webhook_id, asked)
    else:
        after, until = asked
        await redeliver_range(services.store, access, webhook_id, after=after, until=until)
    view = await view_of(services, access, webhook_id)
    return json_reply(view.document, status=202, headers=state_headers(view))


def _told(found: LoggedDelivery, settings: Settings) -> bytes:
    made = envelope(settings.webhooks.max_body_kb, settings.http.address)
    return msgspec.json.encode(
        DeliveryDocument(
            **_members(found.delivery),
            request_body=msgspec.Raw(made(found.event)),
            log=[_attempt(each) for each in found.attempts],
        )
    )


def _members(delivery: log.Delivery) -> dict[str, Any]:
    due, ended = delivery.next_attempt_at, delivery.ended_at
    return {
        **msgspec.structs.asdict(delivery),
        "event_id": str(delivery.event_id),
        "created_at": timestamp(delivery.created_at),
        "next_attempt_at": None if due is None else timestamp(due),
        "ended_at": None if ended is None else timestamp(ended),
    }


def _attempt(made: LoggedAttempt) -> DeliveryAttemptDocument:
    body = made.answer_body
    return DeliveryAttemptDocument(
        **{
            **msgspec.structs.asdict(made),
            "at": timestamp(made.at),
            "answer_body": None if body is None else body.decode("utf-8", "replace"),
        }
    )


HANDLERS: list[Any] = [list_deliveries, get_delivery, redeliver]
