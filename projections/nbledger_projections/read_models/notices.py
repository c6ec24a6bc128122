"""Notices, as the API lists them: what the service has told by itself of a project."""

from collections.abc import Callable
from typing import Any, Final, Literal
from uuid import UUID, uuid5

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.notices import AutomationNotice, KernelNotice, RunNotice, ScheduleNotice
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.documents import Page
from nbledger_projections.machinery.folding import Fold
from nbledger_projections.machinery.parts_of_notebooks import PartsProjection
from nbledger_projections.machinery.read_model import ReadModel
from nbledger_projections.read_models.humanize import duration, timestamp

NAME: Final = "notice_list"

NoticeKind = Literal["runSlow", "scheduleFailing", "automationFailing", "kernelUnavailable"]


class UsualDocument(msgspec.Struct, rename="camel"):
    """How long the last completed runs of the same cells took: the middle half of so many."""

    runs: int
    low_seconds: float
    high_seconds: float


class SlowRunDocument(msgspec.Struct, rename="camel"):
    """A run had taken so many seconds when it was told of, and was to take at most the threshold.

    Both count from `startedAt`, when a worker took it.
    """

    started_at: str
    seconds: float
    threshold_seconds: float
    usual: UsualDocument


class FailingRunsDocument(msgspec.Struct, rename="camel"):
    """So many runs had failed in a row, of a schedule or of a notebook that runs by itself.

    `terminationCode` is that of the last one.
    """

    failures: int
    since: str
    first_execution_id: UUID
    last_execution_id: UUID
    termination_code: str


class KernelOutageDocument(msgspec.Struct, rename="camel"):
    """No worker offered a kernel type for which so many runs of the project waited.

    `since` is when that was noticed, and `waitingSince` when the first of the runs was asked for.
    `overAt` is there once it is over; `overReason` is worker_alive, or nothing_waits.
    """

    waiting: int
    waiting_since: str
    since: str
    over_at: str | UnsetType = UNSET
    over_reason: str | UnsetType = UNSET


class NoticeDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A notice; `run`, `schedule`, `automation` or `kernel` has the facts of its `kind`.

    `text` says it in words.

    `noticeId` is the stream of its events, and `position` where in the store it was told.
    """

    notice_id: UUID
    kind: NoticeKind
    told_at: str
    position: int
    text: str
    notebook_id: UUID | UnsetType = UNSET
    execution_id: UUID | UnsetType = UNSET
    schedule_id: UUID | UnsetType = UNSET
    kernel_type: str | UnsetType = UNSET
    run: SlowRunDocument | UnsetType = UNSET
    schedule: FailingRunsDocument | UnsetType = UNSET
    automation: FailingRunsDocument | UnsetType = UNSET
    kernel: KernelOutageDocument | UnsetType = UNSET


class _Row(msgspec.Struct):
    """A row of the list."""

    told_id: UUID
    subject_id: UUID
    tenant_id: UUID
    project_id: UUID
    position: int
    kind: str
    document: NoticeDocument


_PAGE: Final = """
SELECT
    (SELECT count(*) FROM notice_list
     WHERE tenant_id = $1 AND project_id = $2 AND ($3::text IS NULL OR kind = $3)) AS total,
    (SELECT position FROM projection_checkpoint WHERE name = $6) AS position,
    ARRAY(
        SELECT document FROM notice_list
        WHERE tenant_id = $1 AND project_id = $2 AND ($3::text IS NULL OR kind = $3)
        ORDER BY position DESC LIMIT $4 OFFSET $5
    ) AS documents
"""


def slow_run(event: RunNotice.Slow) -> SlowRunDocument:
    """The facts of a slow run."""
    known = event.usual
    return SlowRunDocument(
        timestamp(event.started_at),
        event.seconds,
        event.threshold_seconds,
        UsualDocument(known.runs, known.low, known.high),
    )


def slow_run_text(event: RunNotice.Slow) -> str:
    """A slow run in words."""
    known = event.usual
    return (
        f"The run takes longer than usual: more than {duration(event.threshold_seconds)} "
        f"({duration(event.seconds)} when it was noticed). The middle half of the last "
        f"{known.runs} completed runs took {duration(known.low)} to {duration(known.high)}."
    )


def _run(event: RunNotice.Slow) -> dict[str, Any]:
    return {
        "kind": "runSlow",
        "text": slow_run_text(event),
        "notebook_id": event.notebook_id,
        "execution_id": event.execution_id,
        "run": slow_run(event),
    }


def _schedule(event: ScheduleNotice.Failing) -> dict[str, Any]:
    return {
        "kind": "scheduleFailing",
        "text": f"The schedule fails: {_failed_in_a_row(event)}",
        "notebook_id": event.notebook_id,
        "schedule_id": event.schedule_id,
        "schedule": _failing_runs(event),
    }


def _automation(event: AutomationNotice.Failing) -> dict[str, Any]:
    return {
        "kind": "automationFailing",
        "text": f"Automatic execution fails: {_failed_in_a_row(event)}",
        "notebook_id": event.notebook_id,
        "automation": _failing_runs(event),
    }


def _failed_in_a_row(event: ScheduleNotice.Failing | AutomationNotice.Failing) -> str:
    runs = "run has" if event.failures == 1 else "runs have"
    return f"{event.failures} {runs} failed in a row, the last with {event.termination_code}."


def _failing_runs(event: ScheduleNotice.Failing | AutomationNotice.Failing) -> FailingRunsDocument:
    return FailingRunsDocument(
        event.failures,
        timestamp(event.since),
        event.first_execution_id,
        event.last_execution_id,
        event.termination_code,
    )


def _kernel(event: KernelNotice.Unavailable) -> dict[str, Any]:
    runs = "1 run waits" if event.waiting == 1 else f"{event.waiting} runs wait"
    return {
        "kind": "kernelUnavailable",
        "text": f"No worker offers the kernel type {event.kernel_type}: {runs} for it.",
        "kernel_type": event.kernel_type,
        "kernel": KernelOutageDocument(
            event.waiting, timestamp(event.waiting_since), timestamp(event.since)
        ),
    }


_TELLING: Final[dict[str, Callable[[Any], dict[str, Any]]]] = {
    RunNotice.Slow.TYPE: _run,
    ScheduleNotice.Failing.TYPE: _schedule,
    AutomationNotice.Failing.TYPE: _automation,
    KernelNotice.Unavailable.TYPE: _kernel,
}


class _NoticeFold(Fold[_Row]):
    """Of the types of notices each makes a row; one ends that of an outage."""

    def __init__(self) -> None:
        super().__init__(RunNotice.Slow, _told)
        self.types = frozenset({*_TELLING, KernelNotice.Available.TYPE})

    def __call__(self, row: _Row | None, recorded: RecordedEvent, **_: Any) -> _Row | None:
        if recorded.data is None:
            return row  # erased: the deletion follows
        event = decode(recorded)
        if recorded.type in _TELLING:
            return _told(recorded, event)
        if row is not None and isinstance(event, KernelNotice.Available):
            kernel = row.document.kernel
            assert kernel is not UNSET  # noqa: S101 (it is of the same stream)
            kernel.over_at, kernel.over_reason = timestamp(event.timestamp), event.reason
        return row


def _told(recorded: RecordedEvent, event: Any) -> _Row:
    facts = _TELLING[recorded.type](event)
    return _Row(
        _key(recorded),
        recorded.subject_id,
        recorded.tenant_id,
        recorded.project_id,
        recorded.position,
        facts["kind"],
        NoticeDocument(
            notice_id=recorded.stream_id,
            told_at=timestamp(recorded.occurred_at),
            position=recorded.position,
            **facts,
        ),
    )


def _key(recorded: RecordedEvent) -> UUID:
    """The row that an event is about: an outage begins with one, and ends with the next."""
    begins = recorded.version - (recorded.type == KernelNotice.Available.TYPE)
    return uuid5(recorded.stream_id, str(begins))


class NoticesProjection(PartsProjection[_Row]):
    """Keeps the list; what is told of a notebook goes with it."""

    NOTEBOOK = "subject_id"

    def __init__(self, model: ReadModel[_Row]) -> None:
        super().__init__(model, making=_TELLING)


MODEL = ReadModel(
    NAME,
    _Row,
    key="told_id",
    key_of=_key,
    fold=_NoticeFold(),
    projection=NoticesProjection,
)


async def page(
    pool: Pool,
    tenant_id: UUID,
    project_id: UUID,
    kind: NoticeKind | None,
    *,
    page: int,
    page_size: int,
) -> Page:
    """A page (counted from 1) of the project's notices, newest first."""
    async with acquire(pool) as connection:
        row = await connection.fetchrow(
            _PAGE, tenant_id, project_id, kind, page_size, (page - 1) * page_size, NAME
        )
    assert row is not None  # noqa: S101 (a query of scalars has one row)
    return Page(
        [document.encode() for document in row["documents"]], row["total"], row["position"] or 0
    )
