"""A soak: thousands of small runs with large ones among them, after which no role has grown.

The embedded broker keeps what it is sent until it is started anew: it grows up to its bound, which
is a setting, and is held to that bound. At the smallest size the soak shows that a broker that
fills its memory is started anew and nothing is lost; that memory does not grow is only seen over
thousands of runs.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx
import psutil
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError
from support.campaigns import PROPERTY, code, size, times
from support.local_server import LocalServer, local_server

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.timeout(times(small=300, ci=1800, full=6 * 3600)),
    pytest.mark.skipif(sys.platform != "linux", reason="reads memory as Linux tells it"),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

SMALL_RUNS = times(small=60, ci=1_000, full=20_000)
LARGE_RUNS = times(small=1, ci=10, full=200)
LARGE_CELLS = times(small=200, ci=1_000, full=1_000)
RUNS_OF_A_NOTEBOOK = 20
MOST_GROWTH = 1.1
"""How much more a role may take at most after the first tenth than at most within it."""
BROKER_MB = times(small=1, ci=30, full=80)
"""The bound of the broker: low enough to be reached, at full size the one of the settings."""
BROKER_EXCESS = 1.1
"""How much more than its bound the broker takes at most: it is looked at every two seconds."""
AT_ONCE = 4
_PATIENCE = 600.0
_EVERY_SECONDS = times(small=1, ci=5, full=10)
_BROKER = "tansu"
ROLES = ("api", "relay", "projector", "sealer", "worker", _BROKER)

Reports = Callable[[str, object], None]


@pytest.fixture
def server() -> Iterator[LocalServer]:
    environment = {
        "NBLEDGER_WORKER_CONCURRENCY": str(AT_ONCE),
        "NBLEDGER_KAFKA_EMBEDDED_MEMORY_MB": str(BROKER_MB),
    }
    with local_server(environment) as running:
        yield running


class Memory:
    """What each role takes, by how much was done."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self._processes: dict[str, psutil.Process] = {}
        self.samples: dict[str, list[tuple[float, float]]] = {role: [] for role in ROLES}
        """Of each role the part of all that was done, and megabytes."""
        self.brokers = set[int]()

    def sample(self, done: float) -> None:
        """Look at each role once."""
        for role in ROLES:
            with suppress(psutil.Error):
                process = self._process(role)
                if process is not None:
                    megabytes = process.memory_info().rss / 1e6
                    self.samples[role].append((done, megabytes))
        if (broker := self._processes.get(_BROKER)) is not None:
            self.brokers.add(broker.pid)

    def _process(self, role: str) -> psutil.Process | None:
        known = self._processes.get(role)
        if known is not None and known.is_running():
            return known
        for each in psutil.Process(self._server.process.pid).children():
            with suppress(psutil.Error):
                line = each.cmdline()
                if line[-1:] == [role] or (role == _BROKER and _BROKER in line[:1][0]):
                    self._processes[role] = each
                    return each
        return None

    def peaks(self, role: str) -> tuple[float, float]:
        """The most within the first tenth, and after it."""
        first = [taken for done, taken in self.samples[role] if done <= 0.1]
        later = [taken for done, taken in self.samples[role] if done > 0.1]
        return max(first, default=0.0), max(later, default=0.0)


class Soak:
    """Runs of small and of large notebooks, a few at once."""

    def __init__(self, client: httpx.AsyncClient, server: LocalServer) -> None:
        self._client = client
        self._order = iter(_order())
        self._total = SMALL_RUNS + LARGE_RUNS
        self._small: tuple[str, int] = ("", 0)
        self.memory = Memory(server)
        self.ends: Counter[str] = Counter()
        self.done = 0

    async def run(self) -> None:
        """All of it."""
        sampling = asyncio.create_task(self._sample())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(self._lane())
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
        self.memory.sample(1.0)

    async def _sample(self) -> None:
        while True:
            self.memory.sample(self.done / self._total)
            await asyncio.sleep(_EVERY_SECONDS)

    async def _lane(self) -> None:
        for large in self._order:
            notebook = await self._notebook(large=large)
            answer = await self._client.post(f"/notebook/{notebook}/execute")
            assert answer.is_success, answer.text
            path = f"/notebook/{notebook}/execution/{answer.json()['executionId']}"
            self.ends[await self._end(path)] += 1
            if large:
                results = await self._client.get(f"{path}/results?format=detailed")
                told = [cell["keptBytes"] > 0 for cell in results.json()["cells"]]
                assert told == [True] * LARGE_CELLS
            self.done += 1

    async def _end(self, path: str) -> str:
        async with asyncio.timeout(_PATIENCE):
            while True:
                answer = await self._client.get(path, headers={"Prefer": "wait=20"})
                assert answer.is_success, answer.text
                if (status := answer.json()["status"]) != "Running":
                    return str(status)

    async def _notebook(self, *, large: bool) -> str:
        if large:
            return await self._made(*[f"print({number})" for number in range(LARGE_CELLS)])
        name, left = self._small
        if not left:
            name, left = await self._made("a = 1", "print(a)"), RUNS_OF_A_NOTEBOOK
        self._small = (name, left - 1)
        return name

    async def _made(self, *cells: str) -> str:
        answer = await self._client.post("/notebook", json=code(*cells))
        assert answer.is_success, answer.text
        return str(answer.json()["notebookId"])


def _order() -> Iterator[bool]:
    """Which runs are large: as many in each tenth."""
    every = SMALL_RUNS // LARGE_RUNS
    for number in range(SMALL_RUNS):
        if number % every == every // 2:
            yield True
        yield False


@asynccontextmanager
async def _subscriber(server: LocalServer) -> AsyncIterator[AIOKafkaConsumer]:
    """A started subscriber without a group, who holds what it has not read yet."""
    async with AsyncExitStack() as stack:
        while True:
            consumer = AIOKafkaConsumer(
                "nbledger.events",
                bootstrap_servers=server.info.kafka,
                auto_offset_reset="earliest",
            )
            stack.push_async_callback(consumer.stop)
            try:
                await consumer.start()
            except KafkaConnectionError:
                # The broker is just being started anew.
                await consumer.stop()
                continue
            yield consumer
            return


async def _follow(consumer: AIOKafkaConsumer, positions: set[int]) -> None:
    async for message in consumer:
        positions.add(int(dict(message.headers)["ce_position"]))


@pytest.mark.guarantee("G28")
async def test_no_role_grows_however_much_is_run(
    server: LocalServer, record_property: Reports
) -> None:
    async with _subscriber(server) as consumer:
        await _check_soak(server, consumer, record_property)


async def _check_soak(
    server: LocalServer, consumer: AIOKafkaConsumer, record_property: Reports
) -> None:
    positions = set[int]()
    following = asyncio.create_task(_follow(consumer, positions))
    began = time.monotonic()
    async with httpx.AsyncClient(
        base_url=server.base, headers=server.headers, timeout=60.0
    ) as client:
        soak = Soak(client, server)
        await soak.run()
    seconds = time.monotonic() - began
    memory = soak.memory
    figures: dict[str, Any] = {role: memory.peaks(role) for role in ROLES}
    told = ", ".join(
        f"{role} {first:.1f} -> {later:.1f} MB" for role, (first, later) in figures.items()
    )
    record_property(
        PROPERTY,
        f"soak of {SMALL_RUNS} small runs and {LARGE_RUNS} of {LARGE_CELLS} cells in "
        f"{seconds:.0f} s (most in the first tenth -> after it): {told}; "
        f"brokers {len(memory.brokers)}, each up to {BROKER_MB} MB",
    )
    assert soak.ends == {"Completed": SMALL_RUNS + LARGE_RUNS}
    # However often the broker was started anew, its subscriber has all events.
    async with asyncio.timeout(60):
        while len(positions) < max(positions, default=1):
            assert not following.done(), "the subscriber has ended"
            await asyncio.sleep(0.1)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert len(memory.brokers) > 1, "the broker has not come to its bound"
    if size() != "small":
        assert max(figures.pop(_BROKER)) <= BROKER_EXCESS * BROKER_MB
        grown = {
            role: peaks for role, peaks in figures.items() if peaks[1] > MOST_GROWTH * peaks[0]
        }
        assert not grown
