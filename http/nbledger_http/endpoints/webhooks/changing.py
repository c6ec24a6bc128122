"""Webhooks: create, change and delete them, rotate their secrets."""

from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, delete, post, put

from nbledger_application.caller import Right
from nbledger_application.webhooks.subscribing import (
    change_webhook,
    create_webhook,
    delete_webhook,
    rotate_secret,
)
from nbledger_domain.vocabulary.addresses import project_path
from nbledger_http.description.documentation import (
    ETAG,
    LOCATION,
    POSITION,
    PRECONDITIONS,
    Answer,
    Body,
    Operation,
)
from nbledger_http.endpoints.webhooks import examples
from nbledger_http.endpoints.webhooks.reading import TAG, view_of
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply, empty_reply, json_reply
from nbledger_http.representations.conditional import precondition_of
from nbledger_http.representations.documents import state_headers
from nbledger_http.requests.json_bodies import json_object, no_members
from nbledger_http.requests.services import services_of
from nbledger_http.requests.webhooks.asked import (
    WebhookChange,
    WebhookRequest,
    asked_change,
    asked_webhook,
)
from nbledger_http.requests.webhooks.urls import reaches
from nbledger_http.security.access import access_of, webhook_id_of
from nbledger_projections.machinery.documents import View
from nbledger_projections.read_models.webhooks import WebhookDocument

_SECRET_HEADERS = {"Cache-Control": "no-store"}
_OF_ONE = (
    Code.WEBHOOK_NOT_FOUND,
    Code.CONFLICT,
    Code.BODY_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
    Code.VALIDATION_FAILED,
)


class WebhookWithSecret(WebhookDocument, rename="camel", kw_only=True):
    """A webhook, and the secret that its deliveries are signed with, which is not told again.

    ``secret`` is in the form of Standard Webhooks: ``whsec_`` and the key in Base64.
    """

    secret: str


@post(
    "/webhook",
    right=Right.WRITE,
    operation=Operation(
        id="createWebhook",
        tag=TAG,
        summary="Create a webhook",
        description="Events of the project that are recorded from now on are sent to its URL as "
        "CloudEvents in JSON, signed as Standard Webhooks 1.0 says, again and again until the "
        "receiver answers with 2xx, for three days. Whoever lost the answer, and the "
        "secret with it, rotates the secret.",
        body=Body(schema=WebhookRequest, example=examples.REQUEST),
        answers={
            201: Answer(
                description="The webhook, and its secret this once.",
                schema=WebhookWithSecret,
                opens="webhookId",
                example=examples.NEW_WEBHOOK,
                headers={**LOCATION, **ETAG, **POSITION},
            )
        },
        problems=(
            Code.PROJECT_NOT_FOUND,
            Code.TOO_MANY_WEBHOOKS,
            Code.CONFLICT,
            Code.BODY_TOO_LARGE,
            Code.UNSUPPORTED_MEDIA_TYPE,
            Code.VALIDATION_FAILED,
        ),
    ),
)
async def create(request: Request[Any, Any, Any]) -> Reply:
    """The new webhook with its secret."""
    services, access = services_of(request), access_of(request)
    asked = asked_webhook(await json_object(request), reach=reaches(services.settings.webhooks))
    webhook_id, secret = await create_webhook(
        services.pool,
        services.store,
        access,
        asked,
        limit=services.settings.webhooks.max_per_project,
    )
    location = project_path(access.tenant_id, access.project_id, "webhook", webhook_id)
    return await _with_secret(request, webhook_id, secret, status=201, Location=location)


@put(
    "/webhook/{webhook_id:str}",
    right=Right.WRITE,
    operation=Operation(
        id="changeWebhook",
        tag=TAG,
        summary="Change a webhook",
        description="The body is the whole webhook. What is recorded from now on is sent as it "
        "says; deliveries that wait go to the new URL.",
        headers=PRECONDITIONS,
        body=Body(schema=WebhookChange, example=examples.CHANGE),
        answers={
            200: Answer(
                description="The webhook.",
                schema=WebhookDocument,
                opens="webhookId",
                example=examples.CHANGED,
                headers={**ETAG, **POSITION},
            )
        },
        problems=(*_OF_ONE, Code.PRECONDITION_FAILED, Code.PARTIAL_PUT),
    ),
)
async def change(request: Request[Any, Any, Any]) -> Reply:
    """The changed webhook."""
    services, access = services_of(request), access_of(request)
    webhook_id = webhook_id_of(request)
    asked, enabled = asked_change(
        await json_object(request), reach=reaches(services.settings.webhooks)
    )
    await change_webhook(
        services.store,
        access,
        webhook_id,
        asked,
        enabled=enabled,
        precondition=precondition_of(request),
    )
    view = await view_of(services, access, webhook_id)
    return json_reply(view.document, headers=state_headers(view))


@post(
    "/webhook/{webhook_id:str}/secret",
    status_code=200,
    right=Right.WRITE,
    operation=Operation(
        id="rotateWebhookSecret",
        tag=TAG,
        summary="Rotate the secret of a webhook",
        description="Deliveries are signed with the new secret at once, and until "
        "`previousSecretUntil` with the one before as well, so that the receiver can change over.",
        answers={
            200: Answer(
                description="The webhook, and its new secret this once.",
                schema=WebhookWithSecret,
                opens="webhookId",
                example=examples.ROTATED,
                headers={**ETAG, **POSITION},
            )
        },
        problems=_OF_ONE,
    ),
)
async def rotate(request: Request[Any, Any, Any]) -> Reply:
    """The webhook with its new secret."""
    await no_members(request)
    services, access = services_of(request), access_of(request)
    webhook_id = webhook_id_of(request)
    secret = await rotate_secret(
        services.pool,
        services.store,
        access,
        webhook_id,
        overlap_seconds=services.settings.webhooks.secret_overlap_hours * 3600.0,
    )
    return await _with_secret(request, webhook_id, secret, status=200)


@delete(
    "/webhook/{webhook_id:str}",
    status_code=200,
    right=Right.WRITE,
    operation=Operation(
        id="deleteWebhook",
        tag=TAG,
        summary="Delete a webhook",
        description="Permanently, with its secrets and its log of deliveries. What waits is not "
        "sent any more; an attempt that is under way may still arrive.",
        headers=PRECONDITIONS,
        answers={204: Answer(description="The webhook is deleted.")},
        problems=(Code.WEBHOOK_NOT_FOUND, Code.CONFLICT, Code.PRECONDITION_FAILED),
    ),
)
async def delete_(request: Request[Any, Any, Any]) -> Reply:
    """Nothing."""
    services = services_of(request)
    await delete_webhook(
        services.pool,
        services.store,
        access_of(request),
        webhook_id_of(request),
        precondition=precondition_of(request),
    )
    return empty_reply(204)


async def _with_secret(
    request: Request[Any, Any, Any], webhook_id: UUID, secret: str, *, status: int, **headers: str
) -> Reply:
    view = await view_of(services_of(request), access_of(request), webhook_id)
    return json_reply(
        _told(view, secret),
        status=status,
        headers={**headers, **state_headers(view), **_SECRET_HEADERS},
    )


def _told(view: View, secret: str) -> bytes:
    members = msgspec.json.decode(view.document, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**members, "secret": secret})


HANDLERS: list[Any] = [create, change, rotate, delete_]
