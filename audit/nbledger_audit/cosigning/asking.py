"""Asking witnesses beside the sealing: each by a task of its own, so that none holds up another.

A witness that is away is left alone for a growing while. What one answers that is no cosignature
is kept as its problem with that log, told in the log when it changes, and asked again later.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

import httpx
import structlog

from nbledger_audit import logs
from nbledger_audit.cosigning import kept
from nbledger_audit.cosigning.client import (
    NoCosignatureError,
    WitnessAwayError,
    WitnessClient,
    http_client,
)
from nbledger_audit.cosigning.kept import DueCosignature
from nbledger_domain.transparency import merkle
from nbledger_domain.transparency.notes import Signature
from nbledger_domain.transparency.policies import KnownWitness, Policy
from nbledger_domain.transparency.witnessing import AddCheckpoint, SizeConflictError
from nbledger_infrastructure.backoff import Backoff
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.leading import INTERRUPTIONS

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often it is looked which logs have grown, at least."""

RETRY_SECONDS: Final = 60.0
"""After which a witness is asked again that had a problem with a log."""

DUE_AT_ONCE: Final = 100
ASKED_AT_ONCE: Final = 4
LONGEST_PAUSE_SECONDS: Final = 60.0


@asynccontextmanager
async def asking(pool: Pool, policy: Policy, look_seconds: float) -> AsyncIterator[None]:
    """Ask the witnesses of the policy as long as the block lasts.

    ``look_seconds`` is how often logs may grow.
    """
    if not policy.witnesses:
        yield
        return
    async with http_client() as http:
        tasks = [
            asyncio.create_task(
                Asking(pool, policy, witness, http).run(min(look_seconds, LOOK_SECONDS))
            )
            for witness in policy.witnesses
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class Asking:
    """Asks one witness, for every log."""

    def __init__(
        self, pool: Pool, policy: Policy, witness: KnownWitness, http: httpx.AsyncClient
    ) -> None:
        self._pool = pool
        self._policy = policy
        self._witness = witness
        self._client = WitnessClient(witness, http)
        self._renew_seconds = (policy.maximum_age or 0) / 2
        self._backoff = Backoff(1.0, LONGEST_PAUSE_SECONDS)

    async def run(self, look_seconds: float) -> None:
        """Ask until cancelled."""
        while True:
            try:
                await self.round()
            except WitnessAwayError as error:
                if self._backoff.failures == 0:
                    log.warning("witness away", witness=self._witness.name, error=str(error))
                await self._backoff.wait()
            except INTERRUPTIONS as error:
                log.warning("witnesses interrupted", witness=self._witness.name, error=repr(error))
                await self._backoff.wait()
            except Exception:
                log.exception("witnesses stopped by a fault", witness=self._witness.name)
                await self._backoff.wait()
            else:
                if self._backoff.failures:
                    log.info("witness back", witness=self._witness.name)
                self._backoff.reset()
                await asyncio.sleep(look_seconds)

    async def round(self) -> None:
        """Ask once for each log that is due. Raises :class:`WitnessAwayError`."""
        async with acquire(self._pool) as connection:
            await kept.renew(
                connection,
                self._witness.key,
                renew_seconds=self._renew_seconds,
                retry_seconds=min(RETRY_SECONDS, self._renew_seconds),
            )
        after = UUID(int=0)
        while found := await self._due(after):
            for at in range(0, len(found), ASKED_AT_ONCE):
                asked = (self._ask(each) for each in found[at : at + ASKED_AT_ONCE])
                failed = [
                    each
                    for each in await asyncio.gather(*asked, return_exceptions=True)
                    if each is not None
                ]
                if failed:
                    raise failed[0]
            after = found[-1].tenant_id

    async def _due(self, after: UUID) -> list[DueCosignature]:
        async with acquire(self._pool) as connection:
            return await kept.due(
                connection,
                self._witness.key,
                after,
                renew_seconds=self._renew_seconds,
                retry_seconds=min(RETRY_SECONDS, self._renew_seconds),
                limit=DUE_AT_ONCE,
            )

    async def _ask(self, due: DueCosignature) -> None:
        """Ask for one log, and keep what comes of it. Raises :class:`WitnessAwayError`."""
        try:
            cosignature = await self._cosignature(due)
        except WitnessAwayError as error:
            await self._keep_problem(due, f"is away: {error}", away=True)
            raise
        except NoCosignatureError as error:
            if str(error) != due.problem:
                log.warning(
                    "witness does not cosign",
                    witness=self._witness.name,
                    tenant_id=str(due.tenant_id),
                    size=due.signed_size,
                    problem=str(error),
                )
            await self._keep_problem(due, str(error), away=False)
            return
        if cosignature is None:
            return
        async with acquire(self._pool) as connection:
            await kept.keep(
                connection,
                due.tenant_id,
                due.signed_size,
                cosignature,
                witness=self._witness.key,
                policy=self._policy,
            )

    async def _cosignature(self, due: DueCosignature) -> Signature | None:
        """The cosignature; None where another sealer has meanwhile got one for a larger size."""
        try:
            return await self._client.cosign(await self._request(due, due.size))
        except SizeConflictError as conflict:
            seen = conflict.size
        if seen > due.signed_size:
            async with acquire(self._pool) as connection:
                if seen <= await logs.signed_size(connection, due.tenant_id):
                    return None
            raise NoCosignatureError(
                f"says that it has cosigned {seen} entries, of which {due.signed_size} are signed"
            )
        try:
            return await self._client.cosign(await self._request(due, seen))
        except SizeConflictError:
            raise NoCosignatureError("names another size each time") from None

    async def _request(self, due: DueCosignature, old: int) -> AddCheckpoint:
        """The request that goes on from ``old`` entries.

        Raises :class:`NoCosignatureError` where the log cannot prove that it does.
        """
        steps = merkle.consistency(old, due.signed_size)
        async with acquire(self._pool) as connection:
            note = await kept.note_of(connection, due.tenant_id, due.signed_size)
            try:
                proof = await logs.prove(connection, due.tenant_id, steps)
            except LookupError as error:
                raise NoCosignatureError(f"is not asked: {error}") from error
        if note is None:
            raise NoCosignatureError("is not asked: the checkpoint is gone")
        return AddCheckpoint(old, tuple(proof), note)

    async def _keep_problem(self, due: DueCosignature, problem: str, *, away: bool) -> None:
        async with acquire(self._pool) as connection:
            await kept.note_problem(connection, due.tenant_id, self._witness.key, problem, due=away)
