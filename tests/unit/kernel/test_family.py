"""What is to be known of the processes of a run."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from nbledger_workers.kernel.processes import family


def test_only_files_that_can_be_written_through_memory_are_mapped_ones(tmp_path: Path) -> None:
    read, written = tmp_path / "read", tmp_path / "written"
    for path in (read, written):
        path.write_bytes(b"x" * 100)
    with (
        read.open("rb") as reading,
        written.open("r+b") as writing,
        mmap.mmap(reading.fileno(), 0, access=mmap.ACCESS_READ),
        mmap.mmap(writing.fileno(), 0),
    ):
        found = family._mapped_files("/proc", os.getpid())
    assert written.stat().st_ino in found
    assert read.stat().st_ino not in found
