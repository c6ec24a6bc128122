"""Checkpoints of a log, as C2SP tlog-checkpoint defines them, and what witnesses sign of them.

A checkpoint says how many entries a log has, which its origin names, and the hash of its tree.
"""

import base64
import re
from typing import Final
from uuid import UUID

import msgspec

from nbledger_domain.transparency.notes import Note, NoteError, Signature
from nbledger_domain.vocabulary.addresses import log_path

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


class LogCheckpoint(msgspec.Struct, frozen=True):
    """The state of a log: the origin names it, ``size`` counts its entries."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def origin_of(installation: str, tenant_id: UUID) -> str:
    """The origin of a tenant's log, which is the name of its key, too.

    ``installation`` is what origins begin with, such as ``nb.example.com``.
    """
    return f"{installation}{log_path(tenant_id)}"


def read_checkpoint(note: Note) -> LogCheckpoint:
    """Read the text of a note as a checkpoint; lines of extensions are passed over.

    Raises :class:`NoteError`. Whether anybody signed it is another question.
    """
    origin, *rest = note.text.removesuffix("\n").split("\n")
    if len(rest) < 2 or not origin or not all(rest):
        raise NoteError("a checkpoint has three lines: origin, size and root hash")
    size, root = rest[:2]
    if not _SIZE.fullmatch(size):
        raise NoteError(f"{size!r} is no size of a log")
    try:
        decoded = base64.b64decode(root, validate=True)
    except ValueError as error:
        raise NoteError("the root hash is no base64") from error
    if len(decoded) != 32 or base64.b64encode(decoded).decode() != root:
        raise NoteError("the root hash is no SHA-256")
    return LogCheckpoint(origin, int(size), decoded)


def cosigned(text: bytes, timestamp: int) -> bytes:
    """What a witness signs of the text of a checkpoint (C2SP tlog-cosignature, Ed25519).

    ``timestamp`` is in seconds since 1970.
    """
    return b"cosignature/v1\ntime %d\n" % timestamp + text


def timestamp_of(cosignature: Signature) -> int | None:
    """When a witness signed, in seconds since 1970; None for what is no Ed25519 cosignature."""
    if len(cosignature.signed) != 72:
        return None
    return int.from_bytes(cosignature.signed[:8], "big")
