"""How many runs a worker can still take, each by its weight."""

import asyncio
import os
from collections.abc import Mapping

FULL_WEIGHT = 1.0
"""The weight of a run whose kernel type has none of its own."""


_ROUNDING = 1e-9


def slots_of(per_core: float) -> int:
    """How many slots the processors that this process may use make; one at the least."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every platform
        cores = os.cpu_count() or 1
    return max(1, round(per_core * cores))


class Slots:
    """Counts the slots that the runs of a worker take, and wakes who waits for room.

    ``weights`` says how many slots a run of a kernel type takes.
    """

    def __init__(self, capacity: int, weights: Mapping[str, float] | None = None) -> None:
        self.capacity = capacity
        self._weights = dict(weights or {})
        self._taken: list[float] = []
        self._given_back = asyncio.Event()

    def weight(self, kernel_type: str) -> float:
        """How many slots a run of this kernel type takes."""
        return self._weights.get(kernel_type, FULL_WEIGHT)

    def fits(self, weight: float) -> bool:
        """Whether a run of this weight can be taken now; one that is alone always can."""
        return not self._taken or sum(self._taken) + weight <= self.capacity + _ROUNDING

    def take(self, weight: float = FULL_WEIGHT) -> None:
        """One more run."""
        self._taken.append(weight)

    def give_back(self, weight: float = FULL_WEIGHT) -> None:
        """One run less."""
        self._taken.remove(weight)
        self._given_back.set()

    async def room(self, weight: float = FULL_WEIGHT) -> None:
        """Wait until a run of this weight can be taken."""
        while not self.fits(weight):
            self._given_back.clear()
            await self._given_back.wait()
