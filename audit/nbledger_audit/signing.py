"""Signing checkpoints: each only if the log has grown out of what was signed before.

What was signed last is kept in a folder beside the key, away from the database: whoever rewrites
the database does not make the signer forget.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

from nbledger_audit import logs
from nbledger_audit.keys import SigningError, SigningKey, sign, verify
from nbledger_audit.memory import SignerMemory
from nbledger_domain.transparency import merkle
from nbledger_domain.transparency.checkpoints import LogCheckpoint, origin_of, read_checkpoint
from nbledger_domain.transparency.merkle import ProofError
from nbledger_domain.transparency.notes import ED25519, Key, Note, NoteError, read_note
from nbledger_infrastructure.hanging import HangingCalls, HangingError
from nbledger_infrastructure.postgres.database import PooledConnection

SIGNED_AT_ONCE: Final = 8
"""So many checkpoints are signed side by side: each takes a program, or a flush of a disk."""

FOLDER_SECONDS: Final = 5.0
"""Seconds that the folder may take. A sealer that is silent for longer may lose the lead."""

T = TypeVar("T")


class InconsistentLogError(Exception):
    """A log that cannot be signed: its history was rewritten, or it is damaged.

    It does not begin with what was signed of it before, or what is kept of either cannot be read.
    """


class CheckpointSigner:
    """Signs checkpoints of all tenants' logs with one key.

    ``origin`` is what the logs' origins begin with, such as ``nb.example.com``. ``folder`` keeps
    for each tenant the checkpoint that was signed last.
    """

    def __init__(self, signer: SigningKey, origin: str, folder: Path) -> None:
        self._signer = signer
        self._origin = origin
        self._folder = folder
        self._memory = SignerMemory(folder)
        self._calls = HangingCalls(str(folder), SIGNED_AT_ONCE)

    def origin_of(self, tenant_id: UUID) -> str:
        """The origin of a tenant's log, which is the name of its key, too."""
        return origin_of(self._origin, tenant_id)

    async def tell_key(self, connection: PooledConnection) -> None:
        """Tell readers of the logs the public key."""
        await logs.use_key(connection, self._origin, self._signer.public)

    async def checkpoint(self, connection: PooledConnection, tenant_id: UUID, size: int) -> Note:
        """Sign the first ``size`` entries of a log.

        Raises :class:`InconsistentLogError`, and ``SigningError`` where the key cannot be used, or
        the folder does not answer.
        """
        last = await self.remembered(tenant_id)
        checkpoint = await self.checked(connection, tenant_id, size, last)
        return await self.signed(tenant_id, checkpoint)

    async def remembered(self, tenant_id: UUID) -> LogCheckpoint | None:
        """What the folder has. Needs no connection. Raises as :meth:`checkpoint` does."""
        return await self._in_folder(lambda: self._remembered(tenant_id))

    async def checked(
        self,
        connection: PooledConnection,
        tenant_id: UUID,
        size: int,
        remembered: LogCheckpoint | None,
    ) -> LogCheckpoint:
        """What is to be signed, which has grown out of what was signed before.

        Raises as :meth:`checkpoint` does.
        """
        origin = self.origin_of(tenant_id)
        try:
            root = await logs.root(connection, tenant_id, size)
        except LookupError as error:
            raise InconsistentLogError(
                f"the log of tenant {tenant_id} is damaged at {size} entries: {error}"
            ) from error
        checkpoint = LogCheckpoint(origin, size, root)
        # The same one, as a rule.
        for last in {remembered, await self._stored(connection, tenant_id)}:
            if last is not None:
                await _check(connection, tenant_id, last, checkpoint)
        return checkpoint

    async def signed(self, tenant_id: UUID, checkpoint: LogCheckpoint) -> Note:
        """Sign what is checked. Needs no connection. Raises as :meth:`checkpoint` does."""
        size = checkpoint.size
        note = Note(
            checkpoint.text, (await sign(self._signer, checkpoint.origin, checkpoint.text),)
        )
        # Before anybody sees it: a signer that ends here signs the same, or more, the next time.
        with self._readable(tenant_id):
            told = await self._in_folder(lambda: self._memory.keep(tenant_id, size, str(note)))
            kept = read_note(told)
        if kept.text != note.text:
            raise InconsistentLogError(
                f"another signer has signed another log of tenant {tenant_id} at {size} entries"
            )
        return note

    async def _in_folder(self, work: Callable[[], T]) -> T:
        """Work in the folder, which may hang. Raises ``SigningError``, and what ``work`` raises."""
        try:
            async with asyncio.timeout(FOLDER_SECONDS):
                return await self._calls.call(work)
        except HangingError as error:
            raise SigningError(str(error)) from None
        except TimeoutError:
            raise SigningError(f"{self._folder}: no answer in {FOLDER_SECONDS:g} seconds") from None

    def _remembered(self, tenant_id: UUID) -> LogCheckpoint | None:
        where = self._where(tenant_id)
        with self._readable(tenant_id):
            told = self._memory.last(tenant_id)
            if told is None:
                return None
            note = read_note(told)
            checkpoint = read_checkpoint(note)
        # A key that was replaced goes on with what the one before it has signed.
        if checkpoint.origin != self.origin_of(tenant_id):
            raise InconsistentLogError(f"{where} is of the log {checkpoint.origin}")
        if self._signed(note) is False:
            raise InconsistentLogError(f"{where}: its signature is false")
        return checkpoint

    def _where(self, tenant_id: UUID) -> str:
        return f"{self._folder}: what was signed of tenant {tenant_id}"

    @contextlib.contextmanager
    def _readable(self, tenant_id: UUID) -> Iterator[None]:
        """A file of a tenant's that cannot be read, or written, is a fault of its log alone."""
        try:
            yield
        except (NoteError, UnicodeDecodeError, OSError) as error:
            raise InconsistentLogError(f"{self._where(tenant_id)}: {error}") from error

    async def _stored(self, connection: PooledConnection, tenant_id: UUID) -> LogCheckpoint | None:
        """What the database has, where this key has signed it: perhaps from another machine."""
        newest = await logs.newest(connection, tenant_id)
        if newest is None:
            return None
        with contextlib.suppress(NoteError):
            note = read_note(newest.note)
            checkpoint = read_checkpoint(note)
            if checkpoint.origin == self.origin_of(tenant_id) and self._signed(note):
                return checkpoint
        return None

    def _signed(self, note: Note) -> bool | None:
        """Whether this key's signature below a note is right; None where there is none."""
        key = Key(note.text.partition("\n")[0], ED25519, self._signer.public)
        for each in note.signatures:
            if each.is_of(key):
                return verify(key, note.text.encode(), each)
        return None


async def _check(
    connection: PooledConnection, tenant_id: UUID, last: LogCheckpoint, new: LogCheckpoint
) -> None:
    if new.size < last.size:
        raise InconsistentLogError(
            f"the log of tenant {tenant_id} has {new.size} entries, and had {last.size}"
        )
    try:
        proof = await logs.prove(connection, tenant_id, merkle.consistency(last.size, new.size))
        merkle.check_consistency(last.size, last.root, new.size, new.root, proof)
    except (ProofError, LookupError) as error:
        raise InconsistentLogError(
            f"the log of tenant {tenant_id} is not what was signed of it at {last.size} entries"
            f" (it has {new.size})"
        ) from error
