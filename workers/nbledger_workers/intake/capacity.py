"""How many runs a worker can still take."""

import asyncio
import time


class Slots:
    """Counts the runs of a worker, and wakes who waits for room."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.free_since = time.monotonic()
        """Since when (monotonic) there has been room, while there is."""
        self._taken = 0
        self._room = asyncio.Event()
        self._room.set()

    @property
    def free(self) -> int:
        """Runs that can be taken now."""
        return self.capacity - self._taken

    def take(self) -> None:
        """One more run."""
        self._taken += 1
        if self.free <= 0:
            self._room.clear()

    def give_back(self) -> None:
        """One run less."""
        if self.free <= 0:
            self.free_since = time.monotonic()
        self._taken -= 1
        if self.free > 0:
            self._room.set()

    async def room(self) -> None:
        """Wait until a run can be taken."""
        await self._room.wait()
