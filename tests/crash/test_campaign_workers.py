"""Workers killed, and stopped past their leases, while runs of 20 cells are in their hands.

At full size with the default leases, so that the times are those of a real installation.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psutil
import pytest
from support.campaigns import (
    PROPERTY,
    Tally,
    conclude,
    gone,
    marked,
    marking,
    new_mark,
    size,
    times,
)
from support.executions import TERMINAL, Stage, make_settings, stage
from support.workers import of_instance, worker_process

from nbledger.embedded.processes import is_alive
from nbledger_domain.execution import Execution, ExecutionStatus, RetryPolicy, TerminationCode
from nbledger_infrastructure import settings
from nbledger_infrastructure.postgres.database import acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=120, ci=400, full=2400)),
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes as Linux names them"),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

CELLS = 20
TAKEN_OVER_SECONDS = 30.0
GONE_SECONDS = times(small=15, ci=2, full=2)
RUNS_PER_WORKER = 2
VICTIMS = times(small=1, ci=4, full=5)
"""Workers that are hit in one round, which waits for their leases to end."""
_PATIENCE = 120.0
_FEED_SECONDS = 4.0
_STOPPED = re.compile(r"run stopped: ([a-z ]+) [a-z_]+=")

Reports = Callable[[str, object], None]
Hit = Callable[["Victim"], Awaitable[None]]


@dataclass
class Victim:
    """A worker that something is done to, when that was, and the runs that it held then."""

    process: asyncio.subprocess.Process
    instance: str
    log: Path
    hit_at: float = 0.0
    held: list[UUID] = field(default_factory=list)
    lost: bool = False


class Field:
    """A stage on which workers are hit, a few in each round; a bystander takes over."""

    def __init__(self, scene: Stage, folder: Path, tally: Tally) -> None:
        self.scene = scene
        self.tally = tally
        self.marks: dict[UUID, str] = {}
        self.struck = 0
        self._folder = folder
        self._numbers = itertools.count()

    async def until(self, wanted: int, hit: Hit, *, settled: Hit | None = None) -> int:
        """Go on until so many workers have lost a run; how many were hit.

        `settled` is given each worker that has, while it still lives.
        """
        # A worker that comes back before anybody has taken its run over keeps it.
        most = 3 * wanted // VICTIMS + 3
        for number in range(1, most + 1):
            await self._round(hit, settled)
            if self.struck >= wanted:
                return number * VICTIMS
        raise AssertionError(f"only {self.struck} of {most * VICTIMS} workers lost a run")

    async def _round(self, hit: Hit, settled: Hit | None) -> None:
        """Hit VICTIMS workers, each at a random moment of a run, and judge how all runs ended."""
        self.marks.clear()
        async with AsyncExitStack() as stack:
            victims = await asyncio.gather(
                *(stack.enter_async_context(self._worker()) for _ in range(VICTIMS))
            )
            async with asyncio.TaskGroup() as group:
                feeding = group.create_task(self._feed())
                await asyncio.gather(*(self._hit(victim, hit) for victim in victims))
                feeding.cancel()
            for execution_id, mark in self.marks.items():
                execution = await self.scene.until(execution_id, seconds=_PATIENCE)
                await gone(mark)
                self._judge(execution, await self.scene.history(execution_id), victims)
            if settled is not None:
                await asyncio.gather(*(settled(victim) for victim in victims if victim.lost))
        self.struck += sum(victim.lost for victim in victims)

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[Victim]:
        instance = str(uuid.uuid4())
        log = self._folder / f"{instance}.log"
        async with worker_process(self.scene.settings, instance, log=log) as process:
            yield Victim(process, instance, log)

    async def _feed(self) -> None:
        """Ask for runs, until every victim has been hit: which worker gets one is the broker's."""
        for _ in range(RUNS_PER_WORKER * VICTIMS):
            await self._ask()
        while True:
            await asyncio.sleep(_FEED_SECONDS)
            await self._ask()

    async def _ask(self) -> None:
        mark = new_mark()
        cells = [f"import time; time.sleep(0.1); print({number})" for number in range(CELLS - 1)]
        again = RetryPolicy(max_attempts=10, retry_on=("worker_lost",))
        found = await self.scene.request(
            marking(mark), *cells, retry_policy=again if next(self._numbers) % 2 else None
        )
        self.marks[found] = mark
        await self.scene.command(found)

    async def _hit(self, victim: Victim, hit: Hit) -> None:
        """Wait until a run of the worker has come to a random cell, and hit."""
        cell = self.tally.random.randrange(CELLS - 1)
        async with asyncio.timeout(_PATIENCE):
            while not await self._come_to(victim, cell):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await asyncio.sleep(self.tally.random.uniform(0, 0.1))
        await hit(victim)

    async def _come_to(self, victim: Victim, cell: int) -> bool:
        """Whether a run of the worker has begun so many cells."""
        held = await self.held(victim)
        async with acquire(self.scene.pool) as connection:
            begun: int | None = await connection.fetchval(
                "SELECT max((SELECT count(*) FROM event WHERE stream_id = run AND type = $2))"
                " FROM unnest($1::uuid[]) AS run",
                held,
                Execution.CellStarted.TYPE,
            )
        return begun is not None and begun >= cell

    async def held(self, victim: Victim) -> list[UUID]:
        """The runs whose leases the worker has."""
        async with acquire(self.scene.pool) as connection:
            rows = await connection.fetch("SELECT execution_id, worker_id FROM execution_lease")
        mine = f"-{victim.process.pid}-"
        return [row["execution_id"] for row in rows if mine in row["worker_id"]]

    def _judge(
        self, execution: Execution, history: list[RecordedEvent], victims: list[Victim]
    ) -> None:
        for fault in faults_of(history):
            self.tally.expect(False, f"{execution.id}: {fault}")
        lost = [event for event in history if event.type == Execution.AttemptLost.TYPE]
        # Without a policy it begins anew only where no cell had begun.
        again = all(msgspec.json.decode(event.data or b"")["restart"] for event in lost)
        ended = (execution.status, execution.termination_code)
        if again:
            expected = (ExecutionStatus.COMPLETED, TerminationCode.SUCCESS)
        else:
            expected = (ExecutionStatus.ERROR, TerminationCode.WORKER_LOST)
        self.tally.expect(ended == expected, f"{execution.id}: ended as {ended}")
        if execution.options.retry_policy is not None:
            self.tally.expect(again, f"{execution.id}: was not begun anew")
        for victim in victims:
            if execution.id in victim.held:
                self._time(victim, history)

    def _time(self, victim: Victim, history: list[RecordedEvent]) -> None:
        """Count how long the run of a victim was in nobody's hands."""
        after = [event for event in history if event.recorded_at.timestamp() > victim.hit_at]
        lost = next((e for e in after if e.type == Execution.AttemptLost.TYPE), None)
        if lost is None:
            # Its last words were its end.
            self.tally.expect(history[-1].type in TERMINAL, "lost by nobody")
            return
        victim.lost = True
        claimed = next((e for e in after if e.type == Execution.Claimed.TYPE), None)
        taken = lost if claimed is None else claimed
        self.tally.took(
            taken.recorded_at.timestamp() - victim.hit_at,
            "runs ended as lost" if claimed is None else "runs begun anew",
        )


@asynccontextmanager
async def field_of(config: settings.Settings, folder: Path, tally: Tally) -> AsyncIterator[Field]:
    """A field with a sweeper, and a worker that nothing is done to."""
    bystander = str(uuid.uuid4())
    # What is taken over is not to wait for room.
    worker = msgspec.structs.replace(config.worker, concurrency=2 * RUNS_PER_WORKER * VICTIMS)
    spacious = msgspec.structs.replace(config, worker=worker)
    async with (
        stage(config) as scene,
        scene.sweeper(),
        worker_process(spacious, bystander, log=folder / "bystander.log"),
    ):
        yield Field(scene, folder, tally)


@pytest.fixture
def config(database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path) -> settings.Settings:
    """Many partitions, so that every worker gets some; the default times at full size."""
    made = make_settings(database_dsn, kafka, topic_prefix, tmp_path, lease_seconds=4.0)
    replace = msgspec.structs.replace
    usual = settings.Settings()
    worker, recovery, broker = made.worker, made.recovery, replace(made.kafka, partitions=24)
    if size() == "full":
        recovery = usual.recovery
        worker = replace(
            worker,
            lease_seconds=usual.worker.lease_seconds,
            renew_seconds=usual.worker.renew_seconds,
        )
        broker = replace(broker, session_timeout_seconds=usual.kafka.session_timeout_seconds)
    worker = replace(worker, concurrency=RUNS_PER_WORKER)
    return replace(made, kafka=broker, worker=worker, recovery=recovery)


@pytest.mark.guarantee("G8")
async def test_killed_workers_are_taken_over(
    config: settings.Settings, tmp_path: Path, record_property: Reports
) -> None:
    wanted = times(small=1, ci=12, full=50)
    tally = Tally("kill -9 of a worker: its runs", TAKEN_OVER_SECONDS, record_property)
    ended = Tally("kill -9 of a worker: its processes", GONE_SECONDS, record_property)
    async with field_of(config, tmp_path, tally) as field:

        async def kill(victim: Victim) -> None:
            held = await field.held(victim)
            victim.process.kill()
            victim.hit_at = time.time()
            victim.held = held
            marks = [field.marks[execution_id] for execution_id in held]
            pids = {*of_instance(victim.instance), *(pid for mark in marks for pid in marked(mark))}
            left = []
            for pid in pids:
                with suppress(psutil.NoSuchProcess):
                    left.append(psutil.Process(pid))
            async with asyncio.timeout(_PATIENCE):
                while any(is_alive(process) for process in left):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            ended.took(time.time() - victim.hit_at, "workers")
            ended.expect(not of_instance(victim.instance), "a process was left over")

        hit = await field.until(wanted, kill)
    tally.report(len(tally.seconds))
    conclude(hit, ended)
    assert not tally.faults, tally.faults


@pytest.mark.guarantee("G9")
async def test_workers_stopped_past_their_leases_are_not_heard(
    config: settings.Settings, tmp_path: Path, record_property: Reports
) -> None:
    wanted = times(small=1, ci=8, full=20)
    tally = Tally("SIGSTOP of a worker: its runs", TAKEN_OVER_SECONDS, record_property)
    said = Counter[str]()
    async with field_of(config, tmp_path, tally) as field:

        async def stop(victim: Victim) -> None:
            victim.held = await field.held(victim)
            os.kill(victim.process.pid, signal.SIGSTOP)
            victim.hit_at = time.time()
            try:
                await asyncio.sleep(config.worker.lease_seconds)
                if tally.random.random() < 0.5:
                    # Else it comes back while others find that its lease has ended.
                    async with asyncio.timeout(_PATIENCE):
                        while await field.held(victim):  # noqa: ASYNC110
                            await asyncio.sleep(0.02)
                    await asyncio.sleep(tally.random.uniform(0, 1))
            finally:
                os.kill(victim.process.pid, signal.SIGCONT)

        async def gave_up(victim: Victim) -> None:
            """It says of a run that it has lost that it stops it."""
            async with asyncio.timeout(_PATIENCE):
                while not (found := _STOPPED.findall(await read(victim.log))):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            said.update(found)

        await field.until(wanted, stop, settled=gave_up)
    record_property(PROPERTY, f"workers that went on said: {dict(said)}")
    conclude(len(tally.seconds), tally)


async def read(log: Path) -> str:
    """What a worker has logged by now."""
    return await asyncio.to_thread(log.read_text, "utf-8", "replace")


def faults_of(history: list[RecordedEvent]) -> list[str]:
    """What must never be in a stream: a second end, or a word of one who does not hold the run."""
    faults = []
    epoch, holder, ends = 0, "", 0
    for number, event in enumerate(history, 1):
        data: dict[str, Any] = msgspec.json.decode(event.data or b"{}")
        actor = event.metadata.actor
        if event.version != number:
            faults.append(f"version {event.version} at {number}")
        if ends:
            faults.append(f"{event.type} after the end")
        if event.type == Execution.Claimed.TYPE:
            if data["epoch"] != epoch + 1:
                faults.append(f"epoch {data['epoch']} after {epoch}")
            epoch, holder = data["epoch"], actor
        elif actor.startswith("worker:") and actor != holder:
            faults.append(f"{event.type} by {actor} while {holder or 'nobody'} held it")
        elif data.get("epoch", epoch) != epoch:
            faults.append(f"{event.type} of epoch {data['epoch']} in epoch {epoch}")
        if event.type == Execution.AttemptLost.TYPE:
            holder = ""
        ends += event.type in TERMINAL
    if ends != 1:
        faults.append(f"{ends} ends")
    return faults
