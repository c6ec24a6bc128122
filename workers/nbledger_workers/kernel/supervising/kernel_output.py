"""What a kernel's process writes to its descriptors 1 and 2, past its messages."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from nbledger_workers.kernel.supervising.last_words import last_words

_TAIL_BYTES: Final = 8_000
_MOST_KEPT_BYTES: Final = 8_000_000
_CHUNK_BYTES: Final = 65_536


class KernelOutput:
    """The pipes of one kernel's stdout and stderr.

    Their end is always kept, for a message. With `keeps` all text is: that of C code and child
    processes of R. An IPython kernel publishes it; others write their own log there.
    """

    def __init__(self) -> None:
        self.keeps = False
        self._cut = False
        self._pipes: dict[str, int] = {}
        self._tail = b""
        self._kept = {"stdout": b"", "stderr": b""}

    def pipe(self, name: str) -> int:
        """The end of a new pipe that the kernel is to write stdout or stderr to."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        self._pipes[name] = read
        asyncio.get_running_loop().add_reader(read, self._read, name)
        return write

    def begin(self) -> None:
        """Forget what was written so far; call it when a cell begins."""
        self.take()
        self.take_cut()

    def take(self) -> dict[str, str]:
        """Text by stream that was written since last asked, where it is kept."""
        for name in self._pipes:
            while self._read(name):
                pass
        found = {name: data.decode("utf-8", "replace") for name, data in self._kept.items()}
        self._kept = {"stdout": b"", "stderr": b""}
        return {name: text for name, text in found.items() if text}

    def take_cut(self) -> bool:
        """Whether more was written than is kept since last asked."""
        cut, self._cut = self._cut, False
        return cut

    def last_words(self) -> str:
        """The end of what was written, for a message."""
        for name in self._pipes:
            self._read(name)
        text = last_words(self._tail)
        return f": {text}" if text else ""

    def _read(self, name: str) -> bool:
        """Read what there is; whether there may be more."""
        try:
            chunk = os.read(self._pipes[name], _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            asyncio.get_running_loop().remove_reader(self._pipes[name])
            return False
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        if self.keeps:
            if sum(map(len, self._kept.values())) < _MOST_KEPT_BYTES:
                self._kept[name] += chunk
            else:
                self._cut = True
        return True
