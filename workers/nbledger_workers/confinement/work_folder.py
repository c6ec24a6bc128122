"""The folder in which a worker's runs have theirs: removed with the worker, however it ends."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from nbledger_infrastructure.locks import LockHeldError, acquire_lock

log = structlog.get_logger(__name__)

_PREFIX: Final = "nbledger-worker-"
_LOCK: Final = ".lock"


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """A new folder in ``parent`` for the length of the block.

    Those that killed workers left there are removed. Their locks tell: the system has given
    them up. Raises OSError when ``parent`` cannot be made or written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = acquire_lock(_lock_of(folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _lock_of(folder).unlink(missing_ok=True)
        lock.release()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _remove_leftovers(parent: Path) -> None:
    # By the locks, not by the folders: a worker that starts this moment has not locked its own.
    for path in parent.glob(f"{_PREFIX}*{_LOCK}"):
        with suppress(LockHeldError, OSError):
            lock = acquire_lock(path)
            try:
                folder = path.with_name(path.name.removesuffix(_LOCK))
                shutil.rmtree(folder, ignore_errors=True)
                path.unlink(missing_ok=True)
            finally:
                lock.release()
            log.info("folder of a killed worker removed", folder=folder.name)
