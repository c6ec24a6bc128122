"""A store and a sealer of it, which asks witnesses whenever it is told to."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Final
from uuid import UUID

from support.event_store import METADATA, new_event
from support.tlog import new_signer
from support.witnesses import Served

from nbledger_audit import logs
from nbledger_audit.cosigning import kept, told
from nbledger_audit.cosigning.asking import Asking
from nbledger_audit.cosigning.client import http_client
from nbledger_audit.keys import verify
from nbledger_audit.sealer import Sealer
from nbledger_audit.signing import CheckpointSigner
from nbledger_domain.transparency.checkpoints import origin_of, read_checkpoint
from nbledger_domain.transparency.notes import Note, read_note
from nbledger_domain.transparency.policies import Policy, read_policy
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Stream

TENANT: Final = UUID(int=1)
INSTALLATION: Final = "ledger.example.com"
ORIGIN: Final = origin_of(INSTALLATION, TENANT)
SECONDS = 60


class Sealing:
    """A store and a sealer of it, which asks witnesses whenever it is told to."""

    def __init__(self, pool: Pool, store: EventStore, folder: Path) -> None:
        self.pool = pool
        self.store = store
        self.signer = new_signer(folder, "sealer")
        self.checkpoints = CheckpointSigner(self.signer, INSTALLATION, folder / "signed")
        self.sealer = Sealer(pool, self.checkpoints, 3600.0)
        self.policy = Policy()

    @property
    def vkey(self) -> str:
        return self.signer.key(ORIGIN).encoded

    async def record(self, count: int, tenant_id: UUID = TENANT) -> None:
        """Record events and sign a checkpoint of them."""
        stream = Stream(uuid.uuid4(), uuid.uuid4(), tenant_id, uuid.uuid4())
        events = [new_event(b"{}") for _ in range(count)]
        await self.store.append(stream, events, expected_version=0, metadata=METADATA)
        await self.sealer.tick()
        await self.sealer.sign()

    async def tell(self, text: str) -> None:
        self.policy = read_policy(f"# maximum-age 600\n{text}")
        async with self.pool.acquire() as connection:
            await kept.tell_policy(connection, self.policy)

    async def ask(self, number: int = 0) -> None:
        """Ask one witness of the policy, once for each log that is due."""
        async with http_client() as http, asyncio.timeout(SECONDS):
            await Asking(self.pool, self.policy, self.policy.witnesses[number], http).round()

    async def published(self) -> Note:
        async with self.pool.acquire() as connection:
            found = await logs.published(connection, TENANT)
        assert found is not None
        note = read_note(found.note)
        assert note.signed_by([self.signer.key(ORIGIN)], verify)
        assert read_checkpoint(note).size == found.size
        return note

    async def shown(self) -> tuple[int, set[str]]:
        """The size that is published, and by which witnesses it is cosigned."""
        note = await self.published()
        return read_checkpoint(note).size, {*self.policy.cosigned_at(note, verify)}

    async def waited(self, size: int, names: set[str]) -> None:
        """Wait until so many entries are shown as cosigned by these witnesses."""
        while True:
            async with self.pool.acquire() as connection:
                found = await logs.published(connection, TENANT)
            if found is not None and await self.shown() == (size, names):
                return
            await asyncio.sleep(0.02)

    async def problem(self, number: int = 0) -> str:
        async with self.pool.acquire() as connection:
            states = await told.witness_states(connection, TENANT, self.policy)
        return states[number].problem

    async def execute(self, statement: str) -> None:
        async with self.pool.acquire() as connection:
            await connection.execute(statement)


def line(witness: Served, name: str) -> str:
    """The line of a policy for a witness."""
    return f"witness {name} {witness.key.encoded} {witness.url}\n"
