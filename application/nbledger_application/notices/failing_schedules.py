"""Schedules and automatic runs that fail one after the other: told once for each series."""

from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from nbledger_application.notices.folding import FAILING, FailingRow
from nbledger_application.notices.telling import tell
from nbledger_domain.execution import TerminationCode
from nbledger_domain.notebook import Notebook
from nbledger_domain.notices import (
    AutomationNotice,
    ScheduleNotice,
    automation_id_of,
    automation_notice_id,
    schedule_notice_id,
)
from nbledger_infrastructure import aggregates, clock
from nbledger_infrastructure.actors import NOTICES
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, Stream

log = structlog.get_logger(__name__)

PAGE: Final = 500

TO_TELL: Final = "NOT told AND needed > 0 AND failures >= needed"
"""Condition for the schedules to tell of."""

_TO_TELL: Final = f"""
SELECT {FAILING} FROM failing_schedule WHERE {TO_TELL} ORDER BY schedule_id LIMIT $1
"""  # noqa: S608 (constants)


_SERIES: Final = f"SELECT {FAILING} FROM failing_schedule WHERE schedule_id = $1"  # noqa: S608


async def series(pool: Pool, schedule_id: UUID) -> FailingRow | None:
    """The failures that the last run of a schedule ends; ``None`` where it has not failed."""
    async with acquire(pool) as connection:
        row = await connection.fetchrow(_SERIES, schedule_id)
    return None if row is None else FailingRow(*row)


async def look(pool: Pool, store: EventStore, check: Callable[[], Awaitable[None]]) -> None:
    """Tell of each schedule that has failed so often, after a ``check``.

    That it is told is then found by reading.
    """
    async with acquire(pool) as connection:
        rows = [FailingRow(*row) for row in await connection.fetch(_TO_TELL, PAGE)]
    for row in rows:
        await check()
        if await _tell(pool, store, row):
            log.info("runs fail in a row", schedule_id=str(row.schedule_id), failures=row.failures)


async def _tell(pool: Pool, store: EventStore, row: FailingRow) -> bool | None:
    is_automatic = row.schedule_id == automation_id_of(row.notebook_id)

    def make() -> ScheduleNotice | AutomationNotice:
        facts: dict[str, Any] = {
            "failures": row.failures,
            "since": row.since,
            "first_execution_id": row.first_execution_id,
            "last_execution_id": row.last_execution_id,
            "termination_code": msgspec.convert(row.termination_code, TerminationCode),
            "at": clock.now(),
        }
        if is_automatic:
            return AutomationNotice.tell(row.notebook_id, **facts)
        return ScheduleNotice.tell(row.schedule_id, notebook_id=row.notebook_id, **facts)

    async def is_there() -> bool:
        loaded = await aggregates.load(store, Notebook, row.notebook_id)
        return loaded is not None and not loaded.aggregate.deleted

    return await tell(
        store,
        pool,
        Stream(
            automation_notice_id(row.notebook_id, row.first_execution_id)
            if is_automatic
            else schedule_notice_id(row.schedule_id, row.first_execution_id),
            row.notebook_id,
            row.tenant_id,
            row.project_id,
        ),
        make,
        metadata=Metadata(actor=NOTICES, correlation_id=str(row.schedule_id)),
        holds_true=is_there,
    )
