"""Holding the events of the store against what was signed of the logs."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import msgspec

from nbledger_audit import logs
from nbledger_audit.entries import events_after
from nbledger_audit.keys import verify
from nbledger_domain.transparency import merkle
from nbledger_domain.transparency.checkpoints import LogCheckpoint, read_checkpoint
from nbledger_domain.transparency.notes import ED25519, Key, Note, NoteError, read_note
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire

_BATCH_EVENTS: Final = 2_000

_NEWEST: Final = """
SELECT DISTINCT ON (tenant_id) note FROM log_checkpoint ORDER BY tenant_id, size DESC
"""


class LogFault(msgspec.Struct, frozen=True):
    """A log whose events are not those that were signed."""

    origin: str
    what: str


class LogsReport(msgspec.Struct, frozen=True):
    """How many checkpoints were held against the events, and what is wrong."""

    checkpoints: int
    faults: tuple[LogFault, ...]


class _Growing:
    """The tree of a log while events come in, as the hashes of its perfect subtrees."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[tuple[int, bytes]] = []

    def add(self, entry: bytes) -> None:
        height, hashed = 0, merkle.leaf_hash(entry)
        while self._parts and self._parts[-1][0] == height:
            hashed = merkle.node_hash(self._parts.pop()[1], hashed)
            height += 1
        self._parts.append((height, hashed))
        self.size += 1

    @property
    def root(self) -> bytes:
        return merkle.fold([hashed for _, hashed in self._parts])


async def check_logs(pool: Pool, held: Iterable[Note]) -> LogsReport:
    """Make all logs anew of the events, and compare them with what was signed.

    That is the newest checkpoint of each log, and all that are ``held``: notes that somebody kept
    outside of the database. Reads one snapshot; memory grows with the number of tenants.

    Raises ``DatabaseUnavailableError``.
    """
    async with (
        acquire(pool) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        used = await logs.keys(connection)
        newest = await connection.fetch(_NEWEST)
        notes = [*(row["note"] for row in newest), *map(str, held)]
        faults: list[LogFault] = []
        wanted: dict[UUID, dict[int, list[LogCheckpoint]]] = {}
        for note in notes:
            try:
                checkpoint = _signed(note, used)
                tenant_id = UUID(checkpoint.origin.rpartition("/")[2])
            except ValueError as error:
                faults.append(LogFault(note.partition("\n")[0], str(error)))
            else:
                wanted.setdefault(tenant_id, {}).setdefault(checkpoint.size, []).append(checkpoint)
        faults += await _compare(connection, wanted)
    return LogsReport(len(notes), tuple(faults))


def _signed(told: str, used: Iterable[logs.UsedKey]) -> LogCheckpoint:
    note = read_note(told)
    checkpoint = read_checkpoint(note)
    keys = [Key(checkpoint.origin, ED25519, key.public) for key in used]
    if not note.signed_by(keys, verify):
        raise NoteError("the checkpoint is not signed by a key of the log")
    return checkpoint


async def _compare(
    connection: PooledConnection, wanted: dict[UUID, dict[int, list[LogCheckpoint]]]
) -> list[LogFault]:
    trees = {tenant_id: _Growing() for tenant_id in wanted}
    faults: list[LogFault] = []
    position = 0
    while wanted and (events := await events_after(connection, position, _BATCH_EVENTS)):
        position = events[-1].position
        for event in events:
            tree = trees.get(event.tenant_id)
            if tree is None:
                continue
            tree.add(event.entry(tree.size))
            for checkpoint in wanted[event.tenant_id].pop(tree.size, ()):
                if tree.root != checkpoint.root:
                    what = f"the first {tree.size} events are not those that were signed"
                    faults.append(LogFault(checkpoint.origin, what))
    for tenant_id, missing in wanted.items():
        faults += (
            LogFault(
                each.origin, f"{each.size} events were signed, {trees[tenant_id].size} are left"
            )
            for checkpoints in missing.values()
            for each in checkpoints
        )
    return faults
