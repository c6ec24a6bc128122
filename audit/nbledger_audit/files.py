"""Small files that must be there after a crash, in the old or the new form."""

import os
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Replace a file as a whole; it is on disk when this returns."""
    new = path.with_name(f"{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
