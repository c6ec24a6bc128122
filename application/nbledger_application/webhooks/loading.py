"""What is read before webhooks are sent to: what is due of many at once, and the messages."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

import msgspec

from nbledger_application.database_clock import Clock
from nbledger_application.webhooks import following, rows, secrets
from nbledger_application.webhooks.rows import Subscriber
from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event

_DUE: Final = """
SELECT asked.webhook_id, due.position, due.event_id, due.stream_id, due.failures
FROM unnest($1::uuid[], $2::integer[]) AS asked (webhook_id, size)
CROSS JOIN LATERAL (
    SELECT position, event_id, stream_id, failures, next_attempt_at FROM webhook_delivery AS d
    WHERE d.webhook_id = asked.webhook_id AND d.state = 'pending' AND d.next_attempt_at <= $3
    ORDER BY next_attempt_at, position LIMIT asked.size
) AS due
ORDER BY asked.webhook_id, due.next_attempt_at, due.position
"""

_NEXT: Final = """
SELECT asked.webhook_id, (
    SELECT min(next_attempt_at) FROM webhook_delivery AS d
    WHERE d.webhook_id = asked.webhook_id AND d.state = 'pending' AND d.next_attempt_at > $2
) FROM unnest($1::uuid[]) AS asked (webhook_id)
"""

_DATA: Final = "CASE WHEN octet_length(data::text) <= $2 THEN data END AS data"
_MESSAGES: Final = f"""
SELECT {COLUMNS.replace(" data,", f" {_DATA},")}, octet_length(data::text) > $2 AS large
FROM event WHERE position = ANY($1)
"""  # noqa: S608 (constants)


class Envelope(Protocol):
    """Makes the body of a message of an event; ``large`` says that its data was not even read."""

    def __call__(self, recorded: RecordedEvent, *, large: bool = False) -> bytes:
        """The body."""
        ...


class Pending(msgspec.Struct, frozen=True):
    """A delivery whose time has come; ``failures`` counts those in a row."""

    position: int
    event_id: UUID
    stream_id: UUID
    failures: int


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as it is now, ``None`` where it is gone or off; what is due, and its secrets.

    ``next_due`` is when more will be, ``position`` how far the events are known.
    """

    now: datetime
    position: int
    subscriber: Subscriber | None
    due: Sequence[Pending] = ()
    keys: Sequence[bytes] = ()
    next_due: datetime | None = None


class Loader:
    """Reads for whoever delivers, no data larger than ``max_body_kb``.

    Its methods raise ``DatabaseUnavailableError``.
    """

    def __init__(self, pool: Pool, envelope: Envelope, now: Clock, *, max_body_kb: int) -> None:
        self._pool = pool
        self._most = max_body_kb * 1024
        self._envelope = envelope
        self._now = now

    async def ready(self, asked: Sequence[tuple[UUID, int]]) -> list[Ready]:
        """Of each of these webhooks so many deliveries, the longest due first."""
        async with acquire(self._pool) as connection:
            now = await self._now(connection)
            # First: what is read after it is no older.
            position = await checkpoints.position(connection, following.NAME)
            known = await rows.subscribers(connection, [webhook_id for webhook_id, _ in asked])
            live = {each.webhook_id for each in known.values() if each.enabled}
            due = await self._due(connection, [each for each in asked if each[0] in live], now)
            later = dict(map(tuple, await connection.fetch(_NEXT, list(live), now)))
            keys = await secrets.read(
                connection,
                [each for one in due for each in known[one].secrets_at(now)],
            )
        return [
            Ready(
                now=now,
                position=position,
                subscriber=known[webhook_id],
                due=due.get(webhook_id, ()),
                keys=[keys[each] for each in known[webhook_id].secrets_at(now) if each in keys],
                next_due=later[webhook_id],
            )
            if webhook_id in live
            else Ready(now=now, position=position, subscriber=None)
            for webhook_id, _ in asked
        ]

    async def _due(
        self, connection: PooledConnection, asked: Sequence[tuple[UUID, int]], now: datetime
    ) -> dict[UUID, list[Pending]]:
        found: dict[UUID, list[Pending]] = {}
        ids, sizes = [each[0] for each in asked], [each[1] for each in asked]
        for row in await connection.fetch(_DUE, ids, sizes, now):
            found.setdefault(row[0], []).append(Pending(*tuple(row)[1:]))
        return found

    async def bodies(self, positions: Sequence[int]) -> list[bytes]:
        """The messages of the events at these positions."""
        async with acquire(self._pool) as connection:
            found = await connection.fetch(_MESSAGES, list(set(positions)), self._most)
        made = {
            row["position"]: self._envelope(
                recorded_event(tuple(row)[:-1]), large=bool(row["large"])
            )
            for row in found
        }
        return [made[each] for each in positions]
