"""Repeated requests: what each key that came with a request has made.

Table ``idempotency_key`` has a row for each request that came with a key and made something,
written in the transaction of the append that made it. A request that is refused leaves none.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

import msgspec

from nbledger_application.caller import Caller
from nbledger_domain.errors import KeyReusedError, ResultGoneError
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import IdempotencyKey

_PAGE: Final = 5000

_FIND: Final = """
SELECT stream_id, fingerprint, answer FROM idempotency_key
WHERE tenant_id = $1 AND principal_id = $2 AND operation = $3 AND key_digest = $4
"""

_FORGET: Final = """
DELETE FROM idempotency_key WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency_key
    WHERE created_at < statement_timestamp() - make_interval(secs => $1) LIMIT $2
))
"""


class RequestKey(msgspec.Struct, frozen=True):
    """The key of a request, good for one principal and operation.

    ``asked`` gives what the request asks for, as plain data: parsed, without what is as it would
    be anyway. Requests that ask for the same are the same.
    """

    principal_id: UUID
    operation: str
    key: str
    asked: Callable[[], Any]

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the key, under which it is kept."""
        return hashlib.sha256(self.key.encode()).digest()

    def fingerprint(self) -> bytes:
        """The SHA-256 of what the request asks for."""
        return hashlib.sha256(msgspec.json.encode(self.asked(), order="sorted")).digest()

    def answering(self, answer: Mapping[str, Any]) -> IdempotencyKey:
        """What is recorded of the request, with what its repetitions are told alike."""
        return IdempotencyKey(
            principal_id=self.principal_id,
            operation=self.operation,
            key_digest=self.digest,
            fingerprint=self.fingerprint(),
            answer=msgspec.json.encode(answer).decode(),
        )


class Made(msgspec.Struct, frozen=True):
    """What a request has made: the stream that it appended to, and its recorded answer."""

    stream_id: UUID
    answer: dict[str, Any]


async def find(pool: Pool, caller: Caller, key: RequestKey) -> Made | None:
    """What an earlier request with this key has made; ``None`` where there was none.

    Raises :class:`KeyReusedError` where that one asked for something else,
    :class:`ResultGoneError` where what it made is erased, and ``DatabaseUnavailableError``.
    """
    async with acquire(pool) as connection:
        row = await connection.fetchrow(
            _FIND, caller.tenant_id, key.principal_id, key.operation, key.digest
        )
    if row is None:
        return None
    stream_id, fingerprint, answer = row
    if fingerprint is None:
        raise ResultGoneError
    if fingerprint != key.fingerprint():
        raise KeyReusedError
    return Made(stream_id, msgspec.json.decode(answer))


async def forget(pool: Pool, *, older_than: float) -> int:
    """Delete the rows of requests that came more than ``older_than`` seconds ago.

    Returns how many there were. Raises ``DatabaseUnavailableError``.
    """
    forgotten = 0
    while True:
        async with acquire(pool) as connection:
            done = await connection.execute(_FORGET, older_than, _PAGE)
        count = int(done.rpartition(" ")[2])
        forgotten += count
        if count < _PAGE:
            return forgotten
