"""Subscribe webhooks to the events of a project, change them, rotate their secrets."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import msgspec

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_application.preconditions import UNCONDITIONAL, Precondition
from nbledger_application.webhooks import secrets
from nbledger_domain.errors import TooManyWebhooksError, WebhookNotFoundError
from nbledger_domain.webhook import EventSelection, Webhook
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.aggregates import Loaded
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore

# By the events, not by a list that may be behind them. The index has this very condition.
_COUNT: Final = f"""
SELECT count(*) FROM event AS made
WHERE made.type = '{Webhook.Created.TYPE}' AND made.tenant_id = $1 AND made.project_id = $2
    AND NOT EXISTS (
        SELECT FROM event AS gone
        WHERE gone.stream_id = made.stream_id AND gone.type = '{Webhook.Deleted.TYPE}'
    )
"""  # noqa: S608 (constants)


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook is to be."""

    url: str
    wanted: EventSelection
    description: str
    ordered: bool


async def create_webhook(
    pool: Pool, store: EventStore, caller: Caller, asked: Subscription, *, limit: int
) -> tuple[UUID, str]:
    """Record a new webhook; returns its id, and its secret, which nobody can read again.

    ``limit`` is how many the project may have (of requests at the same moment one more each may
    pass). Raises :class:`TooManyWebhooksError`.
    """
    async with acquire(pool) as connection:
        count = await connection.fetchval(_COUNT, caller.tenant_id, caller.project_id)
    if count >= limit:
        raise TooManyWebhooksError(limit)
    webhook_id = new_id()
    secret_id, secret = await secrets.make(pool, webhook_id)
    webhook = Webhook.create(
        webhook_id,
        url=asked.url,
        wanted=asked.wanted,
        description=asked.description,
        ordered=asked.ordered,
        secret_id=secret_id,
        at=now(),
    )
    stream = caller.stream(webhook_id, webhook_id)
    await repository.save(store, webhook, stream, caller.metadata())
    return webhook_id, secret


async def change_webhook(
    store: EventStore,
    caller: Caller,
    webhook_id: UUID,
    asked: Subscription,
    *,
    enabled: bool,
    precondition: Precondition,
) -> None:
    """Make the webhook what is asked for.

    Raises :class:`WebhookNotFoundError`, :class:`PreconditionFailedError`, :class:`RuledOutError`,
    and :class:`RecordConflictError` after ten lost races.
    """

    def change(webhook: Webhook) -> None:
        at = now()
        webhook.change(
            url=asked.url,
            wanted=asked.wanted,
            description=asked.description,
            ordered=asked.ordered,
            at=at,
        )
        if enabled:
            webhook.enable(at=at)
        else:
            webhook.disable("requested", at=at)

    await _update(store, caller, webhook_id, change, precondition)


async def rotate_secret(
    pool: Pool, store: EventStore, caller: Caller, webhook_id: UUID, *, overlap_seconds: float
) -> str:
    """Let the webhook have a new secret, and return it; the old one signs as well for a time.

    Raises :class:`WebhookNotFoundError`, and :class:`RecordConflictError` after ten lost races.
    """
    await load_webhook(store, caller, webhook_id)
    secret_id, secret = await secrets.make(pool, webhook_id)

    def rotate(webhook: Webhook) -> None:
        at = now()
        until = at + timedelta(seconds=overlap_seconds)
        webhook.rotate_secret(secret_id, previous_until=until, at=at)

    await _update(store, caller, webhook_id, rotate)
    return secret


async def redeliver_events(
    store: EventStore, caller: Caller, webhook_id: UUID, events: Sequence[UUID]
) -> None:
    """Ask that these events be sent to the webhook again.

    Raises :class:`WebhookNotFoundError`, and :class:`RecordConflictError` after ten lost races.
    """
    await _update(store, caller, webhook_id, lambda webhook: webhook.redeliver(events, at=now()))


async def redeliver_range(
    store: EventStore, caller: Caller, webhook_id: UUID, *, after: int, until: int
) -> None:
    """Ask that the wanted events after position ``after`` and up to ``until`` be sent again.

    Raises :class:`WebhookNotFoundError`, and :class:`RecordConflictError` after ten lost races.
    """
    await _update(
        *(store, caller, webhook_id),
        lambda webhook: webhook.redeliver_range(after=after, until=until, at=now()),
    )


async def delete_webhook(
    pool: Pool, store: EventStore, caller: Caller, webhook_id: UUID, *, precondition: Precondition
) -> None:
    """Delete the webhook with its secrets; its data is erased soon after.

    Raises :class:`WebhookNotFoundError`, :class:`PreconditionFailedError`, :class:`RuledOutError`,
    and :class:`RecordConflictError` after ten lost races.
    """
    await _update(
        *(store, caller, webhook_id),
        lambda webhook: webhook.delete(at=now()),
        precondition,
    )
    async with acquire(pool) as connection:
        await secrets.forget(connection, [webhook_id])


async def load_webhook(store: EventStore, caller: Caller, webhook_id: UUID) -> Loaded[Webhook]:
    """The webhook.

    Raises :class:`WebhookNotFoundError` where it is unknown, foreign or deleted.
    """
    loaded = await aggregates.load(store, Webhook, webhook_id)
    if loaded is None or not caller.owns(loaded.stream) or loaded.aggregate.deleted:
        raise WebhookNotFoundError(webhook_id)
    return loaded


async def _update(
    store: EventStore,
    caller: Caller,
    webhook_id: UUID,
    change: Callable[[Webhook], None],
    precondition: Precondition = UNCONDITIONAL,
) -> None:
    async def read() -> Loaded[Webhook]:
        return await load_webhook(store, caller, webhook_id)

    def checked(webhook: Webhook) -> None:
        precondition.check(webhook.version, webhook.modified_on, "webhook")
        change(webhook)

    await repository.update_loaded(store, read, checked, caller.metadata())
