"""What was signed last of each log, kept in a folder of the signer, away from the database.

Each checkpoint is a file of its own, named by its size, which is linked into place and never
replaced. So of two signers that write at the same moment, one of which was stopped for long, the
smaller checkpoint never takes the place of the larger one, on a shared disk of two machines too.
"""

import contextlib
from pathlib import Path
from uuid import UUID, uuid4

from nbledger_infrastructure.flushing import flush_file, flush_path


class SignerMemory:
    """The checkpoints that were signed last, as texts of signed notes. Raises ``OSError``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def last(self, tenant_id: UUID) -> str | None:
        """The largest checkpoint of a log that was signed; None where there is none."""
        # Another signer may remove the file in between, after it has kept a larger one.
        while (size := max(self._sizes(tenant_id), default=None)) is not None:
            with contextlib.suppress(FileNotFoundError):
                return self._path(tenant_id, size).read_text()
        return self._single(tenant_id)

    def keep(self, tenant_id: UUID, size: int, note: str) -> str:
        """Keep a checkpoint of so many entries, on the disk when this returns.

        Returns what is kept for this size, which is another note where another signer was first.
        """
        path = self._path(tenant_id, size)
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(mode=0o700)
            flush_path(self._folder)
        new = path.with_name(f".{uuid4().hex}")
        with new.open("w") as file:
            file.write(note)
            flush_file(file)
        try:
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(new)
        finally:
            new.unlink()
        try:
            kept = path.read_text()
        except FileNotFoundError:
            kept = note  # another signer has kept a larger one already
        flush_path(path.parent)
        for smaller in self._sizes(tenant_id):
            if smaller < size:
                self._path(tenant_id, smaller).unlink(missing_ok=True)
        return kept

    def _sizes(self, tenant_id: UUID) -> list[int]:
        try:
            names = [path.name for path in self._path(tenant_id, 0).parent.iterdir()]
        except FileNotFoundError:
            return []
        return [int(name) for name in names if name.isdecimal()]

    def _path(self, tenant_id: UUID, size: int) -> Path:
        return self._folder / f"{tenant_id}.signed" / str(size)

    def _single(self, tenant_id: UUID) -> str | None:
        """What an earlier version kept: one file for each log."""
        try:
            return (self._folder / str(tenant_id)).read_text()
        except FileNotFoundError:
            return None
