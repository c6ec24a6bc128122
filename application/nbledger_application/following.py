"""Following the events: reading on from a checkpoint, and folding what concerns the reader.

What is folded is written in one transaction with the checkpoint, so a reader that is killed at any
point is taken over by reading on. Of two at work one is refused.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import msgspec

from nbledger_domain.events import EVENT_TYPES
from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.checkpoints import Checkpoint
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, recorded_event

BATCH_EVENTS: Final = 2000
KEPT_UNSAVED: Final = 5000
"""After so many events of no concern the checkpoint is written all the same."""

SAVE_SECONDS: Final = 10.0
"""Seconds after which it is written even with fewer, so that it shows no lag at rest."""

_SHOWN: Final = COLUMNS.replace(" data,", " CASE WHEN type = ANY($3) THEN data END AS data,")

# Large data stays where it is: of marked types it is enough that it has the mark. The last event
# comes along whatever it is, as it says how far this goes.
_READ: Final = f"""
SELECT {_SHOWN} FROM (
    SELECT *, max(position) OVER () AS through
    FROM (SELECT * FROM event WHERE position > $1 ORDER BY position LIMIT $2) AS next
) AS told
WHERE type = ANY($3) OR type = ANY($4) OR (type = ANY($5) AND data::text LIKE $6)
    OR position = through
ORDER BY position
"""  # noqa: S608 (constants)


class Interests(msgspec.Struct, frozen=True, kw_only=True):
    """Which types of events concern a reader.

    Those in ``read`` come with their data, those in ``noted`` without, and those in ``marked``
    without and only where their data has the text ``mark``.
    """

    read: Sequence[str]
    noted: Sequence[str]
    marked: Sequence[str]
    mark: str

    @property
    def types(self) -> frozenset[str]:
        """All of them."""
        return frozenset({*self.read, *self.noted, *self.marked})


class EventFollower(Protocol):
    """What becomes of the events that concern a reader."""

    async def prepare(self, batch: Sequence[RecordedEvent]) -> None:
        """Do what is to be done before the transaction; it may be done again."""
        ...

    async def fold(self, connection: PooledConnection, batch: Sequence[RecordedEvent]) -> None:
        """Write what follows from the events, within the transaction."""
        ...


class Following:
    """How far a reader has come; ``name`` is that of its checkpoint.

    ``holds`` is asked before each batch whether this process is still the one at work: it raises
    where it is not.
    """

    def __init__(
        self,
        pool: Pool,
        name: str,
        interests: Interests,
        follower: EventFollower,
        holds: Callable[[], Awaitable[Any]] | None,
    ) -> None:
        self._pool = pool
        self._name = name
        self._follower = follower
        self._holds = holds
        self._concern = interests.types
        self._types = (
            stored(interests.read),
            stored(interests.noted),
            stored(interests.marked),
            f"%{interests.mark}%",
        )
        self._saved: Checkpoint | None = None
        self._position = 0
        self._saved_at = time.monotonic()

    async def catch_up(self) -> None:
        """Read on to the last event there is.

        Raises ``DatabaseUnavailableError``, and ``CheckpointMovedError`` where another reader of
        this name is at work: this one then begins anew at the next call.
        """
        try:
            while await self._advance():
                pass
            behind = self._saved is not None and self._saved.position < self._position
            if behind and time.monotonic() >= self._saved_at + SAVE_SECONDS:
                await self._fold([], self._position)
        except BaseException:
            self._saved = None
            raise

    async def _advance(self) -> bool:
        """Take the next events; returns whether there may be more."""
        if self._holds is not None:
            await self._holds()
        async with acquire(self._pool) as connection:
            if self._saved is None:
                self._saved = await checkpoints.ensure(connection, self._name)
                self._position = self._saved.position
            rows = await connection.fetch(_READ, self._position, BATCH_EVENTS, *self._types)
        if not rows:
            return False
        position: int = rows[-1]["position"]
        batch = [each for each in map(recorded_event, rows) if each.type in self._concern]
        if batch:
            await self._follower.prepare(batch)
        if batch or position - self._saved.position >= KEPT_UNSAVED:
            await self._fold(batch, position)
        more = position - self._position >= BATCH_EVENTS
        self._position = position
        return more or bool(batch)

    async def _fold(self, batch: Sequence[RecordedEvent], position: int) -> None:
        assert self._saved is not None  # noqa: S101 (whoever folds has read)
        async with acquire(self._pool) as connection, connection.transaction():
            await checkpoints.lock_at(connection, self._name, self._saved)
            if batch:
                await self._follower.fold(connection, batch)
            await checkpoints.move(connection, self._name, position)
        self._saved = Checkpoint(position, self._saved.generation)
        self._saved_at = time.monotonic()


def stored(types: Iterable[str]) -> list[str]:
    """Every name that events of these types are stored under."""
    return [name for each in types for name in EVENT_TYPES.stored_names(each)]
