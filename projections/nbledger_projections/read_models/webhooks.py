"""The webhook as the API shows it: one row each, folded from its events."""

from typing import Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.webhook import DisableReason, Webhook
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.documents import Documents
from nbledger_projections.read_models.humanize import timestamp

NAME: Final = "webhook_details"


class WebhookDocument(msgspec.Struct, rename="camel", kw_only=True):
    """The body that ``GET …/webhook/{webhookId}`` answers with.

    ``disabledReason`` is ``requested`` or ``gone``: the receiver answered 410. Until
    ``previousSecretUntil`` deliveries carry a signature by the secret before the last rotation,
    too.
    """

    webhook_id: UUID
    project_id: UUID
    url: str
    event_types: list[str]
    tags: list[str]
    description: str
    ordered: bool
    enabled: bool = True
    disabled_reason: DisableReason | UnsetType = UNSET
    disabled_at: str | UnsetType = UNSET
    previous_secret_until: str | UnsetType = UNSET
    created_at: str
    created_by: str


def _created(recorded: RecordedEvent, event: Webhook.Created) -> WebhookDocument:
    return WebhookDocument(
        webhook_id=recorded.stream_id,
        project_id=recorded.project_id,
        url=event.url,
        event_types=event.event_types,
        tags=event.tags,
        description=event.description,
        ordered=event.ordered,
        created_at=timestamp(recorded.occurred_at),
        created_by=recorded.metadata.actor,
    )


def _changed(document: WebhookDocument, _: RecordedEvent, event: Webhook.Changed) -> None:
    document.url = event.url
    document.event_types = event.event_types
    document.tags = event.tags
    document.description = event.description
    document.ordered = event.ordered


def _rotated(document: WebhookDocument, _: RecordedEvent, event: Webhook.SecretRotated) -> None:
    document.previous_secret_until = timestamp(event.previous_until)


def _disabled(document: WebhookDocument, recorded: RecordedEvent, event: Webhook.Disabled) -> None:
    document.enabled = False
    document.disabled_reason = event.reason
    document.disabled_at = timestamp(recorded.occurred_at)


def _enabled(document: WebhookDocument, _: RecordedEvent, __: Webhook.Enabled) -> None:
    document.enabled = True
    document.disabled_reason = UNSET
    document.disabled_at = UNSET


MODEL = Documents(
    NAME,
    WebhookDocument,
    key="webhook_id",
    created=Webhook.Created,
    create=_created,
    changes={
        Webhook.Changed.TYPE: _changed,
        Webhook.SecretRotated.TYPE: _rotated,
        Webhook.Disabled.TYPE: _disabled,
        Webhook.Enabled.TYPE: _enabled,
        Webhook.RedeliveryRequested.TYPE: lambda *_: None,
    },
    deleted=Webhook.Deleted,
    item=lambda document: document,
)
get = MODEL.get
page = MODEL.page
