"""From events to the rows that notices are decided by."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from nbledger_application.following import Interests
from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.execution import Cause, CellRange, Execution, TerminationCode
from nbledger_domain.execution.usual_durations import Runs, least_high, remember, span
from nbledger_domain.notebook import Notebook
from nbledger_domain.notices import (
    AutomationNotice,
    KernelNotice,
    ScheduleNotice,
    automation_id_of,
)
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import RecordedEvent

NAME: Final = "notices"
"""Under this name the manager of notices keeps its checkpoint."""

_FAILED: Final = frozenset(
    event.TYPE for event in (Execution.Failed, Execution.TimedOut, Execution.KernelDied)
)
_ENDED: Final = frozenset({Execution.Completed.TYPE, *_FAILED})
_FAILING: Final = frozenset({ScheduleNotice.Failing.TYPE, AutomationNotice.Failing.TYPE})
_AUTOMATIC: Final = frozenset({"dataset", "cells"})
"""Causes of automatic runs."""

INTERESTS: Final = Interests(
    read=(
        Execution.Failed.TYPE,
        Execution.TimedOut.TYPE,
        ScheduleNotice.Failing.TYPE,
        AutomationNotice.Failing.TYPE,
        KernelNotice.Unavailable.TYPE,
        KernelNotice.Available.TYPE,
    ),
    noted=(Execution.Completed.TYPE, Execution.KernelDied.TYPE, Notebook.Deleted.TYPE),
    marked=(),
    mark="",
)

# The last claim is that of the attempt that came to the end.
_FACTS: Final = """
SELECT asked.stream_id, asked.data, claimed.occurred_at, asked.subject_id
FROM event AS asked
LEFT JOIN LATERAL (
    SELECT e.occurred_at FROM event AS e
    WHERE e.stream_id = asked.stream_id AND e.type = ANY($2)
    ORDER BY e.version DESC LIMIT 1
) AS claimed ON true
WHERE asked.stream_id = ANY($1) AND asked.version = 1 AND asked.data IS NOT NULL
"""
_CLAIMED: Final = EVENT_TYPES.stored_names(Execution.Claimed.TYPE)

_SAVE_USUAL: Final = """
INSERT INTO usual_duration (notebook_id, runs, least_high)
SELECT * FROM unnest($1::uuid[], $2::json[], $3::double precision[])
ON CONFLICT (notebook_id) DO UPDATE SET runs = excluded.runs, least_high = excluded.least_high
"""

_SAVE_OUTAGES: Final = """
INSERT INTO kernel_outage (notice_id, tenant_id, project_id, kernel_type, since)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[])
ON CONFLICT (notice_id) DO UPDATE SET since = excluded.since
"""


class AskedRun(msgspec.Struct, rename="camel"):
    """What notices have to know of a request to execute."""

    cell_range: CellRange | None = None
    cause: Cause | None = None


class FailingRow(msgspec.Struct):
    """A row of table ``failing_schedule``: of a schedule, or of a notebook's automatic execution.

    The latter goes by an id of its own, see :func:`automation_id_of`.
    """

    schedule_id: UUID
    notebook_id: UUID
    tenant_id: UUID
    project_id: UUID
    failures: int
    needed: int
    since: datetime
    first_execution_id: UUID
    last_execution_id: UUID
    termination_code: str
    told: bool


FAILING: Final = ", ".join(FailingRow.__struct_fields__)
"""The columns of table ``failing_schedule``, in the order of the struct."""

_SAVE_FAILING: Final = f"""
INSERT INTO failing_schedule ({FAILING})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::integer[], $6::integer[],
    $7::timestamptz[], $8::uuid[], $9::uuid[], $10::text[], $11::boolean[]
)
ON CONFLICT (schedule_id) DO UPDATE SET
    failures = excluded.failures, needed = excluded.needed, since = excluded.since,
    first_execution_id = excluded.first_execution_id,
    last_execution_id = excluded.last_execution_id,
    termination_code = excluded.termination_code, told = excluded.told
"""  # noqa: S608 (constants)


class _Pausing(msgspec.Struct, rename="camel"):
    """What the settings of a schedule say of failures."""

    pause_after_failures: int | None = None


class _Fact(msgspec.Struct):
    """What is known of a run that has ended; ``claimed_at`` of its last attempt, if it had one."""

    request: AskedRun
    claimed_at: datetime | None
    notebook_id: UUID

    @property
    def is_automatic(self) -> bool:
        return self.request.cause is not None and self.request.cause.kind in _AUTOMATIC

    @property
    def schedule_id(self) -> UUID | None:
        """The schedule that the run is of, or what it is that of automatic runs."""
        if self.is_automatic:
            return automation_id_of(self.notebook_id)
        return None if self.request.cause is None else self.request.cause.schedule_id


decode_request = msgspec.json.Decoder(AskedRun).decode
decode_runs = msgspec.json.Decoder(dict[str, list[float]]).decode
_decode_pausing = msgspec.json.Decoder(_Pausing).decode
_encode = msgspec.json.Encoder().encode


class NoticeFollower:
    """What becomes of the events that concern notices.

    ``failures`` in a row are told of a schedule that does not say after how many it pauses.
    """

    def __init__(self, *, failures: int) -> None:
        self._failures = failures

    async def prepare(self, batch: Sequence[RecordedEvent]) -> None:
        """Nothing is to be done beforehand."""

    async def fold(self, connection: PooledConnection, batch: Sequence[RecordedEvent]) -> None:
        """Let the rows be as ``batch`` says."""
        rows = _Rows(self._failures)
        await rows.load(connection, batch)
        for recorded in batch:
            rows.apply(recorded)
        await rows.save(connection)


class _Rows:
    """The rows that a batch of events changes."""

    def __init__(self, failures: int) -> None:
        self._failures = failures
        self._facts: dict[UUID, _Fact] = {}
        self._needed: dict[UUID, int] = {}
        self._usual: dict[UUID, Runs] = {}
        self._changed: set[UUID] = set()
        self._failing: dict[UUID, FailingRow] = {}
        self._over: set[UUID] = set()
        self._outages: dict[UUID, RecordedEvent] = {}
        self._available: set[UUID] = set()
        self._gone: set[UUID] = set()

    async def load(self, connection: PooledConnection, batch: Sequence[RecordedEvent]) -> None:
        """Bring what ``batch`` concerns into memory."""
        ended = [each.stream_id for each in batch if each.type in _ENDED]
        if ended:
            for row in await connection.fetch(_FACTS, ended, _CLAIMED):
                self._facts[row[0]] = _Fact(decode_request(row[1]), row[2], row[3])
        completed = {each.subject_id for each in batch if each.type == Execution.Completed.TYPE}
        if completed:
            found = await connection.fetch(
                "SELECT notebook_id, runs FROM usual_duration WHERE notebook_id = ANY($1)",
                sorted(completed),
            )
            self._usual = {row[0]: decode_runs(row[1]) for row in found}
        schedules = {fact.schedule_id for fact in self._facts.values()} - {None}
        schedules |= {series_id for series_id, _ in _told(batch)}
        if schedules:
            await self._load_schedules(connection, list(schedules))
        automatic = {fact.notebook_id for fact in self._facts.values() if fact.is_automatic}
        if automatic:
            await self._load_automatic(connection, sorted(automatic))

    async def _load_schedules(
        self, connection: PooledConnection, schedule_ids: Sequence[UUID | None]
    ) -> None:
        found = await connection.fetch(
            f"SELECT {FAILING} FROM failing_schedule WHERE schedule_id = ANY($1)",  # noqa: S608
            schedule_ids,
        )
        self._failing = {row[0]: FailingRow(*row) for row in found}
        for row in await connection.fetch(
            "SELECT schedule_id, settings FROM schedule WHERE schedule_id = ANY($1)", schedule_ids
        ):
            own = _decode_pausing(row[1]).pause_after_failures
            self._needed[row[0]] = self._failures if own is None else own

    async def _load_automatic(
        self, connection: PooledConnection, notebook_ids: Sequence[UUID]
    ) -> None:
        """Those that still run by themselves are told of."""
        for row in await connection.fetch(
            "SELECT notebook_id FROM automation WHERE notebook_id = ANY($1)", notebook_ids
        ):
            self._needed[automation_id_of(row[0])] = self._failures

    def apply(self, recorded: RecordedEvent) -> None:
        """Fold one event."""
        if recorded.type in _ENDED:
            fact = self._facts.get(recorded.stream_id)
            if fact is not None:
                self._ended(recorded, fact)
        elif recorded.type == Notebook.Deleted.TYPE:
            self._delete(recorded.subject_id)
        elif recorded.type == KernelNotice.Unavailable.TYPE:
            self._outages[recorded.stream_id] = recorded
            self._available.discard(recorded.stream_id)
        elif recorded.type == KernelNotice.Available.TYPE:
            self._outages.pop(recorded.stream_id, None)
            self._available.add(recorded.stream_id)
        else:
            for series_id, first_execution_id in _told([recorded]):
                row = self._failing.get(series_id)
                if row is not None and row.first_execution_id == first_execution_id:
                    row.told = True

    def _ended(self, recorded: RecordedEvent, fact: _Fact) -> None:
        if recorded.type != Execution.Completed.TYPE:
            if fact.schedule_id is not None:
                self._fail(recorded, fact.schedule_id)
            return
        if fact.schedule_id is not None:
            self._failing.pop(fact.schedule_id, None)
            self._over.add(fact.schedule_id)
        if fact.claimed_at is not None:
            seconds = max((recorded.occurred_at - fact.claimed_at).total_seconds(), 0.0)
            notebook_id = recorded.subject_id
            self._usual[notebook_id] = remember(
                self._usual.get(notebook_id, {}), span(fact.request.cell_range), round(seconds, 3)
            )
            self._changed.add(notebook_id)

    def _fail(self, recorded: RecordedEvent, schedule_id: UUID) -> None:
        needed = self._needed.get(schedule_id)
        if needed is None:
            return  # its notebook is deleted, or does not run by itself any more
        code = _termination(recorded)
        row = self._failing.get(schedule_id)
        if row is None:
            self._over.discard(schedule_id)
            self._failing[schedule_id] = FailingRow(
                schedule_id=schedule_id,
                notebook_id=recorded.subject_id,
                tenant_id=recorded.tenant_id,
                project_id=recorded.project_id,
                failures=1,
                needed=needed,
                since=recorded.occurred_at,
                first_execution_id=recorded.stream_id,
                last_execution_id=recorded.stream_id,
                termination_code=code,
                told=False,
            )
            return
        row.failures += 1
        row.needed = needed
        row.last_execution_id, row.termination_code = recorded.stream_id, code

    def _delete(self, notebook_id: UUID) -> None:
        self._gone.add(notebook_id)
        self._usual.pop(notebook_id, None)
        self._changed.discard(notebook_id)
        for row in [each for each in self._failing.values() if each.notebook_id == notebook_id]:
            del self._failing[row.schedule_id]

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        if self._changed:
            changed = [(key, self._usual[key]) for key in sorted(self._changed)]
            await connection.execute(
                _SAVE_USUAL,
                [key for key, _ in changed],
                [_encode(runs).decode() for _, runs in changed],
                [least_high(runs) for _, runs in changed],
            )
        if self._over:
            await connection.execute(
                "DELETE FROM failing_schedule WHERE schedule_id = ANY($1)", sorted(self._over)
            )
        if self._failing:
            failing = self._failing.values()
            columns = ([getattr(row, each) for row in failing] for each in _COLUMNS)
            await connection.execute(_SAVE_FAILING, *columns)
        await self._save_outages(connection)
        if self._gone:
            gone = sorted(self._gone)
            await connection.execute("DELETE FROM usual_duration WHERE notebook_id = ANY($1)", gone)
            await connection.execute(
                "DELETE FROM failing_schedule WHERE notebook_id = ANY($1)", gone
            )

    async def _save_outages(self, connection: PooledConnection) -> None:
        if self._available:
            await connection.execute(
                "DELETE FROM kernel_outage WHERE notice_id = ANY($1)", sorted(self._available)
            )
        told = [(each, decode(each)) for each in self._outages.values()]
        if told:
            await connection.execute(
                _SAVE_OUTAGES,
                [recorded.stream_id for recorded, _ in told],
                [recorded.tenant_id for recorded, _ in told],
                [recorded.project_id for recorded, _ in told],
                [getattr(event, "kernel_type", "") for _, event in told],
                [getattr(event, "since", None) for _, event in told],
            )


_COLUMNS: Final = FailingRow.__struct_fields__


def _told(batch: Iterable[RecordedEvent]) -> list[tuple[UUID, UUID]]:
    """Which series, each with its first run, these events tell of that are not erased."""
    found: list[tuple[UUID, UUID]] = []
    for recorded in batch:
        if recorded.type not in _FAILING:
            continue
        event = decode(recorded)
        if isinstance(event, ScheduleNotice.Failing):
            found.append((event.schedule_id, event.first_execution_id))
        elif isinstance(event, AutomationNotice.Failing):
            found.append((automation_id_of(event.notebook_id), event.first_execution_id))
    return found


def _termination(recorded: RecordedEvent) -> str:
    """How a run that failed has ended."""
    event = decode(recorded) if recorded.type != Execution.KernelDied.TYPE else None
    if isinstance(event, Execution.Failed | Execution.TimedOut):
        return event.reason.value
    return TerminationCode.KERNEL_DIED.value
