"""The log of deliveries, as it is read: what was sent to a webhook, and what came of it."""

import json
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
import msgspec

from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event

DeliveryState = Literal["pending", "delivered", "dead"]

_COLUMNS: Final = "event_id, position, type, state, attempts, created_at, next_attempt_at, ended_at"

# By state there is an index of its own, in the order of the list.
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM webhook_delivery
WHERE webhook_id = $1 AND position < $2 AND {{state}}
ORDER BY position DESC LIMIT $3
"""  # noqa: S608 (constants)

_ONE: Final = f"""
SELECT {_COLUMNS} FROM webhook_delivery WHERE webhook_id = $1 AND event_id = $2
"""  # noqa: S608 (constants)

_ATTEMPTS: Final = """
SELECT number, at, milliseconds, url, request_headers, status, answer_headers, answer_body, error,
    detail
FROM webhook_attempt WHERE webhook_id = $1 AND position = $2 ORDER BY number
"""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """That an event is to be sent to a webhook, and how far that is.

    ``next_attempt_at`` is null as well while it waits for an earlier event of its stream.
    """

    event_id: UUID
    position: int
    type: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    ended_at: datetime | None


class LoggedAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt: what was sent, but for the body, and what was answered."""

    number: int
    at: datetime
    milliseconds: int
    url: str
    request_headers: dict[str, str]
    status: int | None
    answer_headers: list[tuple[str, str]] | None
    answer_body: bytes | None
    error: str | None
    detail: str | None


class LoggedDelivery(msgspec.Struct, frozen=True):
    """A delivery with its attempts, and the event as it is now."""

    delivery: Delivery
    attempts: list[LoggedAttempt]
    event: RecordedEvent


async def page(
    pool: Pool, webhook_id: UUID, *, state: DeliveryState | None, before: int, limit: int
) -> list[Delivery]:
    """Deliveries of events before this position, the newest events first.

    Raises ``DatabaseUnavailableError``.
    """
    narrow = "true" if state is None else "state = $4"
    values = () if state is None else (state,)
    async with acquire(pool) as connection:
        rows = await connection.fetch(
            _PAGE.format(state=narrow), webhook_id, before, limit, *values
        )
    return [_delivery(row) for row in rows]


async def find(pool: Pool, webhook_id: UUID, event_id: UUID) -> LoggedDelivery | None:
    """The delivery of an event with all that is logged of it; ``None`` where there is none.

    Raises ``DatabaseUnavailableError``.
    """
    async with acquire(pool) as connection:
        row = await connection.fetchrow(_ONE, webhook_id, event_id)
        if row is None:
            return None
        delivery = _delivery(row)
        made = await connection.fetch(_ATTEMPTS, webhook_id, delivery.position)
        event = await connection.fetchrow(
            f"SELECT {COLUMNS} FROM event WHERE position = $1",  # noqa: S608 (constants)
            delivery.position,
        )
    assert event is not None  # noqa: S101 (no event is ever deleted)
    return LoggedDelivery(delivery, [_attempt(dict(each)) for each in made], recorded_event(event))


def _delivery(row: asyncpg.Record) -> Delivery:
    return Delivery(**dict(row))


def _attempt(row: dict[str, Any]) -> LoggedAttempt:
    headers = row.pop("answer_headers")
    return LoggedAttempt(
        **{**row, "request_headers": json.loads(row["request_headers"])},
        answer_headers=None if headers is None else [tuple(each) for each in json.loads(headers)],
    )
