"""What the scheduler keeps of schedules and of their firings that are not over."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec
import structlog

from nbledger_domain.schedule import (
    CronError,
    Overlap,
    ScheduleSettings,
    ScheduleState,
    Trigger,
    firing_id_of,
)
from nbledger_domain.schedule.deciding import Standing, exhausted
from nbledger_infrastructure.postgres.database import PooledConnection

log = structlog.get_logger(__name__)

RunState = Literal["asked", "queued", "starting", "running"]

_decode_settings = msgspec.json.Decoder(ScheduleSettings).decode
_encode = msgspec.json.Encoder().encode


class ScheduleRow(msgspec.Struct):
    """A row of table ``schedule``."""

    schedule_id: UUID
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    settings: ScheduleSettings
    set_by: str
    state: ScheduleState
    cursor: datetime
    skip_through: datetime | None
    fires_at: datetime | None
    runs: int
    failures: int
    failing: bool
    overlap: Overlap

    def aim(self) -> None:
        """Find out when it fires next, and whether it fails too often."""
        most = self.settings.pause_after_failures
        self.failing = most is not None and self.failures >= most
        self.overlap = self.settings.overlap
        self.fires_at = None
        if self.state is not ScheduleState.ACTIVE:
            return
        if exhausted(self.settings, Standing(cursor=self.cursor, runs=self.runs)):
            return
        try:
            due = self.settings.first_after(self.cursor)
        except CronError as error:
            # A zone that whoever set it knew: this schedule must not hold up the others.
            log.warning("schedule not usable", schedule_id=str(self.schedule_id), reason=str(error))
            return
        if due is None or not self.settings.jitter_seconds:
            self.fires_at = due
        else:
            self.fires_at = self.settings.fires_at(firing_id_of(self.schedule_id, due), due)


class RunRow(msgspec.Struct):
    """A row of table ``schedule_run``."""

    firing_id: UUID
    schedule_id: UUID
    due_at: datetime
    trigger: Trigger
    state: RunState
    execution_id: UUID
    notebook_version: int | None
    asked_by: str | None
    position: int


SCHEDULE = ", ".join(ScheduleRow.__struct_fields__)
"""The columns of table ``schedule``, in the order that :func:`schedule_row` takes them."""

RUN = ", ".join(RunRow.__struct_fields__)
"""The columns of table ``schedule_run``, in the order of the struct."""

_SAVE_SCHEDULES = f"""
INSERT INTO schedule ({SCHEDULE})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::json[], $6::text[], $7::text[],
    $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::integer[], $12::integer[],
    $13::boolean[], $14::text[]
)
ON CONFLICT (schedule_id) DO UPDATE SET
    settings = excluded.settings, set_by = excluded.set_by, state = excluded.state,
    cursor = excluded.cursor, skip_through = excluded.skip_through, fires_at = excluded.fires_at,
    runs = excluded.runs, failures = excluded.failures, failing = excluded.failing,
    overlap = excluded.overlap
"""  # noqa: S608 (constants)

_SAVE_RUNS = f"""
INSERT INTO schedule_run ({RUN})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[], $6::uuid[], $7::integer[],
    $8::text[], $9::bigint[]
)
ON CONFLICT (firing_id) DO UPDATE SET
    trigger = excluded.trigger, state = excluded.state, execution_id = excluded.execution_id,
    notebook_version = excluded.notebook_version, asked_by = excluded.asked_by,
    position = excluded.position
"""  # noqa: S608 (constants)


def schedule_row(row: asyncpg.Record) -> ScheduleRow:
    """A row that was selected with ``SCHEDULE``."""
    values = dict(zip(ScheduleRow.__struct_fields__, row, strict=True))
    values["settings"] = _decode_settings(values["settings"])
    values["state"] = ScheduleState(values["state"])
    return ScheduleRow(**values)


async def load_schedules(
    connection: PooledConnection, schedule_ids: Iterable[UUID]
) -> dict[UUID, ScheduleRow]:
    """The rows that are there of these."""
    rows = await connection.fetch(
        f"SELECT {SCHEDULE} FROM schedule WHERE schedule_id = ANY($1)",  # noqa: S608 (constants)
        list(schedule_ids),
    )
    return {row[0]: schedule_row(row) for row in rows}


async def counted_runs(
    connection: PooledConnection, schedules: Mapping[UUID, ScheduleSettings]
) -> dict[UUID, int]:
    """How many firings of these schedules count as run, as far as the scheduler has read.

    Of one whose settings it has not read yet none does.
    """
    rows = await connection.fetch(
        "SELECT schedule_id, settings, runs FROM schedule WHERE schedule_id = ANY($1)",
        list(schedules),
    )
    return {
        row["schedule_id"]: row["runs"]
        for row in rows
        if _decode_settings(row["settings"]) == schedules[row["schedule_id"]]
    }


async def save_schedules(connection: PooledConnection, rows: Sequence[ScheduleRow]) -> None:
    """Write these rows."""
    if rows:
        await connection.execute(
            _SAVE_SCHEDULES,
            *(
                [_plain(getattr(row, name)) for row in rows]
                for name in ScheduleRow.__struct_fields__
            ),
        )


async def save_runs(
    connection: PooledConnection, rows: Sequence[RunRow], gone: Sequence[UUID]
) -> None:
    """Write these rows, and remove others."""
    if rows:
        await connection.execute(
            _SAVE_RUNS, *([getattr(row, name) for row in rows] for name in RunRow.__struct_fields__)
        )
    if gone:
        await connection.execute("DELETE FROM schedule_run WHERE firing_id = ANY($1)", gone)


def _plain(value: object) -> object:
    if isinstance(value, ScheduleSettings):
        return _encode(value).decode()
    return value.value if isinstance(value, ScheduleState) else value
