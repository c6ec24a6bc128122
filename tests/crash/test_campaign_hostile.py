"""Hostile notebooks, some at once, on a worker as it is by default: none gets anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import uuid4

import pytest
from support import hostile
from support.campaigns import Tally, conclude, times
from support.executions import make_settings, stage
from support.hostile_grounds import grounds, printed
from support.workers import worker_process

from nbledger_workers.kernel.standalone.isolation import Isolation, can_close_ports
from nbledger_workers.kernel.standalone.isolation_probe import available

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=180, ci=300, full=1800)),
    pytest.mark.skipif(
        available(Isolation(level="namespaces")) is not None or not can_close_ports(),
        reason="this machine does not offer all isolation",
    ),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

NOTEBOOKS = times(small=4, ci=20, full=400)
_AT_ONCE = 4
_BOUND_SECONDS = 120.0


async def test_hostile_notebooks_get_nothing(
    database_dsn: str,
    kafka: str,
    topic_prefix: str,
    record_property: Callable[[str, object], None],
) -> None:
    tally = Tally("hostile notebooks", _BOUND_SECONDS, record_property)
    with grounds() as around:
        base = make_settings(database_dsn, kafka, topic_prefix, around.home)
        settings = around.settings(base)
        async with stage(base) as scene, worker_process(settings, str(uuid4())) as worker:

            async def trial(number: int) -> None:
                del number
                execution_id = await scene.request(
                    hostile.CELL, timeout=150.0, parameters=around.parameters(settings, worker.pid)
                )
                begun = time.monotonic()
                await scene.command(execution_id)
                await scene.until(execution_id, seconds=_BOUND_SECONDS + 60)
                (seen,) = await printed(scene, execution_id)
                got = [attempt for attempt, what in seen.items() if what is not False]
                tally.expect(not got, f"got {', '.join(got)}")
                tally.expect(set(seen) == set(hostile.ATTEMPTS), "did not try all")
                tally.took(time.monotonic() - begun, "got what it wanted" if got else "stopped")

            await tally.repeat(NOTEBOOKS, trial, at_once=_AT_ONCE)
        tally.expect(not around.tidied(), "left files behind")
    conclude(NOTEBOOKS, tally)
