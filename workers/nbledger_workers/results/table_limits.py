"""What a process may take that reads a table of a notebook's making: few bytes can be many."""

import resource
from typing import Final

_DATA_BYTES: Final = 4_000_000_000


def hold(*, file_bytes: int | None = None) -> None:
    """Bound this process's memory, and the size of the files that it writes.

    Memory beyond ends the process, a file beyond it raises ``OSError``.
    """
    _lower(resource.RLIMIT_DATA, _DATA_BYTES)
    if file_bytes is not None:
        _lower(resource.RLIMIT_FSIZE, file_bytes)


def _lower(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(kind, (limit, limit))
