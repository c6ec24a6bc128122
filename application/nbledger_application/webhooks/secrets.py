"""What deliveries are signed with: made here, kept in a table, and in no event.

A secret is written before the event that names it. One that was written and never named signs
nothing; it goes with its webhook.
"""

import base64
import secrets
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire

SECRET_BYTES: Final = 32
"""Standard Webhooks asks for 24 to 64."""

_PREFIX: Final = "whsec_"


async def make(pool: Pool, webhook_id: UUID) -> tuple[UUID, str]:
    """A new secret of a webhook: its id, and the secret as its receiver is given it, once.

    Raises ``DatabaseUnavailableError``.
    """
    secret_id, secret = new_id(), secrets.token_bytes(SECRET_BYTES)
    async with acquire(pool) as connection:
        await connection.execute(
            "INSERT INTO webhook_secret (secret_id, webhook_id, secret) VALUES ($1, $2, $3)",
            *(secret_id, webhook_id, secret),
        )
    return secret_id, _PREFIX + base64.b64encode(secret).decode()


async def read(connection: PooledConnection, secret_ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """The secrets with these ids; one that is gone is left out."""
    rows = await connection.fetch(
        "SELECT secret_id, secret FROM webhook_secret WHERE secret_id = ANY($1)", list(secret_ids)
    )
    return {row["secret_id"]: row["secret"] for row in rows}


async def forget(connection: PooledConnection, webhook_ids: Sequence[UUID]) -> None:
    """Delete all secrets of these webhooks."""
    await connection.execute(
        "DELETE FROM webhook_secret WHERE webhook_id = ANY($1)", list(webhook_ids)
    )
