"""What the owner of a database can do to history, and who finds it.

A history of two tenants is recorded and sealed. Yesterday's checkpoint is with somebody else, with
the cosignature of a witness. Then the owner rewrites rows, and whatever else there is to rewrite.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
from support.bundles import ORIGIN, Ledger, open_ledger
from support.event_store import METADATA, new_event

from nbledger_audit import logs
from nbledger_audit.bundles import verify
from nbledger_audit.bundles.selecting import HistoryAlteredError
from nbledger_audit.checking import check_logs
from nbledger_audit.entries import events_at
from nbledger_audit.keys import Signer
from nbledger_audit.signing import CheckpointSigner
from nbledger_domain.transparency.notes import COSIGNATURE, read_note
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import Stream, audit

TABLES: Final = (
    *("event", "erasure", "transparency_log"),
    *("log_tile", "log_bundle", "log_checkpoint", "log_key"),
)
WITNESS: Final = "witness.example.org/w"

COLUMNS: Final = {
    "position": "1000",
    "stream_id": f"'{UUID(int=77)}'",
    "version": "version + 40",
    "event_id": f"'{UUID(int=78)}'",
    "type": "'another.thing.v1'",
    "subject_id": f"'{UUID(int=79)}'",
    "tenant_id": f"'{UUID(int=80)}'",
    "project_id": f"'{UUID(int=81)}'",
    "data": "'{\"n\": 42}'",
    "metadata": """'{"actor": "another", "correlationId": "c", "requestId": "r"}'""",
    "occurred_at": "occurred_at - interval '1 microsecond'",
    "recorded_at": "recorded_at - interval '1 microsecond'",
    "digest": "sha256('x')",
    "chain": "sha256('x')",
    "formula": "1",
    "salt": "decode(repeat('00', 16), 'hex')",
    "metadata_salt": "decode(repeat('00', 16), 'hex')",
}
"""Each column of an event, and what one is altered to."""


@dataclass
class Scene:
    """The history as it was, what others hold of it, and what its owner can do."""

    ledger: Ledger
    folder: Path
    held: Path
    policy: Path
    altered: int
    """Position of the event that is altered, which is covered by what is held."""
    other: int
    """Position of another one of the tenant, of another stream and project."""
    foreign: int
    """Position of an event of another tenant."""
    held_position: int
    """Up to which event the checkpoint that is held goes."""
    last_stream: UUID
    """The stream that was begun last before that."""
    older: str
    """A checkpoint from before."""

    @property
    def pool(self) -> Pool:
        return self.ledger.pool

    async def execute(self, *statements: str) -> None:
        await self.pool.execute(";".join(statements))

    async def restore(self) -> None:
        """Bring back everything as it was."""
        names = ", ".join(TABLES)
        await self.execute(
            f"TRUNCATE {names}",
            *(f"INSERT INTO {table} SELECT * FROM original_{table}" for table in TABLES),
        )

    async def alter(self, column: str) -> None:
        """Write something else into a column of one event."""
        await self.execute(
            f"UPDATE event SET {column} = {COLUMNS[column]} WHERE position = {self.altered}"
        )

    async def exchange(self, column: str) -> None:
        """Let two events change what they have in a column, where it differs."""
        other = self.foreign if column == "tenant_id" else self.other
        same = await self.pool.fetchval(
            f"SELECT count(DISTINCT {column}::text) = 1 FROM event WHERE position IN ($1, $2)",
            self.altered,
            other,
        )
        if same:  # Two formulas do not occur in one test; the other one will do.
            assert column == "formula"
            await self.alter(column)
            return
        await self.execute(
            f"UPDATE event SET {column} = (SELECT b.{column} FROM original_event AS b "
            f"WHERE b.position = {self.altered + other} - event.position) "
            f"WHERE position IN ({self.altered}, {other})"
        )

    async def found(self) -> str | None:
        """What an auditor finds with a bundle of today and the checkpoint of yesterday."""
        bundle = self.folder / "bundle"
        shutil.rmtree(bundle, ignore_errors=True)
        try:
            await self.ledger.export(bundle)
        except HistoryAlteredError as error:
            return f"export: {error}"
        return checked(bundle, self.policy, [self.held])

    async def audited(self) -> str | None:
        """What ``nbledger audit verify`` finds in the database itself, with what is held."""
        report = await audit.verify(self.pool)
        if report.fault is not None:
            return report.fault.what
        held = read_note(self.held.read_text())
        faults = (await check_logs(self.pool, [held])).faults
        return faults[0].what if faults else None

    async def recompute(self, signer: Signer | None, kept: str = "") -> None:
        """Compute digests and chains anew, and a new log; None signs with the true key.

        A digest or chain value that was altered itself is ``kept``.
        """
        await self.recompute_chains(kept)
        tenant_id = self.ledger.tenant_id
        await self.execute(
            *(f"TRUNCATE {table}" for table in TABLES if table.startswith(("log_", "transp"))),
            "INSERT INTO log_key SELECT * FROM original_log_key",
        )
        async with self.pool.acquire() as connection:
            rows = await connection.fetch(
                "SELECT position FROM event WHERE tenant_id = $1 ORDER BY position", tenant_id
            )
            positions = [row["position"] for row in rows]
            await logs.add(connection, await events_at(connection, positions))
            forgetful = self.folder / f"signed-{uuid.uuid4()}"
            keys = CheckpointSigner(signer or self.signer, ORIGIN, forgetful)
            note = await keys.checkpoint(connection, tenant_id, len(positions))
            await logs.sign(connection, tenant_id, len(positions), str(note))

    @property
    def signer(self) -> Signer:
        signer = self.ledger.sealer._signer._signer
        assert isinstance(signer, Signer)
        return signer

    async def set_back(self) -> None:
        """Go back to what was signed before yesterday, with the checkpoint of then."""
        size = int(self.older.split("\n")[1])
        events = await self.pool.fetchval(
            "SELECT positions FROM log_bundle WHERE tenant_id = $1", self.ledger.tenant_id
        )
        await self.execute(
            f"DELETE FROM event WHERE position > {events[size - 1]}",
            "DELETE FROM log_checkpoint",
        )
        await self.recompute(None)
        await self.execute(f"UPDATE log_checkpoint SET note = '{self.older}'")

    async def recompute_chains(self, kept: str = "") -> None:
        heads: dict[UUID, bytes] = {}
        made: list[tuple[UUID, bytes, bytes]] = []
        for row in await self.pool.fetch("SELECT * FROM event ORDER BY stream_id, version"):
            told: Any = dict(row)
            keep = kept if row["position"] == self.altered else ""
            if told["data"] is not None and keep != "digest":
                told["digest"] = audit.salted_digest(told["salt"], told["data"])
            if keep != "chain":
                told["chain"] = audit.chain(heads.get(row["stream_id"], bytes(32)), told)
            heads[row["stream_id"]] = told["chain"]
            made.append((row["event_id"], told["digest"], told["chain"]))
        await self.pool.execute(
            "UPDATE event SET digest = made.digest, chain = made.chain "
            "FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS made (event_id, digest, chain) "
            "WHERE event.event_id = made.event_id",
            *map(list, zip(*made, strict=True)),
        )


def checked(bundle: Path, policy: Path | None, held: list[Path]) -> str | None:
    """What ``verify.py`` finds wrong; None for nothing."""
    verify.WHERE[0] = "the bundle"
    try:
        taken = verify.Bundle(bundle)
        taken.trust(policy or taken.root / "policy")
        taken.check(held)
    except Exception as error:  # noqa: BLE001 (as the program does)
        return f"{verify.WHERE[0]}: {str(error) or type(error).__name__}"
    return None


@asynccontextmanager
async def open_scene(dsn: str, folder: Path) -> AsyncIterator[Scene]:
    """A history whose first part somebody else holds the checkpoint of."""
    async with open_ledger(dsn, folder) as ledger:
        first, second = await ledger.notebook(), await ledger.notebook(uuid.uuid4())
        stranger = Stream(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), uuid.uuid4())
        await ledger.store.append(stranger, [new_event()], expected_version=0, metadata=METADATA)
        await ledger.execution(first, 3)
        await ledger.seal()
        older = await _newest(ledger)
        metadata = msgspec.structs.replace(METADATA, request_id="r-2")
        other = Stream(uuid.uuid4(), second.subject_id, ledger.tenant_id, second.project_id)
        events = [new_event(b'{"n": %d}' % number, "other.thing.v1") for number in range(3)]
        await ledger.store.append(other, events, expected_version=0, metadata=metadata)
        deleted = await ledger.notebook()
        await ledger.delete(deleted)
        last = await ledger.execution(second, 3)
        await ledger.seal()
        note, witness = read_note(await _newest(ledger)), Signer.generate(folder / "witness.pem")
        # A witness came by an hour later.
        at = int(datetime.now(UTC).timestamp()) + 3600
        cosignature = witness.cosign(WITNESS, note.text, at)
        (folder / "held").write_text(str(note.with_signatures([cosignature])))
        key = witness.key(WITNESS, COSIGNATURE).encoded
        (folder / "policy").write_text(f"log {ledger.key}\nwitness w {key}\nquorum none\n")
        held_position = await ledger.pool.fetchval("SELECT max(position) FROM event")
        await ledger.execution(first, 3)
        scene = Scene(
            ledger=ledger,
            folder=folder,
            held=folder / "held",
            policy=folder / "policy",
            altered=5,
            other=9,
            foreign=3,
            held_position=held_position,
            last_stream=last.stream_id,
            older=older,
        )
        # The owner of a database is held up by no constraint.
        await scene.execute(
            *(
                f"ALTER TABLE event DROP CONSTRAINT event_{name}"
                for name in ("position", "stream_version", "event_id")
            ),
            "UPDATE event SET recorded_at = recorded_at + interval '1 day' "
            f"WHERE position > {held_position}",
        )
        await scene.recompute_chains()
        await ledger.seal()
        for table in TABLES:
            await scene.execute(f"CREATE TABLE original_{table} AS TABLE {table}")
        yield scene


async def _newest(ledger: Ledger) -> str:
    async with ledger.pool.acquire() as connection:
        newest = await logs.newest(connection, ledger.tenant_id)
    assert newest is not None
    return newest.note
