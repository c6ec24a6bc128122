"""The sealer: enters events in the logs of their tenants, and signs checkpoints of them.

It reads positions, apart from the append, so that nothing waits for it. One process at a time is at
work, others stand by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog

from nbledger_audit import logs
from nbledger_audit.cosigning.asking import asking
from nbledger_audit.cosigning.kept import tell_policy
from nbledger_audit.cosigning.policy import open_policy
from nbledger_audit.dates import Dates
from nbledger_audit.entering import Entering
from nbledger_audit.entries import events_after
from nbledger_audit.key_programs import ProgramKey
from nbledger_audit.keys import KeyFileError, Signer, SigningError, SigningKey
from nbledger_audit.outside.copies import Copies
from nbledger_audit.outside.couriers import Lacks, Outlet, couriers_of, nobody
from nbledger_audit.outside.topic import CheckpointTopic
from nbledger_audit.side_by_side import side_by_side
from nbledger_audit.signing import SIGNED_AT_ONCE, CheckpointSigner, InconsistentLogError
from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.conflicts import retried
from nbledger_infrastructure.postgres.database import (
    Pool,
    PooledConnection,
    acquire,
    close_pool,
    connect_pool,
)
from nbledger_infrastructure.postgres.leading import SILENT_SECONDS, Holds, Leader
from nbledger_infrastructure.settings import Audit, Settings
from nbledger_infrastructure.settings_loading import SettingsError

log = structlog.get_logger(__name__)

NAME: Final = "sealer"
"""Under this name the sealer keeps its position."""

BATCH_EVENTS: Final = 2_000
FOUND_AT_ONCE: Final = 500
TICK_SECONDS: Final = 1.0
IDLE_SECONDS: Final = 3600.0
SKEW_SECONDS: Final = 60.0

# A transaction of a process that is stopped, or cut off, ends, and with it its locks.
_BOUNDS: Final = f"""
SELECT set_config('idle_in_transaction_session_timeout', '{SILENT_SECONDS}s', true),
    set_config('tcp_user_timeout', '{SILENT_SECONDS}s', true)
"""

# Any constant does, as long as nothing else in the database locks on it.
_LOCK: Final = 0x6E626C_736561


async def run(
    settings: Settings, stop: asyncio.Event, on_ready: Callable[[], None], lacks: Lacks = nobody
) -> None:
    """Seal until ``stop`` is set; ``on_ready`` is called once at work, or standing by.

    ``lacks`` is told what cannot be delivered out of the house, of a key that cannot be used, and
    of logs that are damaged or were rewritten.

    Raises ``DatabaseUnavailableError`` when the database is away at the start, and
    ``SettingsError`` where there is no key to sign with, no folder for what was signed, or no good
    policy in the file of witnesses.
    """
    signer = await _open_signer(settings.audit)
    policy = open_policy(settings.audit)
    async with AsyncExitStack() as stack:
        pool = await connect_pool(
            settings.postgres.dsn, max_size=7, application_name="nbledger-sealer"
        )
        stack.push_async_callback(close_pool, pool)
        outlets = outlets_of(settings, pool)
        leader = Leader(NAME, _LOCK, stop, on_ready)

        async def work(connection: PooledConnection) -> None:
            log.info("sealer at work")
            await signer.tell_key(connection)
            await tell_policy(connection, policy)
            async with (
                asking(pool, policy, settings.audit.checkpoint_seconds),
                couriers_of(outlets, lacks) as couriers,
            ):
                await leader.tick_until_told(
                    connection,
                    lambda holds: Sealer(
                        pool,
                        signer,
                        settings.audit.checkpoint_seconds,
                        idle_seconds=_idle_seconds(settings.audit),
                        skew_seconds=settings.audit.skew_seconds,
                        signed=couriers.wake,
                        lacks=lacks,
                        leading=connection,
                        holds=holds,
                    ),
                    most_seconds=TICK_SECONDS,
                )

        await leader.lead(pool, work)


async def _open_signer(audit: Audit) -> CheckpointSigner:
    if bool(audit.key_file) == bool(audit.key_command):
        raise SettingsError(
            ["NBLEDGER_AUDIT_KEY_FILE (or key_file in [audit]): must be set, or key_command"]
        )
    setting = "key_command" if audit.key_command else "key_file"
    key: SigningKey
    try:
        if audit.key_command:
            key = await ProgramKey.open(audit.key_command)
        else:
            key = Signer.read(Path(audit.key_file))
    except KeyFileError as error:
        raise SettingsError([f"audit.{setting}: {error}"]) from None
    try:
        return CheckpointSigner(key, audit.origin, Path(audit.state_folder))
    except OSError as error:
        reason = f"{audit.state_folder}: {error.strerror}"
        raise SettingsError([f"audit.state_folder: {reason}"]) from None


def outlets_of(settings: Settings, pool: Pool) -> list[Outlet]:
    """Where checkpoints go, by the settings. Raises ``SettingsError``."""
    outlets: list[Outlet] = []
    if settings.kafka.bootstrap_servers:
        outlets.append(CheckpointTopic(pool, settings.kafka))
    if settings.audit.copies:
        outlets.append(Copies(pool, settings.audit.copies, settings.audit.copy_seconds))
    if settings.audit.timestamp_url:
        outlets.append(_timestamps(settings.audit, pool))
    return outlets


def _idle_seconds(audit: Audit) -> float:
    """When the checkpoint of a log at rest is wanted anew."""
    stamped = audit.timestamp_seconds if audit.timestamp_url else float("inf")
    return min(audit.idle_checkpoint_seconds, stamped)


def _timestamps(audit: Audit, pool: Pool) -> Outlet:
    try:
        from nbledger_audit.outside.timestamps import Timestamps  # noqa: PLC0415 (an extra)
    except ImportError:
        raise SettingsError(
            ["audit.timestamp_url: needs the extra timestamps: nbledger[timestamps]"]
        ) from None
    try:
        return Timestamps(
            pool,
            audit.timestamp_url,
            Path(audit.timestamp_ca_file),
            audit.timestamp_seconds,
            audit.skew_seconds,
        )
    except (OSError, ValueError) as error:
        reason = f"{audit.timestamp_ca_file or 'no file'}: {error}"
        raise SettingsError([f"audit.timestamp_ca_file: {reason}"]) from None


class Sealer:
    """Enters and signs at each :meth:`tick`; of several processes one at a time should.

    ``leading`` is the connection that holds the lead, by which alone checkpoints are kept: what a
    sealer signs that was stopped, and is no longer the one at work, stays with it. ``holds`` raises
    where it is not.
    """

    def __init__(
        self,
        pool: Pool,
        signer: CheckpointSigner,
        checkpoint_seconds: float,
        *,
        idle_seconds: float = IDLE_SECONDS,
        skew_seconds: float = SKEW_SECONDS,
        signed: Callable[[], None] | None = None,
        lacks: Lacks = nobody,
        leading: PooledConnection | None = None,
        holds: Holds | None = None,
    ) -> None:
        self._pool = pool
        self._signer = signer
        self._every = checkpoint_seconds
        self._idle = idle_seconds
        self._dates = Dates(skew_seconds)
        self._entering: Entering | None = None
        self._unsigned: dict[UUID, str] = {}
        self._signed = signed
        self._lacks = lacks
        self._leading = leading
        self._holds = holds
        self._signed_at = float("-inf")
        self._turn = asyncio.Lock()
        """Whoever has it uses the connection that all checkpoints are kept by."""

    async def tick(self) -> float:
        """Enter all events there are, and sign where it is time; returns the seconds to wait.

        Raises ``DatabaseUnavailableError``, and ``CheckpointMovedError`` where another sealer is at
        work.
        """
        while await retried(self._enter):
            # The lock ends with its session; so does what this process may do.
            if self._holds is not None:
                await self._holds()
        now = asyncio.get_running_loop().time()
        if now - self._signed_at >= self._every:
            if self._entering is not None:
                await self._catch_up(self._entering)
            await self._sign_all()
            self._tell_logs()
            self._signed_at = now
        return min(TICK_SECONDS, self._every)

    async def _sign_all(self) -> None:
        try:
            await self.sign()
        except SigningError as error:
            log.warning("checkpoints not signed", reason=str(error))
            self._lacks("key", str(error))
        else:
            self._lacks("key", None)

    async def sign(self) -> None:
        """Sign a checkpoint of each log that has grown since its last one, or is idle for long.

        Each log is signed by one at a time, several logs side by side.

        Raises ``SigningError`` where the key cannot be used.
        """
        async with AsyncExitStack() as stack:
            connection = self._leading
            if connection is None:
                connection = await stack.enter_async_context(acquire(self._pool))
            after = UUID(int=0)
            unsigned: dict[UUID, str] = {}

            async def sign(wanted: logs.ToSign) -> None:
                # The others go on: one tenant's log is not to stop everybody's proofs.
                if (fault := await self._sign(connection, wanted)) is not None:
                    unsigned[wanted.tenant_id] = fault

            while found := await logs.to_sign(connection, after, self._idle, FOUND_AT_ONCE):
                await side_by_side(found, sign, most=SIGNED_AT_ONCE)
                if self._signed is not None:
                    self._signed()
                after = found[-1].tenant_id
            self._unsigned = unsigned

    async def _sign(self, connection: PooledConnection, wanted: logs.ToSign) -> str | None:
        """Sign a checkpoint of a log; returns why not."""
        tenant_id = wanted.tenant_id
        try:
            last = await self._signer.remembered(tenant_id)
            async with self._turn:
                checkpoint = await self._signer.checked(connection, tenant_id, wanted.size, last)
            note = await self._signer.signed(tenant_id, checkpoint)
        except InconsistentLogError as error:
            log.exception("log not signed", tenant_id=str(tenant_id))
            return str(error)
        async with self._turn:
            await retried(partial(logs.sign, connection, tenant_id, wanted.size, str(note)))
        return None

    def _tell_logs(self) -> None:
        halted = {} if self._entering is None else self._entering.halted
        faults = [f"the log of tenant {tenant_id}: {why}" for tenant_id, why in halted.items()]
        faults += (why for tenant_id, why in self._unsigned.items() if tenant_id not in halted)
        self._lacks("logs", "; ".join(faults) or None)

    async def _catch_up(self, entering: Entering) -> None:
        """Enter what halted logs lack, as far as they are repaired."""
        for tenant_id in list(entering.halted):
            more = True
            while more:
                async with acquire(self._pool) as connection, connection.transaction():
                    await connection.execute(_BOUNDS)
                    place = await checkpoints.lock(connection, NAME)
                    # Whoever has the lock may have been stopped until another took the lead.
                    if self._holds is not None:
                        await self._holds()
                    more = await entering.catch_up(
                        connection, tenant_id, place.position, BATCH_EVENTS
                    )

    async def _enter(self) -> bool:
        """Enter the next events; returns whether there may be more."""
        async with acquire(self._pool) as connection:
            place = await checkpoints.ensure(connection, NAME)
            if self._entering is None:
                entering = Entering()
                await entering.find_halted(connection, place.position)
                self._entering = entering
            # Read without a lock: a process that is stopped meanwhile holds up nobody.
            events = await events_after(connection, place.position, BATCH_EVENTS)
            if events:
                await self._dates.check(connection, place.position, events)
                async with connection.transaction():
                    await connection.execute(_BOUNDS)
                    await checkpoints.lock_at(connection, NAME, place)
                    await self._entering.enter(connection, events)
                    await checkpoints.move(connection, NAME, events[-1].position)
        return len(events) == BATCH_EVENTS
