"""What the database has of witnesses: the policy, what each has cosigned, and its signatures.

Rows are locked in the order that :mod:`nbledger_audit.logs` tells.
"""

from datetime import UTC, datetime
from functools import partial
from typing import Final
from uuid import UUID

import msgspec

from nbledger_audit import logs
from nbledger_audit.keys import verify
from nbledger_domain.transparency.checkpoints import timestamp_of
from nbledger_domain.transparency.notes import Key, Note, Signature, read_note
from nbledger_domain.transparency.policies import NONE, Policy
from nbledger_infrastructure.postgres.conflicts import retried
from nbledger_infrastructure.postgres.database import PooledConnection

_TELL: Final = """
INSERT INTO log_policy (policy, maximum_age_seconds) VALUES ($1, $2)
ON CONFLICT (one) DO UPDATE
    SET policy = excluded.policy, maximum_age_seconds = excluded.maximum_age_seconds
WHERE log_policy IS DISTINCT FROM excluded
RETURNING true
"""

# What is good by another policy is judged anew, by cosignatures that are asked for anew.
_FORGET: Final = """
WITH forgotten AS (
    SELECT tenant_id FROM transparency_log WHERE witnessed_size > 0
    ORDER BY tenant_id FOR NO KEY UPDATE
)
UPDATE transparency_log AS log SET witnessed_size = 0, witnessed_at = NULL FROM forgotten
WHERE log.tenant_id = forgotten.tenant_id
"""

_ASK_ANEW: Final = """
WITH asked AS (
    SELECT tenant_id, witness FROM log_witness
    ORDER BY tenant_id, witness FOR NO KEY UPDATE
)
UPDATE log_witness AS known SET asked_at = '-infinity' FROM asked
WHERE known.tenant_id = asked.tenant_id AND known.witness = asked.witness
"""

_DUE: Final = """
SELECT log.tenant_id, log.signed_size, coalesce(witness.size, 0) AS size,
    coalesce(witness.problem, '') AS problem
FROM transparency_log AS log
LEFT JOIN log_witness AS witness
    ON witness.tenant_id = log.tenant_id AND witness.witness = $1
WHERE log.signed_size > 0 AND log.tenant_id > $2
    AND log.confirmed_at > clock_timestamp() - make_interval(secs => $6) AND (
    witness.tenant_id IS NULL
    OR witness.problem = '' AND witness.size <> log.signed_size
    OR witness.asked_at < clock_timestamp()
        - make_interval(secs => CASE witness.problem WHEN '' THEN $3::float8 ELSE $4::float8 END)
)
ORDER BY log.tenant_id LIMIT $5
"""

_RENEW: Final = """
WITH stale AS (
    SELECT tenant_id FROM transparency_log AS log
    WHERE signed_size > 0 AND NOT renewal
        AND coalesce(confirmed_at, '-infinity') <= clock_timestamp() - make_interval(secs => $4)
        AND NOT EXISTS (
            SELECT FROM log_witness AS witness
            WHERE witness.tenant_id = log.tenant_id AND witness.witness = $1
                AND (witness.problem <> '' OR witness.size = log.signed_size)
                AND witness.asked_at >= clock_timestamp() - make_interval(
                    secs => CASE witness.problem WHEN '' THEN $2::float8 ELSE $3::float8 END
                )
        )
    ORDER BY tenant_id FOR NO KEY UPDATE
)
UPDATE transparency_log AS log SET renewal = true FROM stale
WHERE log.tenant_id = stale.tenant_id
"""

_ASKED: Final = """
INSERT INTO log_witness (tenant_id, witness, size, cosigned_at, asked_at, problem)
VALUES ($1, $2, $3, $4, CASE WHEN $6 THEN '-infinity' ELSE clock_timestamp() END, $5)
ON CONFLICT (tenant_id, witness) DO UPDATE SET
    size = CASE WHEN excluded.problem = '' THEN excluded.size ELSE log_witness.size END,
    cosigned_at = coalesce(excluded.cosigned_at, log_witness.cosigned_at),
    asked_at = excluded.asked_at, problem = excluded.problem
"""

_SIGNED: Final = """
SELECT note FROM log_checkpoint WHERE tenant_id = $1 AND size = $2
"""

_LOCK: Final = """
SELECT FROM transparency_log WHERE tenant_id = $1 FOR NO KEY UPDATE
"""

_NOTE: Final = """
SELECT note || cosignatures AS note FROM log_checkpoint WHERE tenant_id = $1 AND size = $2
FOR UPDATE
"""

_KEEP: Final = """
UPDATE log_checkpoint SET cosignatures = cosignatures || $3 WHERE tenant_id = $1 AND size = $2
"""

_REPLACE: Final = """
UPDATE log_checkpoint SET cosignatures = replace(cosignatures, $4, $3)
WHERE tenant_id = $1 AND size = $2
"""

_WITNESSED: Final = """
UPDATE transparency_log SET witnessed_size = $2, witnessed_at = $3
WHERE tenant_id = $1 AND witnessed_size <= $2
"""


class DueCosignature(msgspec.Struct, frozen=True):
    """A log of which a witness is to cosign ``signed_size`` entries.

    ``size`` is what it has cosigned last as far as is known, ``problem`` why it has not since.
    """

    tenant_id: UUID
    signed_size: int
    size: int
    problem: str


async def tell_policy(connection: PooledConnection, policy: Policy) -> None:
    """Tell readers of the logs by which policy checkpoints are cosigned from now on."""

    async def tell() -> None:
        async with connection.transaction():
            if await connection.fetchval(_TELL, str(policy), policy.maximum_age):
                await connection.execute(_FORGET)
                await connection.execute(_ASK_ANEW)

    await retried(tell)


async def due(
    connection: PooledConnection,
    witness: Key,
    after: UUID,
    *,
    renew_seconds: float,
    retry_seconds: float,
    limit: int,
) -> list[DueCosignature]:
    """The logs of which a witness is to be asked, by tenant, those after one.

    Those are the ones that have grown, those whose cosignature is ``renew_seconds`` old, and after
    ``retry_seconds`` those with which something was wrong; of them those that were signed a moment
    ago. Of an older checkpoint, what was recorded since would look as if it was dated back.
    """
    found = await connection.fetch(
        _DUE,
        witness.encoded,
        after,
        renew_seconds,
        retry_seconds,
        limit,
        logs.FRESH_SECONDS,
    )
    return [
        DueCosignature(row["tenant_id"], row["signed_size"], row["size"], row["problem"])
        for row in found
    ]


async def renew(
    connection: PooledConnection, witness: Key, *, renew_seconds: float, retry_seconds: float
) -> None:
    """Have the logs signed anew that were due, had they been signed a moment ago."""
    wanted = witness.encoded, renew_seconds, retry_seconds, logs.FRESH_SECONDS
    await retried(lambda: connection.execute(_RENEW, *wanted))


async def note_of(connection: PooledConnection, tenant_id: UUID, size: int) -> Note | None:
    """The checkpoint of so many entries as the log signed it; None where there is none."""
    found: str | None = await connection.fetchval(_SIGNED, tenant_id, size)
    return None if found is None else read_note(found)


async def note_problem(
    connection: PooledConnection, tenant_id: UUID, witness: Key, problem: str, *, due: bool
) -> None:
    """Note why a witness has not cosigned; the log stays ``due``, or is after a while."""
    await connection.execute(_ASKED, tenant_id, witness.encoded, 0, None, problem, due)


async def keep(
    connection: PooledConnection,
    tenant_id: UUID,
    size: int,
    cosignature: Signature,
    *,
    witness: Key,
    policy: Policy,
) -> None:
    """Keep the cosignature of a checkpoint, in the place of an earlier one of the same witness.

    Where it completes the quorum, this is from now on the checkpoint that is published.
    """
    kept = partial(_keep, connection, tenant_id, size, cosignature)
    await retried(partial(kept, witness=witness, policy=policy))


async def _keep(
    connection: PooledConnection,
    tenant_id: UUID,
    size: int,
    cosignature: Signature,
    *,
    witness: Key,
    policy: Policy,
) -> None:
    async with connection.transaction():
        await connection.execute(_LOCK, tenant_id)
        note = read_note(await connection.fetchval(_NOTE, tenant_id, size))
        before = next((each for each in note.signatures if each.is_of(witness)), None)
        if before is None:
            await connection.execute(_KEEP, tenant_id, size, cosignature.line)
        else:
            await connection.execute(_REPLACE, tenant_id, size, cosignature.line, before.line)
        others = [each for each in note.signatures if not each.is_of(witness)]
        times = policy.cosigned_at(Note(note.text, (*others, cosignature)), verify)
        if policy.quorum != NONE and (at := policy.witnessed_at(times)) is not None:
            await connection.execute(_WITNESSED, tenant_id, size, _moment(at))
        at = timestamp_of(cosignature) or 0
        await connection.execute(_ASKED, tenant_id, witness.encoded, size, _moment(at), "", False)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
