"""The sealer: enters events in the logs of their tenants, and signs checkpoints of them.

It reads positions, apart from the append, so that nothing waits for it. One process at a time is at
work, others stand by.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from nbledger_audit import logs
from nbledger_audit.cosigning.asking import asking
from nbledger_audit.cosigning.kept import tell_policy
from nbledger_audit.cosigning.policy import open_policy
from nbledger_audit.entries import events_after
from nbledger_audit.keys import KeyFileError, Signer
from nbledger_audit.signing import CheckpointSigner, InconsistentLogError
from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.checkpoints import Checkpoint
from nbledger_infrastructure.postgres.database import (
    Pool,
    PooledConnection,
    acquire,
    close_pool,
    connect_pool,
)
from nbledger_infrastructure.postgres.leading import Leader
from nbledger_infrastructure.settings import Audit, Settings
from nbledger_infrastructure.settings_loading import SettingsError

log = structlog.get_logger(__name__)

NAME: Final = "sealer"
"""Under this name the sealer keeps its position."""

BATCH_EVENTS: Final = 2_000
SIGNED_AT_ONCE: Final = 500
TICK_SECONDS: Final = 1.0

# Any constant does, as long as nothing else in the database locks on it.
_LOCK: Final = 0x6E626C_736561


async def run(settings: Settings, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
    """Seal until ``stop`` is set; ``on_ready`` is called once at work, or standing by.

    Raises ``DatabaseUnavailableError`` when the database is away at the start, and
    ``SettingsError`` where there is no key to sign with, no folder for what was signed, or no good
    policy in the file of witnesses.
    """
    signer = _open_signer(settings.audit)
    policy = open_policy(settings.audit)
    async with AsyncExitStack() as stack:
        pool = await connect_pool(
            settings.postgres.dsn, max_size=4, application_name="nbledger-sealer"
        )
        stack.push_async_callback(close_pool, pool)
        leader = Leader(NAME, _LOCK, stop, on_ready)
        sealer = Sealer(pool, signer, settings.audit.checkpoint_seconds)

        async def work(connection: PooledConnection) -> None:
            log.info("sealer at work")
            await signer.tell_key(connection)
            await tell_policy(connection, policy)
            async with asking(pool, policy, settings.audit.checkpoint_seconds):
                while not stop.is_set():
                    # The lock ends with its session; so does what this process may do.
                    await connection.execute("SELECT")
                    wait = await sealer.tick()
                    leader.succeeded()
                    await leader.pause(wait)

        await leader.lead(pool, work)


def _open_signer(audit: Audit) -> CheckpointSigner:
    try:
        signer = Signer.read(Path(audit.key_file))
    except KeyFileError as error:
        raise SettingsError([f"audit.key_file: {error}"]) from None
    try:
        return CheckpointSigner(signer, audit.origin, Path(audit.state_folder))
    except OSError as error:
        reason = f"{audit.state_folder}: {error.strerror}"
        raise SettingsError([f"audit.state_folder: {reason}"]) from None


class Sealer:
    """Enters and signs at each :meth:`tick`; of several processes one at a time should."""

    def __init__(self, pool: Pool, signer: CheckpointSigner, checkpoint_seconds: float) -> None:
        self._pool = pool
        self._signer = signer
        self._every = checkpoint_seconds
        self._signed_at = float("-inf")

    async def tick(self) -> float:
        """Enter all events there are, and sign where it is time; returns the seconds to wait.

        Raises ``DatabaseUnavailableError``, and ``CheckpointMovedError`` where another sealer is at
        work.
        """
        while await self._enter():
            pass
        now = asyncio.get_running_loop().time()
        if now - self._signed_at >= self._every:
            await self.sign()
            self._signed_at = now
        return min(TICK_SECONDS, self._every)

    async def sign(self) -> None:
        """Sign a checkpoint of each log that has grown since its last one."""
        after = UUID(int=0)
        while True:
            async with acquire(self._pool) as connection:
                grown = await logs.unsigned(connection, after, SIGNED_AT_ONCE)
                for each in grown:
                    await self._sign(connection, each)
            if len(grown) < SIGNED_AT_ONCE:
                return
            after = grown[-1].tenant_id

    async def _sign(self, connection: PooledConnection, grown: logs.Unsigned) -> None:
        try:
            note = await self._signer.checkpoint(connection, grown.tenant_id, grown.size)
        except InconsistentLogError:
            # The others go on: whoever rewrote one tenant's log is not to stop everybody's proofs.
            log.exception("log not signed", tenant_id=str(grown.tenant_id))
            return
        await logs.sign(connection, grown.tenant_id, grown.size, str(note))

    async def _enter(self) -> bool:
        """Enter the next events; returns whether there may be more."""
        async with acquire(self._pool) as connection, connection.transaction():
            await checkpoints.ensure(connection, NAME)
            place = await checkpoints.lock(connection, NAME)
            events = await events_after(connection, place.position, BATCH_EVENTS)
            if events:
                await logs.add(connection, events)
                await _move(connection, place, events[-1].position)
        return len(events) == BATCH_EVENTS


async def _move(connection: PooledConnection, place: Checkpoint, position: int) -> None:
    await checkpoints.lock_at(connection, NAME, place)
    await checkpoints.move(connection, NAME, position)
