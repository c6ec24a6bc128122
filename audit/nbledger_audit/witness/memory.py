"""What a witness has cosigned last of each log, in a folder that one process at a time works on."""

from pathlib import Path
from typing import Final

from nbledger_domain.transparency.notes import Note, read_note
from nbledger_domain.transparency.witnessing import origin_hash
from nbledger_infrastructure.flushing import flush_file, flush_path
from nbledger_infrastructure.locks import acquire_lock

_LOCK: Final = "lock"


class WitnessMemory:
    """Keeps the last checkpoint that was cosigned of each log, with its signatures.

    Holds a lock on ``folder`` until :meth:`close`. The folder has to exist: a witness that has
    forgotten what it cosigned must not go on with its key.

    Raises ``LockHeldError`` where another process works on it, and ``OSError``.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(2, "No such directory", str(folder))
        self._folder = folder
        self._lock = acquire_lock(folder / _LOCK)

    def last(self, origin: str) -> Note | None:
        """The last checkpoint that was cosigned of a log.

        Raises ``NoteError`` where its file is damaged, and ``OSError``.
        """
        told = self.served(origin_hash(origin))
        # The limit on signatures is for strangers: what was kept has to be read, whatever it has.
        return None if told is None else read_note(told, most=len(told))

    def served(self, name: str) -> str | None:
        """The last checkpoint of the log whose origin has this hash, as it is kept."""
        try:
            return (self._folder / name).read_text("utf-8")
        except FileNotFoundError:
            return None

    def keep(self, origin: str, note: Note) -> None:
        """Keep a checkpoint; it is on disk when this returns."""
        _replace(self._folder / origin_hash(origin), str(note))

    def close(self) -> None:
        """Let another process work on the folder."""
        self._lock.release()


def _replace(path: Path, text: str) -> None:
    """Replace a file as a whole; whenever the machine stops, the old or the new one is there."""
    new = path.with_name(f"{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        flush_file(file)
    new.replace(path)
    flush_path(path.parent)
