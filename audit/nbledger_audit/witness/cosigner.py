"""What a witness answers: it cosigns a checkpoint that goes on from the last one it cosigned.

Follows C2SP tlog-witness. Where 1.0.0 and the text after it differ, which is another tree of the
same size, this answers 422 as the later text says: the earlier 409 sends logs into a loop.
"""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from nbledger_audit.keys import Signer, verify
from nbledger_audit.witness.memory import WitnessMemory
from nbledger_domain.transparency.checkpoints import LogCheckpoint, read_checkpoint, timestamp_of
from nbledger_domain.transparency.log_lists import LogListError, read_log_list
from nbledger_domain.transparency.merkle import ProofError
from nbledger_domain.transparency.notes import COSIGNATURE, Key, Note, NoteError, Signature
from nbledger_domain.transparency.witnessing import (
    OldSizeError,
    SizeConflictError,
    read_add_checkpoint,
)

log = structlog.get_logger(__name__)

CLOCK_SECONDS: Final = 300
"""By how much the clock may be behind the last cosignature, which then is not dated back."""

_TEXT: Final = "text/plain; charset=utf-8"
_SIZE: Final = "text/x.tlog.size"


class WitnessAnswer(msgspec.Struct, frozen=True):
    """What is answered: an HTTP status and a body."""

    status: int
    body: str
    media_type: str = _TEXT


class ClockError(Exception):
    """A clock that is behind what was cosigned."""


class DamagedMemoryError(Exception):
    """What was cosigned last cannot be read, or was altered."""


class KnownLogs:
    """The logs of a file, read anew whenever the file has changed.

    Raises ``LogListError`` and ``OSError`` where it cannot be read at first; later the logs known
    before stay, and the log tells.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self._keys = read_log_list(path.read_text("utf-8"))

    def keys(self, origin: str) -> tuple[Key, ...]:
        """The keys of a log; none where it is unknown."""
        return self.all().get(origin, ())

    def all(self) -> Mapping[str, tuple[Key, ...]]:
        """The keys of all logs, by their origins."""
        try:
            stamp = self._stamp()
            if stamp != self._seen:
                self._seen = stamp
                self._keys = read_log_list(self._path.read_text("utf-8"))
                log.info("logs read", logs=len(self._keys))
        except (LogListError, OSError, UnicodeDecodeError) as error:
            log.warning("logs not read", file=str(self._path), error=str(error))
        return self._keys

    def _stamp(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino


class Cosigner:
    """Answers requests under the witness's name; one after the other, whoever calls."""

    def __init__(
        self,
        name: str,
        signer: Signer,
        logs: KnownLogs,
        memory: WitnessMemory,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.key = signer.key(name, COSIGNATURE)
        self.logs = logs
        self._signer = signer
        self._memory = memory
        self._now = now
        self._one = threading.Lock()

    def add_checkpoint(self, body: bytes) -> WitnessAnswer:
        """Cosign the checkpoint of a request, or say why not."""
        try:
            request = read_add_checkpoint(body.decode())
            checkpoint = read_checkpoint(request.note)
        except (NoteError, UnicodeDecodeError) as error:
            return WitnessAnswer(400, f"{error}\n")
        keys = self.logs.keys(checkpoint.origin)
        if not keys:
            return WitnessAnswer(404, "the log is unknown here\n")
        try:
            signed = request.note.only_of(keys)
            signers = signed.signed_by(keys, verify)
        except NoteError as error:
            return WitnessAnswer(403, f"{error}\n")
        if not signers:
            return WitnessAnswer(403, "no known key of the log has signed the checkpoint\n")
        try:
            # From here to the file nothing of the same log may come between.
            with self._one:
                last = self._last(checkpoint.origin)
                seen = None if last is None else read_checkpoint(last)
                request.check(checkpoint, seen)
                cosignature = self._cosign(checkpoint, request.note, last)
                self._memory.keep(checkpoint.origin, signed.with_signatures([cosignature]))
        except (OldSizeError, SizeConflictError, ProofError) as error:
            return _refusal(error, checkpoint)
        except (ClockError, DamagedMemoryError, OSError):
            log.exception("cannot cosign", origin=checkpoint.origin)
            return WitnessAnswer(500, "this witness cannot cosign: its own log says why\n")
        log.info("cosigned", origin=checkpoint.origin, size=checkpoint.size)
        return WitnessAnswer(200, cosignature.line)

    def checkpoint(self, name: str) -> WitnessAnswer:
        """The last checkpoint that was cosigned of the log whose origin has this hash."""
        told = self._memory.served(name)
        return WitnessAnswer(404, "no checkpoint\n") if told is None else WitnessAnswer(200, told)

    def _last(self, origin: str) -> Note | None:
        """The last checkpoint that was cosigned. Raises :class:`DamagedMemoryError`."""
        try:
            note = self._memory.last(origin)
            if note is None:
                return None
            if read_checkpoint(note).origin != origin or not note.signed_by([self.key], verify):
                raise DamagedMemoryError("what was cosigned last is of another log or witness")
        except (NoteError, UnicodeDecodeError) as error:
            raise DamagedMemoryError(f"what was cosigned last is damaged: {error}") from error
        return note

    def _cosign(self, checkpoint: LogCheckpoint, note: Note, last: Note | None) -> Signature:
        """Cosign, never dated before the last cosignature. Raises :class:`ClockError`."""
        now = int(self._now())
        before = 0 if last is None else _time_of(last, self.key)
        if now < before - CLOCK_SECONDS:
            raise ClockError(
                f"the clock is {before - now} s behind the last cosignature of {checkpoint.origin}"
            )
        return self._signer.cosign(self.key.name, note.text, max(now, before))


def _refusal(
    error: OldSizeError | SizeConflictError | ProofError, checkpoint: LogCheckpoint
) -> WitnessAnswer:
    if isinstance(error, SizeConflictError):
        return WitnessAnswer(409, f"{error.size}\n", _SIZE)
    # Its log signed it, so it may be what proves that the log shows two histories.
    log.warning(
        "not cosigned", error=str(error), checkpoint=checkpoint.text, origin=checkpoint.origin
    )
    return WitnessAnswer(400 if isinstance(error, OldSizeError) else 422, f"{error}\n")


def _time_of(note: Note, key: Key) -> int:
    return max((timestamp_of(each) or 0 for each in note.signatures if each.is_of(key)), default=0)
