"""What came of attempts: written to the log, with what follows for the delivery."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from nbledger_application.webhooks import rows
from nbledger_application.webhooks.rows import Pending
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
SELECT $1, $2, d.attempts + 1, $3, $4, $5, $6, $7,
    CASE WHEN e.subject_id IS NULL THEN $8::json END,
    CASE WHEN e.subject_id IS NULL THEN $9::bytea END, $10, $11
FROM webhook_delivery AS d LEFT JOIN erasure AS e USING (subject_id)
WHERE d.webhook_id = $1 AND d.position = $2
ON CONFLICT DO NOTHING
"""

_MOVE: Final = """
UPDATE webhook_delivery
SET state = $3, attempts = attempts + 1, failures = failures + CASE WHEN $3 = 'delivered' THEN 0
        ELSE 1 END,
    next_attempt_at = $4, ended_at = CASE WHEN $3 = 'pending' THEN NULL ELSE $5::timestamptz END
WHERE webhook_id = $1 AND position = $2
"""


async def record(
    connection: PooledConnection, webhook_id: UUID, made: Sequence[Attempt], now: datetime
) -> None:
    """Write down what came of these attempts of a webhook, in one transaction."""
    async with connection.transaction():
        await connection.executemany(_LOG, [_logged(webhook_id, each) for each in made])
        await connection.executemany(
            _MOVE,
            [
                (
                    *(webhook_id, each.delivery.event.position, each.state),
                    *(None if each.pause is None else now + timedelta(seconds=each.pause), now),
                )
                for each in made
            ],
        )
        ended = [
            (webhook_id, each.delivery.event.stream_id) for each in made if each.state != "pending"
        ]
        if ended:
            await rows.release(connection, ended, now)


def _logged(webhook_id: UUID, made: Attempt) -> tuple[object, ...]:
    answered = made.answered
    return (
        *(webhook_id, made.delivery.event.position, made.at, answered.milliseconds, made.url),
        json.dumps(dict(made.headers)),
        answered.status,
        json.dumps(answered.headers) if answered.status is not None else None,
        answered.body if answered.status is not None else None,
        *(made.error, answered.detail),
    )
