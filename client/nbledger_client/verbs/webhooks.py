"""Webhooks: addresses that events are sent to."""

from __future__ import annotations

from typing import Any, Protocol, Unpack

from nbledger_client.core.requests import (
    Call,
    Id,
    Repeat,
    Version,
    conditions,
    json_body,
    path_of,
)
from nbledger_client.core.steps import Item, Items
from nbledger_client.core.verbs import AwaitingGroup, BlockingGroup, Group, listing, verb
from nbledger_client.models.webhooks import (
    DeliveryDocument,
    DeliveryItem,
    DeliveryPage,
    WebhookChange,
    WebhookChangeFields,
    WebhookDocument,
    WebhookList,
    WebhookRedelivery,
    WebhookRedeliveryFields,
    WebhookRequest,
    WebhookRequestFields,
    WebhookWithSecret,
)


class HasWebhookId(Protocol):
    """What tells of a webhook."""

    webhook_id: str


Webhook = Id | HasWebhookId
"""A webhook: its id, or what was read of it."""


class WebhookVerbs(Group):
    """Webhooks of the project."""

    @verb("createWebhook")
    def create(self, **asked: Unpack[WebhookRequestFields]) -> Call[WebhookWithSecret]:
        """Make a webhook; its secret is told here, and never again.

        A request whose answer was lost is not sent again by itself: it might make two.

        >>> made = client.webhooks.create(url="https://receiver.example.org/", ordered=True)
        >>> made.secret.startswith("whsec_")
        True
        """
        body = json_body(WebhookRequest(**asked))
        return Call("POST", "webhook", WebhookWithSecret, body=body, repeat=Repeat.NEVER)

    @listing("listWebhooks")
    def list(self, *, page_size: int = 100) -> Items[WebhookDocument]:
        """List the project's webhooks.

        >>> webhook.webhook_id in [each.webhook_id for each in client.webhooks.list()]
        True
        """
        query = {"pageSize": page_size}
        return self._pages("webhook", WebhookList, lambda found: found.webhooks, query)

    @verb("getWebhook")
    def get(self, webhook: Webhook) -> Call[WebhookDocument]:
        """Read a webhook.

        >>> client.webhooks.get(webhook).enabled
        True
        """
        return Call("GET", _path(webhook), WebhookDocument)

    @verb("changeWebhook")
    def change(
        self,
        webhook: Webhook,
        *,
        if_match: Version | None = None,
        **asked: Unpack[WebhookChangeFields],
    ) -> Call[WebhookDocument]:
        """Say anew what a webhook is to be; what is not named is as in a new one.

        >>> url = "https://receiver.example.org/"
        >>> client.webhooks.change(webhook, url=url, description="Nightly").description
        'Nightly'
        """
        return Call(
            "PUT",
            _path(webhook),
            WebhookDocument,
            headers=conditions(if_match),
            body=json_body(WebhookChange(**asked)),
            repeat=Repeat.FREELY if if_match is None else Repeat.NEVER,
        )

    @verb("rotateWebhookSecret")
    def rotate_secret(self, webhook: Webhook) -> Call[WebhookWithSecret]:
        """Give a webhook another secret; the one before is good for a while yet.

        A request whose answer was lost is not sent again by itself: it would rotate twice.

        >>> client.webhooks.rotate_secret(webhook).secret.startswith("whsec_")
        True
        """
        path = f"{_path(webhook)}/secret"
        return Call("POST", path, WebhookWithSecret, repeat=Repeat.NEVER)

    @verb("redeliverToWebhook")
    def redeliver(
        self, webhook: Webhook, **asked: Unpack[WebhookRedeliveryFields]
    ) -> Call[WebhookDocument]:
        """Send events once more: named ones, or those between two positions.

        >>> client.webhooks.redeliver(webhook, after=0, until=1).webhook_id == webhook.webhook_id
        True
        """
        path, body = f"{_path(webhook)}/redelivery", json_body(WebhookRedelivery(**asked))
        return Call("POST", path, WebhookDocument, body=body, repeat=Repeat.NEVER)

    @listing("listWebhookDeliveries")
    def deliveries(
        self,
        webhook: Webhook,
        *,
        state: str | None = None,
        before: int | None = None,
        page_size: int = 100,
    ) -> Items[DeliveryItem]:
        """List what was and is to be sent, newest first.

        >>> list(client.webhooks.deliveries(webhook, state="dead"))
        []
        """
        query: dict[str, Any] = {"state": state, "before": before, "limit": page_size}
        while True:
            call = Call("GET", f"{_path(webhook)}/delivery", DeliveryPage, query)
            found = yield from self._talk.ask(call)
            for each in found.deliveries:
                yield Item(each)
            if found.next is None:
                return
            query["before"] = found.next

    @verb("getWebhookDelivery")
    def delivery(self, webhook: Webhook, event_id: Id) -> Call[DeliveryDocument]:
        """Read one delivery with its attempts.

        >>> for each in client.webhooks.deliveries(webhook):
        ...     attempts = client.webhooks.delivery(webhook, each.event_id).attempts
        """
        return Call("GET", f"{_path(webhook)}/delivery/{event_id}", DeliveryDocument)

    @verb("deleteWebhook")
    def delete(self, webhook: Webhook, *, if_match: Version | None = None) -> Call[None]:
        """Delete a webhook.

        >>> made = client.webhooks.create(url="https://receiver.example.org/")
        >>> client.webhooks.delete(made)
        """
        return Call(
            "DELETE",
            _path(webhook),
            type(None),
            headers=conditions(if_match),
            repeat=Repeat.FREELY if if_match is None else Repeat.NEVER,
            forgiving=True,
        )


def _path(webhook: Webhook) -> str:
    return path_of("webhook", getattr(webhook, "webhook_id", webhook))


class Webhooks(WebhookVerbs, BlockingGroup):
    """Webhooks of the project."""


class AsyncWebhooks(WebhookVerbs, AwaitingGroup):
    """Webhooks of the project, awaited."""
