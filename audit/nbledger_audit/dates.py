"""Dates that cannot be: of events that are dated back.

An event is recorded after those before it, and after the last time at which somebody outside has
seen the log without it. Whoever checks the log finds what is not so; here it is told at once.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog

from nbledger_audit import stamps
from nbledger_audit.entries import Recorded
from nbledger_domain.transparency.entries import moment
from nbledger_infrastructure.postgres.database import PooledConnection

log = structlog.get_logger(__name__)

_RECORDED: Final = "SELECT recorded_at FROM event WHERE position = $1"


class Dates:
    """Looks at the dates of events that are about to be entered in their logs.

    ``skew_seconds`` is by how much clocks may differ, with the time from the signing of a
    checkpoint to its stamp.
    """

    def __init__(self, skew_seconds: float) -> None:
        self._skew = timedelta(seconds=skew_seconds)
        self._last: str | None = None

    async def check(
        self, connection: PooledConnection, position: int, events: Sequence[Recorded]
    ) -> None:
        """Tell of events after ``position`` whose dates cannot be."""
        if self._last is None:
            before = await connection.fetchval(_RECORDED, position)
            self._last = "" if before is None else moment(before)
        seen = await stamps.newest(connection, {event.tenant_id for event in events})
        earliest = {tenant_id: moment(at - self._skew) for tenant_id, at in seen.items()}
        for event in events:
            recorded: str = event.envelope["recorded_at"]
            if recorded < self._last:
                self._tell("an event is dated before one before it", event, self._last)
            elif recorded < (bound := earliest.get(event.tenant_id, "")):
                self._tell("an event is dated before a checkpoint without it", event, bound)
            self._last = max(self._last, recorded)

    def _tell(self, what: str, event: Recorded, not_before: str) -> None:
        log.error(
            what,
            tenant_id=str(event.tenant_id),
            position=event.position,
            recorded_at=event.envelope["recorded_at"],
            not_before=not_before,
        )
