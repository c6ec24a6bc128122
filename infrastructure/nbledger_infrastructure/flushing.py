"""Files and folders that are on the disk once they are written, also if the machine goes down."""

import os
from pathlib import Path
from typing import IO, Any


def flush_file(file: IO[Any]) -> None:
    """Bring what was written to an open file to the disk. Raises ``OSError``."""
    file.flush()
    os.fsync(file.fileno())


def flush_path(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
