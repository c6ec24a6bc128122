"""The rows that a projection works on: kept in memory between batches, changed rows known."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar
from uuid import UUID

from nbledger_projections.machinery.quantities import encode

S = TypeVar("S")

MAX_BYTES = 4_000_000
"""About how much memory the rows of one projection take between batches."""

_ROW_BYTES = 500
# Objects take more than their JSON: measured, 3 to 5 times as much.
_PER_BYTE = 4


class Rows(Generic[S]):
    """States by key, least recently used first; ``None`` is a row known not to exist.

    Between batches the most recently used are kept that fit into ``max_bytes``.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max = max_bytes
        self._states: OrderedDict[UUID, S | None] = OrderedDict()
        self._changed: set[UUID] = set()
        self._weights: dict[UUID, int] = {}
        self._bytes = 0
        # What a batch has brought in or altered, and what no later one is likely to ask for.
        self._touched: set[UUID] = set()
        self._over: set[UUID] = set()

    @property
    def bytes(self) -> int:
        """About how much memory they take, as of the last batch that was settled."""
        return self._bytes

    def missing(self, keys: Iterable[UUID]) -> list[UUID]:
        """Those of ``keys`` that have to be read from the database, each once."""
        return [key for key in dict.fromkeys(keys) if key not in self._states]

    def fill(self, keys: Iterable[UUID], found: dict[UUID, S]) -> None:
        """Take what the database has for ``keys``."""
        for key in keys:
            self._states[key] = found.get(key)
            self._touched.add(key)

    def get(self, key: UUID) -> S | None:
        """The state, which must have been filled in or put before."""
        return self._states[key]

    def put(self, key: UUID, state: S | None) -> None:
        """Set a state, or with ``None`` remove it; it is to be written."""
        self._states[key] = state
        self._states.move_to_end(key)
        self._changed.add(key)
        self._touched.add(key)

    def let_go(self, key: UUID) -> None:
        """Do not keep this one beyond the batch: nothing more is expected of it."""
        self._over.add(key)
        self._touched.add(key)

    def forget(self, keys: Iterable[UUID]) -> None:
        """Count states as not existing that somebody else removes from the database."""
        for key in keys:
            self._states[key] = None
            self._changed.discard(key)
            self._touched.add(key)

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
        """What was changed is written: keep what fits, and what is still of use."""
        for key in self._touched:
            if self._weigh(key) > self._max or key in self._over:
                self._drop(key)
        while self._bytes > self._max:
            self._drop(next(iter(self._states)))
        self._changed.clear()
        self._touched.clear()
        self._over.clear()

    def clear(self) -> None:
        """Forget everything."""
        for held in (self._states, self._changed, self._weights, self._touched, self._over):
            held.clear()
        self._bytes = 0

    def _weigh(self, key: UUID) -> int:
        state = self._states[key]
        weight = _ROW_BYTES
        if state is not None and key not in self._over:
            weight += _PER_BYTE * len(encode(state))
        self._bytes += weight - self._weights.get(key, 0)
        self._weights[key] = weight
        return weight

    def _drop(self, key: UUID) -> None:
        del self._states[key]
        self._bytes -= self._weights.pop(key)
