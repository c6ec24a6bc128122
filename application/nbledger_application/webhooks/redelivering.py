"""Sending events again: by their ids at once, by a range of positions bit by bit."""

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from msgspec import UNSET

from nbledger_application.webhooks import rows
from nbledger_application.webhooks.rows import Subscriber, Wished
from nbledger_domain.webhook import Webhook
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import RecordedEvent

AT_ONCE: Final = 1000
"""So many positions of a range are looked at in one transaction."""

_FIELDS: Final = "position, event_id, type, stream_id, subject_id"

_BY_ID: Final = f"""
SELECT {_FIELDS} FROM event
WHERE event_id = ANY($1) AND tenant_id = $2 AND project_id = $3 ORDER BY position
"""  # noqa: S608 (constants)

_BY_RANGE: Final = f"""
SELECT {_FIELDS} FROM event
WHERE (tenant_id, project_id, position) > ($1, $2, $3)
    AND (tenant_id, project_id, position) <= ($1, $2, $4)
ORDER BY tenant_id, project_id, position LIMIT $5
"""  # noqa: S608 (constants)

_NEXT: Final = """
SELECT redelivery_id, webhook_id, after, until FROM webhook_redelivery
ORDER BY redelivery_id LIMIT 1 FOR UPDATE
"""


class Chunk(msgspec.Struct, frozen=True):
    """A part of a range: of which webhook, what of it may be sent, and whether more is left."""

    subscriber: Subscriber
    candidates: list[Wished]


async def record(
    connection: PooledConnection,
    recorded: RecordedEvent,
    event: Webhook.RedeliveryRequested,
    at: datetime,
) -> None:
    """Take down what is to be sent again, within the transaction of the event that asks for it."""
    webhook_id = recorded.stream_id
    if event.events is not UNSET:
        found = await connection.fetch(
            _BY_ID, event.events, recorded.tenant_id, recorded.project_id
        )
        if found:
            await rows.wish(connection, [Wished(webhook_id, *row) for row in found], at, again=True)
        return
    assert event.after is not UNSET  # noqa: S101 (it is one or the other)
    assert event.until is not UNSET  # noqa: S101
    await connection.execute(
        "INSERT INTO webhook_redelivery (redelivery_id, webhook_id, after, until)"
        " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        *(recorded.event_id, webhook_id, event.after, event.until),
    )


async def next_chunk(connection: PooledConnection) -> Chunk | None:
    """The next part of the first range that is left, within a transaction that notes it as done.

    ``None`` where no range is left.
    """
    asked = await connection.fetchrow(_NEXT)
    if asked is None:
        return None
    webhook_id: UUID = asked["webhook_id"]
    await rows.lock(connection, [webhook_id])
    subscriber = (await rows.subscribers(connection, [webhook_id])).get(webhook_id)
    if subscriber is None:
        await _end(connection, asked["redelivery_id"])
        return await next_chunk(connection)
    found = await connection.fetch(
        *(_BY_RANGE, subscriber.tenant_id, subscriber.project_id),
        *(asked["after"], asked["until"], AT_ONCE),
    )
    if len(found) < AT_ONCE:
        await _end(connection, asked["redelivery_id"])
    else:
        await connection.execute(
            "UPDATE webhook_redelivery SET after = $2 WHERE redelivery_id = $1",
            *(asked["redelivery_id"], found[-1]["position"]),
        )
    return Chunk(
        subscriber,
        [
            Wished(subscriber.webhook_id, *row)
            for row in found
            if subscriber.selection.takes_type(row["type"])
            and row["stream_id"] != subscriber.webhook_id
        ],
    )


async def _end(connection: PooledConnection, redelivery_id: UUID) -> None:
    await connection.execute(
        "DELETE FROM webhook_redelivery WHERE redelivery_id = $1", redelivery_id
    )
