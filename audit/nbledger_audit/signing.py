"""Signing checkpoints: each only if the log has grown out of what was signed before.

What was signed last is kept in a folder beside the key, away from the database: whoever rewrites
the database does not make the signer forget.
"""

import contextlib
import os
from pathlib import Path
from uuid import UUID

from nbledger_audit import logs
from nbledger_audit.keys import Signer, verify
from nbledger_domain.transparency import merkle
from nbledger_domain.transparency.checkpoints import LogCheckpoint, origin_of, read_checkpoint
from nbledger_domain.transparency.merkle import ProofError
from nbledger_domain.transparency.notes import Note, NoteError, read_note
from nbledger_infrastructure.postgres.database import PooledConnection


class InconsistentLogError(Exception):
    """A log that does not begin with what was signed of it before: its history was rewritten."""


class CheckpointSigner:
    """Signs checkpoints of all tenants' logs with one key.

    ``origin`` is what the logs' origins begin with, such as ``nb.example.com``. ``folder`` keeps
    for each tenant the checkpoint that was signed last.
    """

    def __init__(self, signer: Signer, origin: str, folder: Path) -> None:
        self._signer = signer
        self._origin = origin
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def origin_of(self, tenant_id: UUID) -> str:
        """The origin of a tenant's log, which is the name of its key, too."""
        return origin_of(self._origin, tenant_id)

    async def tell_key(self, connection: PooledConnection) -> None:
        """Tell readers of the logs the public key."""
        await logs.use_key(connection, self._origin, self._signer.public)

    async def checkpoint(self, connection: PooledConnection, tenant_id: UUID, size: int) -> Note:
        """Sign the first ``size`` entries of a log.

        Raises :class:`InconsistentLogError`.
        """
        origin = self.origin_of(tenant_id)
        root = await logs.root(connection, tenant_id, size)
        checkpoint = LogCheckpoint(origin, size, root)
        last = self._last(tenant_id)
        if last is not None:
            await _check(connection, tenant_id, last, checkpoint)
        note = Note(checkpoint.text, (self._signer.sign(origin, checkpoint.text),))
        # Before anybody sees it: a signer that ends here signs the same, or more, the next time.
        _write(self._folder / str(tenant_id), str(note))
        return note

    def _last(self, tenant_id: UUID) -> LogCheckpoint | None:
        path = self._folder / str(tenant_id)
        try:
            note = read_note(path.read_text())
        except FileNotFoundError:
            return None
        except NoteError as error:
            raise InconsistentLogError(f"{path}: {error}") from error
        checkpoint = read_checkpoint(note)
        # A key that was replaced goes on with what the one before it has signed.
        if checkpoint.origin != self.origin_of(tenant_id):
            raise InconsistentLogError(f"{path} is of the log {checkpoint.origin}")
        key = self._signer.key(checkpoint.origin)
        with contextlib.suppress(StopIteration):
            signature = next(each for each in note.signatures if each.is_of(key))
            if not verify(key, note.text.encode(), signature):
                raise InconsistentLogError(f"{path}: its signature is false")
        return checkpoint


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
        ) from error


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole, so that it is there after a crash, in the old or the new form."""
    new = path.with_name(f"{path.name}.new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
