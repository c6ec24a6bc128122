"""A sealer that runs in this process, and what it has signed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from support.event_store import METADATA, new_event, open_pool, open_store

from nbledger_audit import logs, sealer
from nbledger_audit.keys import Signer, verify
from nbledger_domain.transparency import merkle
from nbledger_domain.transparency.checkpoints import LogCheckpoint, origin_of, read_checkpoint
from nbledger_domain.transparency.notes import Key, read_note
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Stream
from nbledger_infrastructure.settings import Audit, Postgres, Settings

ORIGIN = "ledger.example.com"
SECONDS = 60

T = TypeVar("T")


class Installation(msgspec.Struct, frozen=True):
    """A store, a key, and settings for sealers."""

    pool: Pool
    store: EventStore
    signer: Signer
    settings: Settings

    def having(self, **audit: Any) -> Settings:
        """The settings, with others in section audit."""
        changed = msgspec.structs.replace(self.settings.audit, **audit)
        return msgspec.structs.replace(self.settings, audit=changed)

    def key(self, tenant_id: UUID) -> Key:
        """The key of a tenant's log."""
        return self.signer.key(origin_of(ORIGIN, tenant_id))

    async def record(self, tenant_id: UUID, count: int) -> None:
        """Record so many events of a tenant, in a stream of its own."""
        stream = Stream(uuid.uuid4(), uuid.uuid4(), tenant_id, uuid.uuid4())
        events = [new_event(b'{"n": %d}' % number) for number in range(count)]
        await self.store.append(stream, events, expected_version=0, metadata=METADATA)

    async def until_signed(self, tenant_id: UUID, size: int) -> logs.Signed:
        """Wait for the checkpoint of so many entries."""

        async def found() -> logs.Signed | None:
            async with self.pool.acquire() as connection:
                newest = await logs.newest(connection, tenant_id)
            return newest if newest is not None and newest.size == size else None

        return await until(found)

    async def check_history(self, notes: list[str], tenant_id: UUID) -> list[LogCheckpoint]:
        """Check that checkpoints are signed, each grown out of the one before."""
        seen: list[LogCheckpoint] = []
        key = self.key(tenant_id)
        for told in notes:
            note = read_note(told)
            assert note.signed_by([key], verify) == (key,)
            checkpoint = read_checkpoint(note)
            assert checkpoint.origin == key.name
            if seen:
                sizes = seen[-1].size, checkpoint.size
                async with self.pool.acquire() as connection:
                    proof = await logs.prove(connection, tenant_id, merkle.consistency(*sizes))
                merkle.check_consistency(sizes[0], seen[-1].root, sizes[1], checkpoint.root, proof)
            seen.append(checkpoint)
        return seen


@asynccontextmanager
async def installation(dsn: str, folder: Path, **settings: Any) -> AsyncIterator[Installation]:
    """A new key, and settings that have checkpoints signed at once."""
    signer = Signer.generate(folder / "key.pem")
    audit = Audit(
        origin=ORIGIN,
        key_file=str(folder / "key.pem"),
        state_folder=str(folder / "signed"),
        checkpoint_seconds=0.05,
    )
    made = Settings(postgres=Postgres(dsn=dsn), audit=audit, **settings)
    async with open_pool(dsn) as pool, open_store(pool) as store:
        yield Installation(pool, store, signer, made)


class Lacking:
    """What a sealer says that it lacks."""

    def __init__(self) -> None:
        self.now: dict[str, str] = {}

    def __call__(self, what: str, problem: str | None) -> None:
        if problem is None:
            self.now.pop(what, None)
        else:
            self.now[what] = problem


@asynccontextmanager
async def sealing(settings: Settings) -> AsyncIterator[Lacking]:
    """A sealer at work, or standing by, for the block."""
    stop, ready, lacking = asyncio.Event(), asyncio.Event(), Lacking()
    task = asyncio.create_task(sealer.run(settings, stop, ready.set, lacking))
    try:
        async with asyncio.timeout(SECONDS):
            await ready.wait()
        yield lacking
    finally:
        stop.set()
        async with asyncio.timeout(SECONDS):
            await task


async def until(found: Callable[[], Awaitable[T | None]]) -> T:
    """Ask until there is an answer."""
    async with asyncio.timeout(SECONDS):
        while True:
            if answer := await found():
                return answer
            await asyncio.sleep(0.02)
