"""Proofs in a file of their own, as C2SP tlog-proof defines them (``.tlog-proof``).

One holds all that is needed to check, without anybody's help, that an entry is in a log.
"""

import base64
import re
from typing import Final

import msgspec

from nbledger_domain.transparency.checkpoints import LogCheckpoint, read_checkpoint
from nbledger_domain.transparency.merkle import check_inclusion, leaf_hash
from nbledger_domain.transparency.notes import Note, NoteError, read_note

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})")
_MOST_HASHES: Final = 63


class EntryProof(msgspec.Struct, frozen=True):
    """That entry ``index`` is in the log of the checkpoint. ``hashes`` go from the leaf up.

    ``extra`` is whatever comes with it, such as the entry itself; nothing authenticates it.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: Note
    extra: bytes = b""

    def __str__(self) -> str:
        hashes = "".join(f"{base64.b64encode(each).decode()}\n" for each in self.hashes)
        extra = f"extra {base64.b64encode(self.extra).decode()}\n" if self.extra else ""
        return f"{_HEADER}\n{extra}index {self.index}\n{hashes}\n{self.checkpoint}"

    def check(self, entry: bytes) -> LogCheckpoint:
        """Check that ``entry`` is the one; returns the checkpoint.

        Whoever signed it is another question.

        Raises ``ProofError`` where it is not, and ``NoteError`` for what is no checkpoint.
        """
        checkpoint = read_checkpoint(self.checkpoint)
        check_inclusion(leaf_hash(entry), self.index, checkpoint.size, self.hashes, checkpoint.root)
        return checkpoint


def read_proof(told: str) -> EntryProof:
    """Read a proof. Raises ``NoteError``."""
    head, blank, note = told.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines.pop(0) != _HEADER:
        raise NoteError(f"a proof begins with {_HEADER}")
    extra = b""
    if lines and lines[0].startswith("extra "):
        extra = _decoded(lines.pop(0).removeprefix("extra "))
    index = _INDEX.fullmatch(lines.pop(0)) if lines else None
    if index is None:
        raise NoteError("a proof has the index of its entry")
    if len(lines) > _MOST_HASHES:
        raise NoteError(f"a proof has more than {_MOST_HASHES} hashes")
    return EntryProof(int(index[1]), tuple(map(_hash, lines)), read_note(note), extra)


def _hash(line: str) -> bytes:
    decoded = _decoded(line)
    if len(decoded) != 32:
        raise NoteError("a hash of the proof is no SHA-256")
    return decoded


def _decoded(text: str) -> bytes:
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise NoteError("a line of the proof is no base64") from error
    if base64.b64encode(decoded).decode() != text:
        raise NoteError("a line of the proof is no base64 of the standard form")
    return decoded
