"""What a log asks of a witness, and what the witness checks, as C2SP tlog-witness defines them."""

import base64
import hashlib
import re
from typing import Final

import msgspec

from nbledger_domain.transparency import merkle
from nbledger_domain.transparency.checkpoints import LogCheckpoint
from nbledger_domain.transparency.merkle import ProofError
from nbledger_domain.transparency.notes import Note, NoteError, read_note

MOST_HASHES: Final = 63

_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})")
_SIZE: Final = re.compile(r"(0|[1-9][0-9]{0,18})\n")


class OldSizeError(ValueError):
    """A request that claims an earlier tree that is larger than the one it submits."""


class SizeConflictError(Exception):
    """The witness has last cosigned ``size`` entries, and the request goes on from others."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the last checkpoint that was cosigned has {size} entries")
        self.size = size


class AddCheckpoint(msgspec.Struct, frozen=True):
    """A checkpoint to cosign, with the proof that it grew out of the first ``old`` entries."""

    old: int
    proof: tuple[bytes, ...]
    note: Note

    def __str__(self) -> str:
        hashes = "".join(f"{base64.b64encode(each).decode()}\n" for each in self.proof)
        return f"old {self.old}\n{hashes}\n{self.note}"

    def check(self, new: LogCheckpoint, last: LogCheckpoint | None) -> None:
        """Check that ``new``, the request's checkpoint, goes on from the last one cosigned.

        Raises :class:`OldSizeError`, :class:`SizeConflictError` and ``ProofError``.
        """
        if self.old > new.size:
            raise OldSizeError(f"a tree of {new.size} entries has not grown out of {self.old}")
        seen = 0 if last is None else last.size
        if self.old != seen:
            raise SizeConflictError(seen)
        if new.size == 0 and new.root != merkle.EMPTY:
            raise ProofError("the tree without entries has another hash")
        old_root = merkle.EMPTY if last is None else last.root
        merkle.check_consistency(self.old, old_root, new.size, new.root, self.proof)


def read_add_checkpoint(told: str) -> AddCheckpoint:
    """Read a request. Raises :class:`NoteError`."""
    head, blank, note = told.partition("\n\n")
    first, *hashes = head.split("\n")
    old = _OLD.fullmatch(first)
    if not blank or old is None:
        raise NoteError("a request begins with old <size>, and has a checkpoint")
    if len(hashes) > MOST_HASHES:
        raise NoteError(f"a request has more than {MOST_HASHES} hashes")
    return AddCheckpoint(int(old[1]), tuple(map(_hash, hashes)), read_note(note))


def read_size(told: str) -> int:
    """Read what a witness answers that has cosigned another size. Raises :class:`NoteError`."""
    found = _SIZE.fullmatch(told)
    if found is None:
        raise NoteError("the answer is no size of a tree")
    return int(found[1])


def origin_hash(origin: str) -> str:
    """Under which name a witness serves the last checkpoint of a log."""
    return hashlib.sha256(origin.encode()).hexdigest()


def _hash(line: str) -> bytes:
    try:
        decoded = base64.b64decode(line, validate=True)
    except ValueError as error:
        raise NoteError("a hash of the proof is no base64") from error
    if len(decoded) != 32 or base64.b64encode(decoded).decode() != line:
        raise NoteError("a hash of the proof is no SHA-256")
    return decoded
