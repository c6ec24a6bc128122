"""Pauses between attempts at something that is away."""

import asyncio


class Backoff:
    """How long to wait before the next attempt: twice as long each time, up to a longest pause.

    ``first`` and ``longest`` are in seconds. ``failures`` counts the attempts that failed since the
    last success, so that a log may tell the first of an outage alone.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self.failures = 0

    def fail(self) -> float:
        """Count a failed attempt; returns the seconds to wait before the next."""
        # Beyond this no pause grows, and the power would.
        pause = self._first * 2.0 ** min(self.failures, 30)
        self.failures += 1
        return min(pause, self._longest)

    async def wait(self) -> None:
        """Count a failed attempt and wait."""
        await asyncio.sleep(self.fail())

    def reset(self) -> None:
        """Begin anew with the first pause: an attempt succeeded."""
        self.failures = 0
