"""What each event has changed: its aggregate is folded, and the states around it are compared."""

from collections.abc import AsyncIterator, Sequence
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

log = structlog.get_logger(__name__)

BATCH: Final = 200
"""Events that are read at once on the way to those that are told."""

# By streams, each up to the last version that is told of it.
_FOLDED: Final = f"""
SELECT {", ".join(f"e.{name}" for name in COLUMNS.split(", "))}
FROM unnest($1::uuid[], $2::integer[]) AS s (stream_id, last)
JOIN event AS e ON e.stream_id = s.stream_id AND e.version <= s.last
WHERE (e.stream_id, e.version) > ($3, $4)
ORDER BY e.stream_id, e.version LIMIT $5
"""  # noqa: S608 (constants)


async def with_changes(pool: Pool, entries: Sequence[HistoryEntry]) -> list[ChangedEntry]:
    """The events, each with what it has changed; the whole streams up to them are read."""
    told: dict[UUID, set[int]] = {}
    for entry in entries:
        if not entry.erased:
            told.setdefault(entry.stream_id, set()).add(entry.version)
    found: dict[tuple[UUID, int], Changes] = {}
    folding = _Folding()
    async for recorded in _streams(pool, {each: max(told[each]) for each in told}):
        changes = folding.take(recorded, compared=recorded.version in told[recorded.stream_id])
        if changes is not None:
            found[recorded.stream_id, recorded.version] = changes
    return [_changed(entry, found.get((entry.stream_id, entry.version))) for entry in entries]


def _changed(entry: HistoryEntry, changes: Changes | None) -> ChangedEntry:
    fields: dict[str, Any] = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return ChangedEntry(
        **fields,
        changes=None if changes is None else changes.fields,
        changes_omitted=changes.omitted if changes and changes.omitted else msgspec.UNSET,
    )


async def _streams(pool: Pool, last: dict[UUID, int]) -> AsyncIterator[RecordedEvent]:
    """The events of streams up to these versions, a stream after the other, in order."""
    place = UUID(int=0), 0
    streams = list(last), list(last.values())
    while last:
        async with acquire(pool) as connection:
            rows = await connection.fetch(_FOLDED, *streams, *place, BATCH)
        for row in rows:
            yield recorded_event(row)
        if len(rows) < BATCH:
            return
        place = rows[-1]["stream_id"], rows[-1]["version"]


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
