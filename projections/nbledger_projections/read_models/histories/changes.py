"""What each event has changed: its aggregate is folded, and the states around it are compared."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog
from eventsourcing.domain import BaseAggregate

from nbledger_domain.histories import Changes, State, differences, state_of
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store.types import (
    COLUMNS,
    RecordedEvent,
    recorded_event,
)
from nbledger_projections.read_models.histories.entries import ChangedEntry, HistoryEntry
from nbledger_projections.read_models.histories.pages import RAW_BYTES

log = structlog.get_logger(__name__)

_WIDTH: Final = len(COLUMNS.split(", "))

BATCH: Final = 200
"""Events that are read at once on the way to those that are told."""

BATCH_BYTES: Final = 4 * 1024 * 1024
"""They end behind the event whose data passes so many bytes."""

FOLDED_EVENTS: Final = 10_000
"""So many events are folded for one page; each takes some 0.05 ms."""

FOLDED_BYTES: Final = 32 * 1024 * 1024
"""Nor is there an event folded behind the one whose data passes so many bytes."""

# Of each stream the events between two versions.
_FOLDED: Final = f"""
SELECT * FROM (
    SELECT {", ".join(f"e.{name}" for name in COLUMNS.split(", "))}, s.place, sum({RAW_BYTES})
        OVER (ORDER BY s.place, e.version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        AS bytes_before
    FROM unnest($1::uuid[], $2::integer[], $3::integer[])
        WITH ORDINALITY AS s (stream_id, after, last, place)
    JOIN event AS e ON e.stream_id = s.stream_id AND e.version > s.after AND e.version <= s.last
) AS measured
WHERE coalesce(bytes_before, 0) <= $4 ORDER BY place, version
"""  # noqa: S608 (constants)


async def with_changes(pool: Pool, entries: Sequence[HistoryEntry]) -> list[ChangedEntry]:
    """The events, each with what it has changed.

    For that their streams are folded from the beginning, those of the first entries first, as far
    as the bounds of a page go.
    """
    told: dict[UUID, set[int]] = {}
    for entry in entries:
        if not entry.erased:
            told.setdefault(entry.stream_id, set()).add(entry.version)
    found: dict[tuple[UUID, int], Changes | None] = {}
    folding = _Folding()
    async for recorded in _streams(pool, _within_bounds(told)):
        compared = recorded.version in told[recorded.stream_id]
        changes = folding.take(recorded, compared=compared)
        if compared:
            found[recorded.stream_id, recorded.version] = changes
    return [_changed(entry, found) for entry in entries]


def _within_bounds(told: Mapping[UUID, Collection[int]]) -> dict[UUID, int]:
    """Up to which version each stream is folded; it has as many events until then."""
    last: dict[UUID, int] = {}
    left = FOLDED_EVENTS
    for stream_id, versions in told.items():
        reached = max((version for version in versions if version <= left), default=0)
        if reached:
            last[stream_id] = reached
            left -= reached
    return last


def _changed(entry: HistoryEntry, found: Mapping[tuple[UUID, int], Changes | None]) -> ChangedEntry:
    fields: dict[str, Any] = {name: getattr(entry, name) for name in entry.__struct_fields__}
    place = entry.stream_id, entry.version
    changes = found.get(place)
    return ChangedEntry(
        **fields,
        changes=None if changes is None else changes.fields,
        changes_omitted=changes.omitted if changes and changes.omitted else msgspec.UNSET,
        changes_unavailable=msgspec.UNSET if entry.erased or place in found else "too_much_before",
    )


async def _streams(pool: Pool, last: Mapping[UUID, int]) -> AsyncIterator[RecordedEvent]:
    """The events of streams up to these versions, a stream after the other, in order."""
    waiting = [(stream_id, 0, version) for stream_id, version in last.items()]
    left = FOLDED_BYTES
    while waiting and left >= 0:
        wanted = _batch(waiting)
        async with acquire(pool) as connection:
            rows = await connection.fetch(
                _FOLDED, *map(list, zip(*wanted, strict=True)), min(left, BATCH_BYTES)
            )
        if not rows:
            return
        for row in rows:
            recorded = recorded_event(tuple(row)[:_WIDTH])
            left -= len(recorded.data or b"")
            yield recorded
        done, version = rows[-1]["stream_id"], rows[-1]["version"]
        place = next(at for at, each in enumerate(waiting) if each[0] == done)
        rest = [] if version == waiting[place][2] else [(done, version, waiting[place][2])]
        waiting = rest + waiting[place + 1 :]


def _batch(waiting: Sequence[tuple[UUID, int, int]]) -> list[tuple[UUID, int, int]]:
    """The first of these ranges of versions, with as many events as are read at once."""
    found: list[tuple[UUID, int, int]] = []
    left = BATCH
    for stream_id, after, last in waiting:
        if left <= 0:
            break
        found.append((stream_id, after, min(last, after + left)))
        left -= last - after
    return found


class _Folding:
    """One aggregate at a time, and its state where that has been looked at."""

    def __init__(self) -> None:
        self._stream_id: UUID | None = None
        self._aggregate: BaseAggregate[UUID] | None = None
        self._state: State | None = None
        self._lost = False

    def take(self, recorded: RecordedEvent, *, compared: bool) -> Changes | None:
        """Apply an event; what it has changed if it is ``compared`` and that can be told."""
        if recorded.stream_id != self._stream_id:
            self._stream_id, self._aggregate, self._state = recorded.stream_id, None, None
            self._lost = False
        if self._lost or not self._readable(recorded):
            self._lost = True
            return None
        before = self._state
        if compared and before is None and self._aggregate is not None:
            before = state_of(self._aggregate)
        self._apply(recorded)
        if not compared or self._aggregate is None:
            self._state = None
            return None
        self._state = state_of(self._aggregate)
        return differences(before, self._state)

    def _readable(self, recorded: RecordedEvent) -> bool:
        """Whether the event can be applied: its data is there, and so is what is before it."""
        first = self._aggregate is None
        return recorded.data is not None and first == (recorded.version == 1)

    def _apply(self, recorded: RecordedEvent) -> None:
        try:
            event = decode(recorded)
            self._aggregate = None if event is None else event.mutate(self._aggregate)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with an event, it is told)
            log.warning("event not applied", position=recorded.position, error=type(error).__name__)
            self._aggregate = None
        self._lost = self._aggregate is None
