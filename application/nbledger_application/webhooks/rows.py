"""The tables of deliveries: who subscribed, what is to be sent, what came of it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from nbledger_domain.webhook import EventSelection
from nbledger_infrastructure.postgres.database import PooledConnection


class Subscriber(msgspec.Struct, kw_only=True):
    """A webhook as whoever delivers keeps it."""

    webhook_id: UUID
    tenant_id: UUID
    project_id: UUID
    url: str
    selection: EventSelection
    ordered: bool
    enabled: bool
    secret_id: UUID
    previous_secret_id: UUID | None = None
    previous_until: datetime | None = None

    def secrets_at(self, now: datetime) -> list[UUID]:
        """The secrets that a delivery is signed with now."""
        if self.previous_secret_id is None or self.previous_until is None:
            return [self.secret_id]
        if self.previous_until <= now:
            return [self.secret_id]
        return [self.secret_id, self.previous_secret_id]


class Wished(msgspec.Struct, frozen=True):
    """An event that is to be sent to a webhook."""

    webhook_id: UUID
    position: int
    event_id: UUID
    type: str
    stream_id: UUID
    subject_id: UUID


_SUBSCRIBERS: Final = """
SELECT webhook_id, tenant_id, project_id, url, event_types, tags, ordered, enabled, secret_id,
    previous_secret_id, previous_until
FROM webhook_subscription
"""

_SAVE: Final = """
INSERT INTO webhook_subscription (
    webhook_id, tenant_id, project_id, url, event_types, tags, ordered, enabled, secret_id,
    previous_secret_id, previous_until
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (webhook_id) DO UPDATE SET
    url = $4, event_types = $5, tags = $6, ordered = $7, enabled = $8, secret_id = $9,
    previous_secret_id = $10, previous_until = $11
"""

_FORGET: Final = (
    "DELETE FROM webhook_attempt WHERE webhook_id = ANY($1)",
    "DELETE FROM webhook_delivery WHERE webhook_id = ANY($1)",
    "DELETE FROM webhook_redelivery WHERE webhook_id = ANY($1)",
    "DELETE FROM webhook_subscription WHERE webhook_id = ANY($1)",
)

# What was there is to be sent again from the start, where that is asked for.
_WISH: Final = """
INSERT INTO webhook_delivery (
    webhook_id, position, event_id, type, stream_id, subject_id, state, created_at
)
SELECT *, 'pending', $7 FROM unnest(
    $1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::uuid[], $6::uuid[]
)
ON CONFLICT (webhook_id, position) DO {conflict}
"""
_AGAIN: Final = """
UPDATE SET state = 'pending', failures = 0, next_attempt_at = NULL, ended_at = NULL
WHERE webhook_delivery.state <> 'pending' OR webhook_delivery.failures > 0
"""

# Without order everything that has no time gets one; with it, the first of each stream of which
# nothing is on its way.
_RELEASE: Final = """
WITH asked AS (
    SELECT DISTINCT webhook_id, stream_id FROM unnest($1::uuid[], $2::uuid[])
        AS pair (webhook_id, stream_id)
), released AS (
    SELECT d.webhook_id, d.position
    FROM asked
    JOIN webhook_subscription AS s USING (webhook_id)
    CROSS JOIN LATERAL (
        SELECT webhook_id, position FROM webhook_delivery AS d
        WHERE d.webhook_id = asked.webhook_id AND d.stream_id = asked.stream_id
            AND d.state = 'pending' AND d.next_attempt_at IS NULL
        ORDER BY position LIMIT CASE WHEN s.ordered THEN 1 END
    ) AS d
    WHERE NOT s.ordered OR NOT EXISTS (
        SELECT FROM webhook_delivery AS under_way
        WHERE under_way.webhook_id = asked.webhook_id AND under_way.stream_id = asked.stream_id
            AND under_way.state = 'pending' AND under_way.next_attempt_at IS NOT NULL
    )
)
UPDATE webhook_delivery AS d SET next_attempt_at = $3 FROM released
WHERE d.webhook_id = released.webhook_id AND d.position = released.position
"""

_LOCK: Final = """
SELECT FROM webhook_subscription WHERE webhook_id = ANY($1) ORDER BY webhook_id FOR UPDATE
"""

_ALL_NEXT: Final = """
SELECT webhook_id, min(next_attempt_at) AS at, max(failures) > 0 AS failing
FROM webhook_delivery WHERE state = 'pending' AND next_attempt_at IS NOT NULL GROUP BY webhook_id
"""

_TAGS: Final = """
SELECT stream_id, ARRAY(SELECT jsonb_array_elements_text((data -> 'tags')::jsonb)) AS tags
FROM event
WHERE stream_id = ANY($1) AND version = 1 AND type LIKE 'execution.requested.v%'
    AND (data -> 'tags') IS NOT NULL
"""


async def subscribers_of(
    connection: PooledConnection, project_ids: Iterable[UUID]
) -> dict[UUID, Subscriber]:
    """All webhooks of these projects, by id."""
    rows = await connection.fetch(f"{_SUBSCRIBERS} WHERE project_id = ANY($1)", list(project_ids))
    return {row["webhook_id"]: _subscriber(dict(row)) for row in rows}


async def subscribers(
    connection: PooledConnection, webhook_ids: Sequence[UUID]
) -> dict[UUID, Subscriber]:
    """Those of these webhooks that there are, by id."""
    rows = await connection.fetch(f"{_SUBSCRIBERS} WHERE webhook_id = ANY($1)", webhook_ids)
    return {row["webhook_id"]: _subscriber(dict(row)) for row in rows}


def _subscriber(row: dict[str, object]) -> Subscriber:
    types, tags = row.pop("event_types"), row.pop("tags")
    selection = EventSelection(event_types=tuple(types), tags=tuple(tags))  # type: ignore[arg-type]
    return Subscriber(selection=selection, **row)  # type: ignore[arg-type]


async def lock(connection: PooledConnection, webhook_ids: Iterable[UUID]) -> None:
    """Hold these webhooks until the transaction ends, which is to be the first thing that it does.

    Of two that add deliveries to a webhook or end some, the later one sees what the other has done.
    """
    await connection.execute(_LOCK, sorted(webhook_ids))


async def save(connection: PooledConnection, changed: Iterable[Subscriber]) -> None:
    """Write these webhooks."""
    await connection.executemany(
        _SAVE,
        [
            (
                *(each.webhook_id, each.tenant_id, each.project_id, each.url),
                *(list(each.selection.event_types), list(each.selection.tags)),
                *(each.ordered, each.enabled, each.secret_id),
                *(each.previous_secret_id, each.previous_until),
            )
            for each in changed
        ],
    )


async def forget(connection: PooledConnection, webhook_ids: Sequence[UUID]) -> None:
    """Delete all there is of these webhooks."""
    for statement in _FORGET:
        await connection.execute(statement, list(webhook_ids))


async def wish(
    connection: PooledConnection, wished: Sequence[Wished], at: datetime, *, again: bool = False
) -> None:
    """Let these events be sent, each once; with ``again`` also those that were sent or given up.

    To be called with the webhooks locked.
    """
    conflict = _AGAIN if again else "NOTHING"
    await connection.execute(
        _WISH.format(conflict=conflict),
        [each.webhook_id for each in wished],
        [each.position for each in wished],
        [each.event_id for each in wished],
        [each.type for each in wished],
        [each.stream_id for each in wished],
        [each.subject_id for each in wished],
        at,
    )
    await release(connection, [(each.webhook_id, each.stream_id) for each in wished], at)


async def release(
    connection: PooledConnection, streams: Sequence[tuple[UUID, UUID]], at: datetime
) -> None:
    """Give what may be sent now its time, of these streams of these webhooks, which are locked."""
    await connection.execute(
        _RELEASE, [each[0] for each in streams], [each[1] for each in streams], at
    )


async def release_all(connection: PooledConnection, webhook_id: UUID, at: datetime) -> None:
    """Likewise of all streams of a webhook that has no order any more."""
    await connection.execute(
        "UPDATE webhook_delivery SET next_attempt_at = $2"
        " WHERE webhook_id = $1 AND state = 'pending' AND next_attempt_at IS NULL",
        *(webhook_id, at),
    )


async def all_due(connection: PooledConnection) -> list[tuple[UUID, datetime, bool]]:
    """Of every webhook for which something waits: when it is due, and whether it is failing."""
    return [(row[0], row[1], row[2]) for row in await connection.fetch(_ALL_NEXT)]


async def tags_of(
    connection: PooledConnection, execution_ids: Iterable[UUID]
) -> dict[UUID, list[str]]:
    """The tags of executions that have any."""
    rows = await connection.fetch(_TAGS, list(execution_ids))
    return {row["stream_id"]: row["tags"] for row in rows}
