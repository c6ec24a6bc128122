"""A log in memory, which witnesses are asked about."""

from __future__ import annotations

from pathlib import Path

from nbledger_audit.keys import Signer
from nbledger_domain.transparency import merkle, tiles
from nbledger_domain.transparency.checkpoints import LogCheckpoint
from nbledger_domain.transparency.notes import Note
from nbledger_domain.transparency.witnessing import AddCheckpoint


class SmallLog:
    """A log of numbered entries; ``history`` makes each of another log of the same name."""

    def __init__(self, signer: Signer, origin: str, history: str = "") -> None:
        self.signer = signer
        self.origin = origin
        leaves = [merkle.leaf_hash(f"{history}{number}".encode()) for number in range(700)]
        self._tiles = tiles.append({}, 0, leaves)

    @property
    def vkey(self) -> str:
        """The key by which witnesses know it."""
        return self.signer.key(self.origin).encoded

    def checkpoint(self, size: int) -> LogCheckpoint:
        """The state of so many entries."""
        (root,) = tiles.proof_of((merkle.root(size),), self._tiles)
        return LogCheckpoint(self.origin, size, root)

    def note(self, size: int) -> Note:
        """The signed checkpoint of so many entries."""
        text = self.checkpoint(size).text
        return Note(text, (self.signer.sign(self.origin, text),))

    def proof(self, old: int, size: int) -> tuple[bytes, ...]:
        """That the tree of ``size`` entries begins with that of ``old``."""
        return tuple(tiles.proof_of(merkle.consistency(old, size), self._tiles))

    def request(self, old: int, size: int) -> AddCheckpoint:
        """What a witness is asked that has cosigned ``old`` entries."""
        return AddCheckpoint(old, self.proof(old, size), self.note(size))


def new_signer(folder: Path, name: str) -> Signer:
    """A signer with a new key in a folder."""
    return Signer.generate(folder / f"{name}.pem")
