"""The consumers of examples/consumers as processes, and what they must have done."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from support.databases import drop_database, empty_database
from support.event_store import connect
from support.node import node
from support.paths import ROOT
from support.stories import Story, begin, record, step

from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent
from nbledger_infrastructure.settings import Kafka

EXAMPLES = ROOT / "examples" / "consumers"
INSTALLED = ROOT / ".venv-consumers"
NAMES = ("python", "librdkafka", "node", "java")

ENDS = {
    "execution.completed.v1": "Completed",
    "execution.failed.v1": "Failed",
    "execution.timed-out.v1": "TimedOut",
    "execution.kernel-died.v1": "KernelDied",
    "execution.cancelled.v1": "Cancelled",
}
DELETED = "notebook.deleted.v1"
_LOGGED = {"execution.requested.v1", "execution.cell-executed.v1", DELETED, *ENDS}
_END_SECONDS = 30.0


def missing(name: str) -> str:
    """Why this consumer cannot run here; empty if it can."""
    if name == "java" and not shutil.which("java"):
        return "Java is not installed"
    if name == "java" and not (INSTALLED / "java" / "Consumer.class").exists():
        return "the Java consumer is not compiled: make setup does it where Maven is installed"
    return ""


def command(name: str, folder: Path) -> list[str]:
    """What starts this consumer; ``folder`` is for files that it needs beside it."""
    if name == "python":
        return [sys.executable, str(EXAMPLES / "python" / "consumer.py")]
    if name == "librdkafka":
        python = INSTALLED / "librdkafka" / "bin" / "python"
        return [str(python), str(EXAMPLES / "librdkafka" / "consumer.py")]
    if name == "java":
        classes = f"{INSTALLED / 'java'}:{INSTALLED / 'java' / 'jars'}/*"
        quick = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m")
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return ["java", *quick, quiet, "-cp", classes, "Consumer"]
    # Node looks for packages from where a module is.
    program = folder / "consumer.mjs"
    if not program.exists():
        (folder / "node_modules").symlink_to(INSTALLED / "node" / "node_modules")
        shutil.copy(EXAMPLES / "node" / "consumer.mjs", program)
    return [node(), str(program)]


class Wrong(NamedTuple):
    """What a consumer has not done, or done twice."""

    lost: list[int]
    doubled: list[int]
    others: list[str]


class Consumer:
    """One consumer with a database of its own, and processes that come and go."""

    def __init__(self, name: str, dsn: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.dsn = dsn
        self._command = command(name, folder)
        self._log = folder / f"{name}.log"
        self._environment = {**os.environ, **environment, "DATABASE_URL": dsn}
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start one more process of it."""
        with self._log.open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    self._command,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )

    def kill(self, number: int) -> None:
        """``kill -9`` of one of its processes."""
        self.assert_running()
        process = self.processes.pop(number)
        process.kill()
        process.wait(_END_SECONDS)

    def stop(self) -> list[int]:
        """End all in order; returns their statuses."""
        for process in self.processes:
            process.terminate()
        return [process.wait(_END_SECONDS) for process in self.processes]

    def assert_running(self) -> None:
        """No process has ended by itself."""
        assert not [each for each in self.processes if each.poll() is not None], self.printed()

    def printed(self) -> str:
        """The last that its processes have printed."""
        return self._log.read_text()[-5_000:]

    async def position(self) -> int:
        """How far it says it is."""
        async with connect(self.dsn) as connection:
            found = await connection.fetchval("SELECT max(position) FROM consumer")
            return int(found or 0)

    async def until(self, position: int, *, seconds: float) -> None:
        """Wait until it has come so far."""
        try:
            async with asyncio.timeout(seconds):
                # It tells nobody but its table.
                while await self.position() < position:
                    self.assert_running()
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(
                f"{self.name} is at {await self.position()} of {position}:\n{self.printed()}"
            ) from None

    async def dead_letters(self) -> dict[str, str]:
        """What it could not deal with: the place, and the fault."""
        async with connect(self.dsn) as connection:
            rows = await connection.fetch("SELECT place, fault FROM dead_letter")
            return {row["place"]: row["fault"] for row in rows}

    async def wrong(
        self,
        events: Iterable[RecordedEvent],
        project: str,
        *,
        poison: Collection[int] = (),
        foreign: Collection[str] = (),
    ) -> Wrong:
        """Compare its effects with the store's events of the project of this address.

        What is at the positions of ``poison`` has no effect, and is a dead letter; so is what the
        store does not know, at the places of ``foreign``.
        """
        place = tuple(project.split("/")[-2:])
        events = [
            each
            for each in events
            if (str(each.tenant_id), str(each.project_id)) == place and each.position not in poison
        ]
        async with connect(self.dsn) as connection:
            logged = Counter(
                row["position"] for row in await connection.fetch("SELECT position FROM run_log")
            )
            counts = {row[0]: row[1] for row in await connection.fetch("TABLE run_count")}
            runs = {
                str(row["execution_id"]): (row["status"], row["cells"], round(row[4], 3))
                for row in await connection.fetch("TABLE run")
            }
        dead = await self.dead_letters()
        expected = {each.position for each in events if _is_logged(each)}
        buried = {*foreign, *(f"position {each}" for each in poison)}
        others = [
            f"dead letter: {each}: {fault}" for each, fault in dead.items() if each not in buried
        ]
        others += [f"no dead letter: {each}" for each in buried - dead.keys()]
        if counts != _counts(events):
            others.append(f"counts: {counts} for {_counts(events)}")
        if runs != _runs(events):
            others.append(f"runs: {set(runs.items()) ^ set(_runs(events).items())}")
        return Wrong(
            sorted(expected - logged.keys()),
            sorted(at for at, times in logged.items() if times > 1 or at not in expected),
            others,
        )


def _is_logged(event: RecordedEvent) -> bool:
    return event.type in _LOGGED and (
        event.data is not None or event.type != "execution.cell-executed.v1"
    )


def _counts(events: Iterable[RecordedEvent]) -> dict[str, int]:
    return dict(Counter(ENDS[each.type] for each in events if each.type in ENDS))


def _runs(events: Iterable[RecordedEvent]) -> dict[str, tuple[str, int, float]]:
    runs: dict[str, tuple[str, int, float]] = {}
    of: dict[str, str] = {}
    for each in events:
        stream = str(each.stream_id)
        if each.type == "execution.requested.v1":
            runs[stream], of[stream] = ("Requested", 0, 0.0), str(each.subject_id)
        elif each.type == DELETED:
            runs = {key: run for key, run in runs.items() if of[key] != str(each.subject_id)}
        elif stream not in runs:
            continue
        elif each.type == "execution.cell-executed.v1" and each.data is not None:
            status, cells, seconds = runs[stream]
            more = json.loads(each.data)["duration"]
            runs[stream] = (status, cells + 1, round(seconds + more, 3))
        elif each.type in ENDS:
            runs[stream] = (ENDS[each.type], *runs[stream][1:])
    return runs


def environment(kafka: Kafka, project: str, token: str) -> dict[str, str]:
    """The settings of a consumer that has to be quick."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "KAFKA_TOPIC": f"{kafka.topic_prefix}.events",
        "PROJECT_URL": project,
        "API_TOKEN": token,
        "PATIENCE_SECONDS": "2",
        "IDLE_SECONDS": "5",
    }


@asynccontextmanager
async def consumer(name: str, folder: Path, settings: Mapping[str, str]) -> AsyncIterator[Consumer]:
    """A consumer that is not running yet, with its tables."""
    dsn = await asyncio.to_thread(empty_database)
    own = folder / name
    own.mkdir()
    try:
        async with connect(dsn) as connection:
            await connection.execute((EXAMPLES / "schema.sql").read_text())
        made = Consumer(name, dsn, own, settings)
        try:
            yield made
        finally:
            for process in made.processes:
                process.kill()
                process.wait(_END_SECONDS)
    finally:
        await asyncio.to_thread(drop_database, dsn)


class Load:
    """Runs that go on, in one project and beside it in others, at a pace."""

    def __init__(self, store: EventStore, project: str, seed: int) -> None:
        *_, tenant_id, project_id = urlsplit(project).path.split("/")
        self._store = store
        self._dice = random.Random(seed)
        self._place = (UUID(tenant_id), UUID(project_id))
        self._stories: list[Story] = []
        self.position = 0

    async def run(self, stop: asyncio.Event, *, pause: float) -> None:
        """Append until told to stop."""
        while not stop.is_set():
            await self.step()
            await asyncio.sleep(pause)

    async def step(self) -> None:
        """Let one thing happen."""
        if len(self._stories) < 6 or self._dice.random() < 0.02:
            self._stories = [*self._stories[-10:], self._begin()]
        story = self._dice.choice(self._stories)
        step(story, self._dice)
        self.position = max(self.position, await record(self._store, story))

    def _begin(self) -> Story:
        if self._dice.random() < 0.2:
            return begin(self._dice)
        return begin(self._dice, tenant_id=self._place[0], project_id=self._place[1])
