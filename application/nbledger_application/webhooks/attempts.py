"""What came of attempts: written to the log, with what follows for the delivery."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from nbledger_application.webhooks import rows
from nbledger_application.webhooks.loading import Pending
from nbledger_domain.webhook import next_attempt_after
from nbledger_infrastructure.egress.posting import Answered
from nbledger_infrastructure.postgres.database import PooledConnection

GONE: Final = 410


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt: what was sent when, and what came of it."""

    delivery: Pending
    at: datetime
    url: str
    headers: Mapping[str, str]
    answered: Answered
    jitter: float = 0.0

    @property
    def delivered(self) -> bool:
        """Whether the receiver has taken it: by 2xx, as the standard says."""
        status = self.answered.status
        return status is not None and 200 <= status < 300

    @property
    def gone(self) -> bool:
        """Whether the receiver wants nothing any more."""
        return self.answered.status == GONE

    @property
    def error(self) -> str | None:
        """Why it was not delivered, as a code."""
        if self.delivered or self.answered.status is None:
            return self.answered.error
        if self.gone:
            return "gone"
        return "redirected" if 300 <= self.answered.status < 400 else "refused"

    @property
    def pause(self) -> float | None:
        """Seconds until it is attempted again; ``None`` for never."""
        if self.delivered or self.gone:
            return None
        return next_attempt_after(self.delivery.failures + 1, self.jitter)

    def again_at(self, now: datetime) -> datetime | None:
        """When it is attempted again, where that is recorded now; ``None`` for never."""
        return None if self.pause is None else now + timedelta(seconds=self.pause)

    @property
    def state(self) -> str:
        """What becomes of the delivery."""
        if self.delivered:
            return "delivered"
        return "dead" if self.pause is None else "pending"


# Nothing is written of a delivery that is gone, with its webhook; and of an erased subject no
# answer is kept, as it may repeat what was sent.
_LOG: Final = """
INSERT INTO webhook_attempt (
    webhook_id, position, number, at, milliseconds, url, request_headers, status, answer_headers,
    answer_body, error, detail
)
SELECT made.webhook_id, made.position, d.attempts + 1, made.at, made.milliseconds, made.url,
    made.request_headers::json, made.status,
    CASE WHEN e.subject_id IS NULL THEN made.answer_headers::json END,
    CASE WHEN e.subject_id IS NULL THEN made.answer_body END, made.error, made.detail
FROM unnest(
    $1::uuid[], $2::bigint[], $3::timestamptz[], $4::integer[], $5::text[], $6::text[],
    $7::integer[], $8::text[], $9::bytea[], $10::text[], $11::text[]
) AS made (
    webhook_id, position, at, milliseconds, url, request_headers, status, answer_headers,
    answer_body, error, detail
)
JOIN webhook_delivery AS d USING (webhook_id, position)
LEFT JOIN erasure AS e USING (subject_id)
ON CONFLICT DO NOTHING
"""

_MOVE: Final = """
UPDATE webhook_delivery AS d
SET state = made.state, attempts = d.attempts + 1, next_attempt_at = made.again_at,
    failures = d.failures + CASE WHEN made.state = 'delivered' THEN 0 ELSE 1 END,
    ended_at = CASE WHEN made.state = 'pending' THEN NULL ELSE $5::timestamptz END
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[])
    AS made (webhook_id, position, state, again_at)
WHERE d.webhook_id = made.webhook_id AND d.position = made.position
"""


async def record(
    connection: PooledConnection, made: Sequence[tuple[UUID, Sequence[Attempt]]], now: datetime
) -> None:
    """Write down what came of these attempts of these webhooks, in one transaction."""
    every = [(webhook_id, each) for webhook_id, some in made for each in some]
    moves = [
        (webhook_id, each.delivery.position, each.state, each.again_at(now))
        for webhook_id, each in every
    ]
    async with connection.transaction():
        await rows.lock(connection, {webhook_id for webhook_id, _ in every})
        await connection.execute(_LOG, *zip(*(_logged(*each) for each in every), strict=True))
        await connection.execute(_MOVE, *zip(*moves, strict=True), now)
        ended = [
            (webhook_id, each.delivery.stream_id)
            for webhook_id, each in every
            if each.state != "pending"
        ]
        if ended:
            await rows.release(connection, ended, now)


def _logged(webhook_id: UUID, made: Attempt) -> tuple[object, ...]:
    answered = made.answered
    return (
        *(webhook_id, made.delivery.position, made.at, answered.milliseconds, made.url),
        json.dumps(dict(made.headers)),
        answered.status,
        json.dumps(answered.headers) if answered.status is not None else None,
        answered.body if answered.status is not None else None,
        *(made.error, answered.detail),
    )
