"""Types of the API: webhooks. Made by `make client-models`."""

from typing import Any, Required, TypedDict

import msgspec

from nbledger_client.answers import Answered


class DeliveryAttemptDocument(msgspec.Struct, rename="camel", kw_only=True):
    """An attempt. `error` is null where it was delivered.

    `answerBody` is the beginning of the answer's body as text; it is null without an answer, and
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


class DeliveryDocument(Answered, rename="camel", kw_only=True):
    """A delivery with its attempts. `requestBody` is what is sent, without data once erased."""

    event_id: str
    position: int
    type: str
    state: str
    attempts: int
    created_at: str
    next_attempt_at: str | None
    ended_at: str | None
    request_body: Any
    log: list[DeliveryAttemptDocument]


class DeliveryItem(msgspec.Struct, rename="camel", kw_only=True):
    """A delivery in a list. `nextAttemptAt` is null where none is due."""

    event_id: str
    position: int
    type: str
    state: str
    attempts: int
    created_at: str
    next_attempt_at: str | None
    ended_at: str | None


class DeliveryPage(Answered, rename="camel", kw_only=True):
    """Deliveries, those of the newest events first; `next` is null on the last page."""

    deliveries: list[DeliveryItem]
    next: int | None


class WebhookChange(msgspec.Struct, rename="camel", kw_only=True):
    """What the webhook is to be; what is left out is as in a new one."""

    url: str
    event_types: list[str] | msgspec.UnsetType = msgspec.UNSET
    tags: list[str] | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType = msgspec.UNSET
    ordered: bool | msgspec.UnsetType = msgspec.UNSET
    enabled: bool | msgspec.UnsetType = msgspec.UNSET


class WebhookDocument(Answered, rename="camel", kw_only=True):
    """The body that `GET …/webhook/{webhookId}` answers with.

    `disabledReason` is `requested` or `gone`: the receiver answered 410. Until
    `previousSecretUntil` deliveries carry a signature by the secret before the last rotation, too.
    """

    webhook_id: str
    project_id: str
    url: str
    event_types: list[str]
    tags: list[str]
    description: str
    ordered: bool
    enabled: bool = True
    disabled_reason: str | None = None
    disabled_at: str | None = None
    previous_secret_until: str | None = None
    created_at: str
    created_by: str


class WebhookList(Answered, rename="camel", kw_only=True):
    """A page of the project's webhooks, newest first."""

    total_count: int
    page: int
    page_size: int
    has_next_page: bool
    webhooks: list[WebhookDocument]


class WebhookRedelivery(msgspec.Struct, rename="camel", kw_only=True):
    """What is to be sent again: events by their ids, or a range of positions."""

    event_ids: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    after: int | msgspec.UnsetType | None = msgspec.UNSET
    until: int | msgspec.UnsetType | None = msgspec.UNSET


class WebhookRequest(msgspec.Struct, rename="camel", kw_only=True):
    """A webhook: where events are sent, and which."""

    url: str
    event_types: list[str] | msgspec.UnsetType = msgspec.UNSET
    tags: list[str] | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType = msgspec.UNSET
    ordered: bool | msgspec.UnsetType = msgspec.UNSET


class WebhookWithSecret(Answered, rename="camel", kw_only=True):
    """A webhook, and the secret that its deliveries are signed with, which is not told again.

    `secret` is in the form of Standard Webhooks: `whsec_` and the key in Base64.
    """

    webhook_id: str
    project_id: str
    url: str
    event_types: list[str]
    tags: list[str]
    description: str
    ordered: bool
    enabled: bool = True
    disabled_reason: str | None = None
    disabled_at: str | None = None
    previous_secret_until: str | None = None
    created_at: str
    created_by: str
    secret: str


class WebhookChangeFields(TypedDict, total=False):
    """What `WebhookChange` is made of."""

    url: Required[str]
    event_types: list[str]
    tags: list[str]
    description: str
    ordered: bool
    enabled: bool


class WebhookRedeliveryFields(TypedDict, total=False):
    """What `WebhookRedelivery` is made of."""

    event_ids: list[str] | None
    after: int | None
    until: int | None


class WebhookRequestFields(TypedDict, total=False):
    """What `WebhookRequest` is made of."""

    url: Required[str]
    event_types: list[str]
    tags: list[str]
    description: str
    ordered: bool
