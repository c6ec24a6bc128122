"""Whose turn it is: waiting work by priority, with a share for the lower classes."""

from collections.abc import Sequence
from typing import Final

from nbledger_domain.execution import PRIORITIES, Priority

SHARE: Final = 8
"""Every so many takes a lower class comes first, so that it is not starved by the higher ones."""


class Turns:
    """In which order a worker looks for something to take.

    High comes before Normal and Normal before Low. Every eighth take the classes below the
    highest come first, and of those the one that has not been served for longest: so under a
    steady stream of High one take of eight is for Normal or Low, in turn if both wait.
    """

    def __init__(self) -> None:
        self._since_shared = 0
        # The lower classes, the one that waits for its turn longest first.
        self._lower: list[Priority] = list(PRIORITIES[:0:-1])

    def order(self) -> Sequence[Priority]:
        """Where to look, the first that has something waiting is to be taken."""
        if self._since_shared < SHARE - 1:
            return PRIORITIES
        return [*self._lower, PRIORITIES[0]]

    def took(self, priority: Priority) -> None:
        """Something of this priority has been taken."""
        shared = self._since_shared >= SHARE - 1 and priority != PRIORITIES[0]
        self._since_shared = 0 if shared else self._since_shared + 1
        if priority in self._lower:
            self._lower.remove(priority)
            self._lower.append(priority)
