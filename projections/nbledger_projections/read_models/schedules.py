"""Schedules and what became of their firings, as the API lists them."""

from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.schedule import Firing, Schedule, ScheduleSettings, ScheduleState
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.folding import Change, Fold
from nbledger_projections.machinery.parts_of_notebooks import PartsProjection
from nbledger_projections.machinery.read_model import ReadModel
from nbledger_projections.read_models.humanize import timestamp

NAME: Final = "schedule_list"


class _Row(msgspec.Struct):
    """A row of the list."""

    schedule_id: UUID
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    created_position: int
    position: int
    state: str
    settings: ScheduleSettings


class FiringDocument(msgspec.Struct, rename="camel", kw_only=True):
    """What became of a firing; with `through` of every one from `dueAt` to that moment.

    `execution` is how its run is, where that is known.
    """

    firing_id: UUID
    due_at: str
    trigger: str
    outcome: str
    decided_at: str
    reason: str | UnsetType = UNSET
    through: str | UnsetType = UNSET
    count: int | UnsetType = UNSET
    execution_id: UUID | UnsetType = UNSET
    execution: "OutcomeDocument | UnsetType" = UNSET


class OutcomeDocument(msgspec.Struct, rename="camel", kw_only=True):
    """How the run of a firing is, or has ended."""

    status: str
    termination_code: str | UnsetType = UNSET


class ListedSchedule(msgspec.Struct, frozen=True):
    """A schedule in the list."""

    schedule_id: UUID
    notebook_id: UUID
    state: str
    settings: ScheduleSettings


class SchedulePage(msgspec.Struct, frozen=True):
    """A page of the list, newest first; ``position`` is the checkpoint of the projection."""

    schedules: list[ListedSchedule]
    total_count: int
    position: int


_decode_settings = msgspec.json.Decoder(ScheduleSettings).decode
_decode_firing = msgspec.json.Decoder(FiringDocument).decode
_decode_outcome = msgspec.json.Decoder(OutcomeDocument).decode
_encode = msgspec.json.Encoder().encode

_SAVE_FIRINGS: Final = """
INSERT INTO schedule_firing (
    firing_id, notebook_id, tenant_id, project_id, position, execution_id, document
)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::bigint[], $6::uuid[], $7::json[]
)
ON CONFLICT (firing_id) DO UPDATE SET
    position = excluded.position, execution_id = excluded.execution_id,
    document = excluded.document
"""

_DELETE_FIRINGS: Final = "DELETE FROM schedule_firing WHERE notebook_id = ANY($1)"

_PAGE: Final = """
SELECT
    (SELECT count(*) FROM schedule_list
     WHERE tenant_id = $1 AND project_id = $2 AND state <> 'removed') AS total,
    (SELECT position FROM projection_checkpoint WHERE name = $3) AS position
"""

_ITEMS: Final = """
SELECT schedule_id, notebook_id, state, settings FROM schedule_list
WHERE tenant_id = $1 AND project_id = $2 AND state <> 'removed'
ORDER BY created_position DESC LIMIT $3 OFFSET $4
"""

_FIRINGS: Final = """
SELECT f.document, s.document AS execution
FROM schedule_firing AS f
LEFT JOIN execution_status AS s ON s.execution_id = f.execution_id
WHERE f.tenant_id = $1 AND f.project_id = $2 AND f.notebook_id = $3
ORDER BY f.position DESC LIMIT $4
"""

_FIRED: Final = {
    event.TYPE for event in (Firing.Started, Firing.Queued, Firing.Skipped, Firing.Missed)
}


def _set(recorded: RecordedEvent, event: Schedule.Set) -> _Row:
    return _Row(
        recorded.stream_id,
        recorded.subject_id,
        recorded.tenant_id,
        recorded.project_id,
        recorded.position,
        recorded.position,
        ScheduleState.ACTIVE.value,
        event.settings,
    )


def _changed(row: _Row, _: RecordedEvent, event: Schedule.Changed) -> None:
    row.settings = event.settings
    if row.state != ScheduleState.PAUSED:
        row.state = ScheduleState.ACTIVE.value


def _becomes(state: ScheduleState) -> Change[_Row]:
    def change(row: _Row, _: RecordedEvent, __: object) -> None:
        row.state = state.value

    return change


def _moved(row: _Row, recorded: RecordedEvent) -> None:
    row.position = recorded.position


fold = Fold(
    Schedule.Set,
    _set,
    changes={
        Schedule.Changed.TYPE: _changed,
        Schedule.Paused.TYPE: _becomes(ScheduleState.PAUSED),
        Schedule.Resumed.TYPE: _becomes(ScheduleState.ACTIVE),
        Schedule.Ended.TYPE: _becomes(ScheduleState.ENDED),
        Schedule.Removed.TYPE: _becomes(ScheduleState.REMOVED),
    },
    always=_moved,
)


class SchedulesProjection(PartsProjection[_Row]):
    """Keeps the list, and what became of each firing beside it."""

    def __init__(self, model: ReadModel[_Row]) -> None:
        super().__init__(model, making=_FIRED)
        self._firings: dict[UUID, tuple[RecordedEvent, FiringDocument]] = {}

    def _tell(self, recorded: RecordedEvent) -> None:
        if recorded.type not in _FIRED:
            super()._tell(recorded)
        elif recorded.data is not None:  # or the deletion follows, or was before
            told = firing_document(recorded, decode(recorded))
            self._firings[recorded.stream_id] = (recorded, told)

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        await super().save(connection)
        if self._firings:
            told = list(self._firings.values())
            await connection.execute(
                _SAVE_FIRINGS,
                [recorded.stream_id for recorded, _ in told],
                [recorded.subject_id for recorded, _ in told],
                [recorded.tenant_id for recorded, _ in told],
                [recorded.project_id for recorded, _ in told],
                [recorded.position for recorded, _ in told],
                [document.execution_id or None for _, document in told],
                [_encode(document).decode() for _, document in told],
            )
        if self._gone:
            await connection.execute(_DELETE_FIRINGS, sorted(self._gone))

    def settle(self) -> None:
        """What was saved is committed."""
        super().settle()
        self._firings.clear()

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""
        super().reset()
        self._firings.clear()

    def _remove(self, notebook_id: UUID) -> None:
        super()._remove(notebook_id)
        self._firings = {
            key: told for key, told in self._firings.items() if told[0].subject_id != notebook_id
        }


MODEL = ReadModel(
    NAME,
    _Row,
    key="schedule_id",
    key_of=attrgetter("stream_id"),
    fold=fold,
    tables=("schedule_firing", NAME),
    projection=SchedulesProjection,
)


async def page(
    pool: Pool, tenant_id: UUID, project_id: UUID, *, page: int, page_size: int
) -> SchedulePage:
    """A page (counted from 1) of the project's schedules, newest first."""
    async with acquire(pool) as connection:
        row = await connection.fetchrow(_PAGE, tenant_id, project_id, NAME)
        items = await connection.fetch(
            _ITEMS, tenant_id, project_id, page_size, (page - 1) * page_size
        )
    assert row is not None  # noqa: S101 (a query of scalars has one row)
    return SchedulePage(
        [ListedSchedule(each[0], each[1], each[2], _decode_settings(each[3])) for each in items],
        row["total"],
        row["position"] or 0,
    )


async def firings(
    pool: Pool, tenant_id: UUID, project_id: UUID, notebook_id: UUID, *, limit: int
) -> list[FiringDocument]:
    """What became of the last firings of the notebook's schedule, the newest first."""
    async with acquire(pool) as connection:
        rows = await connection.fetch(_FIRINGS, tenant_id, project_id, notebook_id, limit)
    found: list[FiringDocument] = []
    for row in rows:
        document = _decode_firing(row["document"])
        if row["execution"] is not None:
            document.execution = _decode_outcome(row["execution"])
        found.append(document)
    return found


def firing_document(recorded: RecordedEvent, event: Any) -> FiringDocument:
    """What is told of a firing after this event of it."""
    through = getattr(event, "through", UNSET)
    return FiringDocument(
        firing_id=recorded.stream_id,
        due_at=timestamp(event.due_at),
        trigger=event.trigger,
        outcome=event.OUTCOME.value,
        decided_at=timestamp(recorded.occurred_at),
        reason=getattr(event, "reason", UNSET),
        through=UNSET if through is UNSET else timestamp(through),
        count=getattr(event, "count", UNSET),
        execution_id=getattr(event, "execution_id", UNSET),
    )
