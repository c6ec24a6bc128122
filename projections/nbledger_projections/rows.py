"""The rows that a projection works on: kept in memory between batches, changed rows known."""

from collections.abc import Iterable
from typing import Generic, TypeVar
from uuid import UUID

S = TypeVar("S")


class Rows(Generic[S]):
    """States by key, least recently used first; ``None`` is a row known not to exist."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._states: dict[UUID, S | None] = {}
        self._changed: set[UUID] = set()

    def missing(self, keys: Iterable[UUID]) -> list[UUID]:
        """Those of ``keys`` that have to be read from the database, each once."""
        return [key for key in dict.fromkeys(keys) if key not in self._states]

    def fill(self, keys: Iterable[UUID], found: dict[UUID, S]) -> None:
        """Take what the database has for ``keys``."""
        for key in keys:
            self._states[key] = found.get(key)

    def get(self, key: UUID) -> S | None:
        """The state, which must have been filled in or put before."""
        return self._states[key]

    def put(self, key: UUID, state: S | None) -> None:
        """Set a state, or with ``None`` remove it; it is to be written."""
        self._states.pop(key, None)
        self._states[key] = state
        self._changed.add(key)

    def forget(self, keys: Iterable[UUID]) -> None:
        """Count states as not existing that somebody else removes from the database."""
        for key in keys:
            self._states[key] = None
            self._changed.discard(key)

    def states(self) -> list[tuple[UUID, S]]:
        """Every state in memory."""
        return [(key, state) for key, state in self._states.items() if state is not None]

    def changes(self) -> tuple[list[S], list[UUID]]:
        """States to write and keys to delete, in the order of the keys."""
        written: list[S] = []
        deleted: list[UUID] = []
        for key in sorted(self._changed):
            state = self._states[key]
            if state is None:
                deleted.append(key)
            else:
                written.append(state)
        return written, deleted

    def changed(self) -> list[tuple[UUID, S]]:
        """States to write, each with its key, in the order of the keys."""
        found = ((key, self._states[key]) for key in sorted(self._changed))
        return [(key, state) for key, state in found if state is not None]

    def settle(self) -> None:
        """What was changed is written: keep the most recently used states only."""
        self._changed.clear()
        excess = len(self._states) - self._capacity
        if excess > 0:
            for key in list(self._states)[:excess]:
                del self._states[key]

    def clear(self) -> None:
        """Forget everything."""
        self._states.clear()
        self._changed.clear()
