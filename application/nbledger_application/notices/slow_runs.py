"""Runs that take longer than usual: found while they go on, and told once."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from nbledger_application.notices.folding import decode_request, decode_runs
from nbledger_application.notices.telling import tell
from nbledger_domain.execution.usual_durations import SlowRule, Usual, span, usual
from nbledger_domain.notices import RunNotice, run_notice_id
from nbledger_infrastructure import clock
from nbledger_infrastructure.actors import NOTICES
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, Stream

log = structlog.get_logger(__name__)

PAGE: Final = 500

# Those that are claimed are few. A range of cells may take longer than the quickest one of its
# notebook, by which they are looked for: the rule has the last word.
_CANDIDATES: Final = """
SELECT
    q.execution_id, q.notebook_id, q.tenant_id, q.project_id, q.since, u.runs, asked.data,
    asked.metadata
FROM execution_queue AS q
JOIN usual_duration AS u ON u.notebook_id = q.notebook_id
JOIN event AS asked ON asked.stream_id = q.execution_id AND asked.version = 1
WHERE q.state = 'claimed' AND q.execution_id > $1 AND q.since < $2
    AND q.since < $3::timestamptz - make_interval(secs => $4 * u.least_high)
    AND asked.data IS NOT NULL AND q.execution_id <> ALL($5)
ORDER BY q.execution_id LIMIT $6
"""

_RUNS: Final = """
SELECT EXISTS (SELECT FROM execution_queue WHERE execution_id = $1 AND state = 'claimed')
"""

_STILL_CLAIMED: Final = """
SELECT execution_id FROM execution_queue WHERE state = 'claimed' AND execution_id = ANY($1)
"""

_decode_metadata = msgspec.json.Decoder(Metadata).decode


class SlowRun(msgspec.Struct, frozen=True):
    """A run that takes longer than ``threshold`` seconds, after what is ``usual``."""

    stream: Stream
    execution_id: UUID
    since: datetime
    seconds: float
    threshold: float
    usual: Usual
    asked: Metadata


class SlowRuns:
    """Finds runs that take longer than usual, and tells of them, each after a ``check``."""

    def __init__(
        self,
        pool: Pool,
        store: EventStore,
        rule: SlowRule,
        check: Callable[[], Awaitable[None]],
    ) -> None:
        self._check = check
        self._pool = pool
        self._store = store
        self._rule = rule
        # Of those that go on: the store would refuse to have them told again, at each look.
        self._told: set[UUID] = set()

    async def look(self, now: datetime) -> None:
        """Tell of each run that takes longer than usual by ``now``."""
        if not self._rule.factor:
            return
        if self._told:
            async with acquire(self._pool) as connection:
                rows = await connection.fetch(_STILL_CLAIMED, list(self._told))
            self._told = {row[0] for row in rows}
        beyond: UUID | None = UUID(int=0)
        while beyond is not None:
            found, beyond = await self._page(now, beyond)
            for run in found:
                await self._check()
                if await self._tell(run) is True:
                    self._told.add(run.execution_id)

    async def _page(self, now: datetime, beyond: UUID) -> tuple[list[SlowRun], UUID | None]:
        """The next slow runs, and after which one to go on; ``None`` when there are no more."""
        async with acquire(self._pool) as connection:
            rows: Sequence[Any] = await connection.fetch(
                _CANDIDATES,
                beyond,
                now - timedelta(seconds=self._rule.least_seconds),
                now,
                self._rule.factor,
                list(self._told),
                PAGE,
            )
        found = [run for row in rows if (run := self._judged(row, now)) is not None]
        return found, rows[-1]["execution_id"] if len(rows) == PAGE else None

    def _judged(self, row: Any, now: datetime) -> SlowRun | None:
        """The run in ``row`` where it is slow by the rule."""
        execution_id, notebook_id, tenant_id, project_id, since, runs, request, asked = row
        covered = span(decode_request(request).cell_range)
        known = usual(decode_runs(runs).get(covered, ()))
        threshold = self._rule.threshold(known)
        seconds = (now - since).total_seconds()
        if known is None or threshold is None or seconds <= threshold:
            return None
        stream = Stream(run_notice_id(execution_id), notebook_id, tenant_id, project_id)
        return SlowRun(
            stream, execution_id, since, seconds, threshold, known, _decode_metadata(asked)
        )

    async def _tell(self, run: SlowRun) -> bool | None:
        def make() -> RunNotice:
            return RunNotice.tell(
                run.execution_id,
                notebook_id=run.stream.subject_id,
                started_at=run.since,
                seconds=round(run.seconds, 3),
                threshold_seconds=round(run.threshold, 3),
                usual=run.usual,
                at=clock.now(),
            )

        async def goes_on() -> bool:
            async with acquire(self._pool) as connection:
                found: bool = await connection.fetchval(_RUNS, run.execution_id)
            return found

        told = await tell(
            self._store,
            self._pool,
            run.stream,
            make,
            metadata=Metadata(
                actor=NOTICES,
                correlation_id=run.asked.correlation_id or str(run.execution_id),
                traceparent=run.asked.traceparent,
                on_behalf_of=run.asked.responsible,
            ),
            holds_true=goes_on,
        )
        if told:
            log.info("run takes longer than usual", execution_id=str(run.execution_id))
        return told
