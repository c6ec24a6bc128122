"""What auditors are told of witnesses: the policy of a log, and what each of them has of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from nbledger_domain.transparency.notes import Key
from nbledger_domain.transparency.policies import KnownLog, Policy, read_policy
from nbledger_infrastructure.postgres.database import PooledConnection

_POLICY: Final = """
SELECT policy FROM log_policy
"""

_WITNESSES: Final = """
SELECT witness, size, cosigned_at, problem FROM log_witness WHERE tenant_id = $1
"""


class WitnessState(msgspec.Struct, frozen=True):
    """A witness and what it has of a log: the entries it cosigned last, and when it says it did.

    ``problem`` is why it has not cosigned when it was asked last; empty where it has.
    """

    name: str
    key: Key
    size: int
    cosigned_at: datetime | None
    problem: str


async def policy(connection: PooledConnection, keys: Sequence[Key], url: str) -> Policy:
    """The policy of the log at ``url`` that these keys sign or have signed.

    Without witnesses it has no maximum age, which nothing in a checkpoint could show.
    """
    told: str | None = await connection.fetchval(_POLICY)
    known = Policy() if told is None else read_policy(told)
    witnesses = tuple(msgspec.structs.replace(each, url="") for each in known.witnesses)
    logs = tuple(KnownLog(key, url) for key in keys)
    age = known.maximum_age if witnesses else None
    return msgspec.structs.replace(known, logs=logs, witnesses=witnesses, maximum_age=age)


async def witness_states(
    connection: PooledConnection, tenant_id: UUID, known: Policy
) -> list[WitnessState]:
    """What each witness of the policy has of a tenant's log."""
    rows = {row["witness"]: row for row in await connection.fetch(_WITNESSES, tenant_id)}
    states = []
    for witness in known.witnesses:
        row = rows.get(witness.key.encoded)
        found = (0, None, "") if row is None else (row["size"], row["cosigned_at"], row["problem"])
        states.append(WitnessState(witness.name, witness.key, *found))
    return states
