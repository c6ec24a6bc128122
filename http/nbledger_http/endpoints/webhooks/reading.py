"""Webhooks: list and read them."""

from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, get

from nbledger_application.caller import Caller, Right
from nbledger_domain.errors import WebhookNotFoundError
from nbledger_http.description.documentation import (
    ETAG,
    NOT_MODIFIED,
    READ_CONDITIONS,
    Answer,
    Operation,
)
from nbledger_http.description.schemas import PageBody
from nbledger_http.endpoints.webhooks import examples
from nbledger_http.replies.problems import Code
from nbledger_http.replies.responses import Reply
from nbledger_http.representations.conditional import document_reply
from nbledger_http.representations.documents import (
    LIST_HEADERS,
    LIST_NOTES,
    READ_OWN_WRITES,
    etag,
    page_reply,
)
from nbledger_http.representations.principals import with_name, with_names
from nbledger_http.requests import queries
from nbledger_http.requests.queries import Paging
from nbledger_http.requests.services import Services, services_of
from nbledger_http.security.access import access_of, webhook_id_of
from nbledger_projections.machinery.documents import Page, View
from nbledger_projections.read_models import webhooks
from nbledger_projections.read_models.webhooks import WebhookDocument

TAG = "Webhooks"


class WebhookList(PageBody, rename="camel", kw_only=True):
    """A page of the project's webhooks, newest first."""

    webhooks: list[WebhookDocument]


@get(
    "/webhook",
    right=Right.READ,
    operation=Operation(
        id="listWebhooks",
        tag=TAG,
        summary="List webhooks",
        description=LIST_NOTES,
        query=Paging,
        headers=READ_OWN_WRITES,
        answers={
            200: Answer(
                description="The webhooks.",
                schema=WebhookList,
                example=examples.WEBHOOK_LIST,
                headers=LIST_HEADERS,
            )
        },
        problems=(Code.PROJECT_NOT_FOUND, Code.VALIDATION_FAILED),
    ),
)
async def list_webhooks(request: Request[Any, Any, Any]) -> Reply:
    """A page of the project's webhooks."""
    services, access = services_of(request), access_of(request)

    async def read(page: int, size: int) -> Page:
        found = await webhooks.page(
            services.pool, access.tenant_id, access.project_id, page=page, page_size=size
        )
        named = await with_names(services.names, access.tenant_id, found.items, "createdBy")
        return msgspec.structs.replace(found, items=named)

    asked = queries.read(request, Paging)
    return await page_reply(request, asked, "webhooks", webhooks.NAME, read)


@get(
    "/webhook/{webhook_id:str}",
    right=Right.READ,
    operation=Operation(
        id="getWebhook",
        tag=TAG,
        summary="Get a webhook",
        description="As of now: never behind what an earlier request has changed. Its secret is "
        "told nowhere again.",
        headers=READ_CONDITIONS,
        answers={
            200: Answer(
                description="The webhook.",
                schema=WebhookDocument,
                example=examples.WEBHOOK,
                headers=ETAG,
            ),
            304: NOT_MODIFIED,
        },
        problems=(Code.WEBHOOK_NOT_FOUND, Code.PRECONDITION_FAILED),
    ),
)
async def get_webhook(request: Request[Any, Any, Any]) -> Reply:
    """The webhook."""
    view = await view_of(services_of(request), access_of(request), webhook_id_of(request))
    return document_reply(request, view.document, etag=etag(view), modified_at=view.modified_at)


async def view_of(services: Services, access: Caller, webhook_id: UUID) -> View:
    """The webhook as of now. Raises :class:`WebhookNotFoundError`."""
    view = await webhooks.get(services.pool, access.tenant_id, access.project_id, webhook_id)
    if view is None:
        raise WebhookNotFoundError(webhook_id)
    document = await with_name(services.names, access.tenant_id, view.document, "createdBy")
    return msgspec.structs.replace(view, document=document)


HANDLERS: list[Any] = [list_webhooks, get_webhook]
