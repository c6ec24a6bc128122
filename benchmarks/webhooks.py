"""Webhooks, from the append of an event to the first attempt at each that wants it."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Final
from uuid import UUID

import psutil

from benchmarks.bench import Bench
from benchmarks.figures import Figure, compare, within
from benchmarks.filling import METADATA
from benchmarks.peer import CHECKOUT
from nbledger_application import repository
from nbledger_domain.webhook import EventSelection, Webhook
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, NewEvent, Stream

TYPES: Final = ("notebook.renamed", "notebook.described", "dataset", "library", "execution")
"""Each webhook wants one of these: an event goes to a fifth of its project's."""

PER_PROJECT: Final = 100
HANGING: Final = 10
EVENTS_PER_SECOND: Final = 10.0
LEAST_SECONDS: Final = 1.0
"""From the append to the first attempt, at the 95th percentile."""


class Load:
    """Projects with webhooks, and events for them."""

    def __init__(self, pool: Pool, store: EventStore, webhooks: int) -> None:
        self._pool = pool
        self._store = store
        self._webhooks = webhooks
        self._tenant_id = new_id()
        self._projects = [new_id() for _ in range(-(-webhooks // PER_PROJECT))]
        self._turn = itertools.count()
        self._hanging: list[Webhook] = []
        self._slots = asyncio.Semaphore(512)

    async def subscribe(self, port: int) -> None:
        """Make the webhooks."""
        await self._make(
            (f"http://127.0.0.1:{port}/hook/{number}", TYPES[number % len(TYPES)])
            for number in range(self._webhooks)
        )

    async def add_hanging(self, port: int) -> None:
        """Add some that never answer, of all events of notebooks of the first project."""
        self._hanging = await self._make(
            (f"http://127.0.0.1:{port}/hang/{number}", "notebook") for number in range(HANGING)
        )

    async def hang(self, *, on: bool) -> None:
        """Enable those, or disable them."""
        for webhook in self._hanging:
            if on:
                webhook.enable(at=now())
            else:
                webhook.disable("requested", at=now())
            await self._append(webhook, self._projects[0])

    async def _make(self, asked: Iterable[tuple[str, str]]) -> list[Webhook]:
        made = await asyncio.gather(
            *(
                self._one(url, wanted, self._projects[number // PER_PROJECT % len(self._projects)])
                for number, (url, wanted) in enumerate(asked)
            )
        )
        async with acquire(self._pool) as connection:
            await connection.executemany(
                "INSERT INTO webhook_secret (secret_id, webhook_id, secret) VALUES ($1, $2, $3)",
                [(each.secret_id, each.id, b"a secret of this benchmark alone") for each in made],
            )
        return made

    async def _one(self, url: str, wanted: str, project_id: UUID) -> Webhook:
        webhook = Webhook.create(
            new_id(),
            url=url,
            wanted=EventSelection(event_types=(wanted,)),
            description="",
            ordered=False,
            secret_id=new_id(),
            at=now(),
        )
        async with self._slots:
            await self._append(webhook, project_id)
        return webhook

    async def _append(self, webhook: Webhook, project_id: UUID) -> None:
        stream = Stream(webhook.id, webhook.id, self._tenant_id, project_id)
        await repository.save(self._store, webhook, stream, METADATA)

    async def events(self, count: int, per_second: float) -> dict[str, float]:
        """Append events of one project after the other; when each was, by its id."""
        began = time.monotonic()
        at: dict[str, float] = {}
        for number in range(count):
            await asyncio.sleep(began + number / per_second - time.monotonic())
            project_id = self._projects[next(self._turn) % len(self._projects)]
            stream_id = new_id()
            event = NewEvent(new_id(), "notebook.renamed.v1", b'{"name":"N"}', now())
            stream = Stream(stream_id, stream_id, self._tenant_id, project_id)
            at[str(event.event_id)] = time.time()
            await self._store.append(stream, [event], expected_version=0, metadata=METADATA)
        return at

    def wanted_each(self) -> int:
        """How many webhooks an event goes to, without those that hang."""
        return min(self._webhooks, PER_PROJECT) // len(TYPES)


class Process:
    """One of `benchmarks.webhook_processes`."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.webhook_processes", *arguments],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.told = self.line()

    def line(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def come(self) -> list[tuple[str, str, float]]:
        """Of a receiver: what has come since it was asked last: path, id of the event, when."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found = []
        while line := self.line():
            path, event_id, at = line.split()
            found.append((path, event_id, float(at)))
        return found

    def processor_seconds(self) -> float:
        """What it has used."""
        used = psutil.Process(self._process.pid).cpu_times()
        return used.user + used.system

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def webhooks(bench: Bench) -> list[Figure]:
    """The p95 with some that hang and without, in turn: the same webhooks and rate of events."""
    count = 20 if bench.quick else 10_000 if bench.full else 1_000
    events = 5 if bench.quick else 300 if bench.full else 200
    dsn = bench.new_database("webhooks")
    pool = bench.connect(dsn)
    store = EventStore(pool)
    bench.run(store.start())
    load = Load(pool, store, count)
    receiver = Process("receive")
    sender: Process | None = None
    port = int(receiver.told)
    try:
        bench.run(load.subscribe(port))
        sender = started = Process("send", dsn)
        bench.run(load.add_hanging(port))

        def p95(*, hang: bool) -> float:
            bench.run(load.hang(on=hang))
            before = started.processor_seconds()
            found = _p95(bench, load, receiver, events)
            used = started.processor_seconds() - before
            each = 1000 * used / (events * load.wanted_each())
            bench.say(f"  {each:.2f} ms of processor time for each delivery")
            return found

        rounds = bench.alternate([lambda: p95(hang=True), lambda: p95(hang=False)])
    finally:
        if sender is not None:
            sender.close()
        receiver.close()
    bench.run(store.close())
    bench.run(pool.close())
    bench.drop_database("webhooks")
    told = f"webhooks, {count:,}, append to first attempt, p95"
    beside = f"{told}, {HANGING} hanging"
    return [
        within(figure=told, unit="s", values=[each[1] for each in rounds], bound=LEAST_SECONDS),
        within(figure=beside, unit="s", values=[each[0] for each in rounds], bound=LEAST_SECONDS),
        compare(
            figure=beside,
            unit="s",
            against="without those",
            pairs=[(hanging, alone) for hanging, alone in rounds],
            bound=1.1,
            better="lower",
        ),
    ]


def _p95(bench: Bench, load: Load, receiver: Process, count: int) -> float:
    """Seconds from the append to the first attempt, of all webhooks that answer."""
    appended = bench.run(load.events(count, EVENTS_PER_SECOND))
    wanted = count * load.wanted_each()
    seconds: dict[tuple[str, str], float] = {}
    deadline = time.monotonic() + 120
    while len(seconds) < wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(seconds)} of {wanted} deliveries have come")
        for path, event_id, at in receiver.come():
            if path.startswith("/hook") and event_id in appended:
                seconds.setdefault((path, event_id), at - appended[event_id])
        time.sleep(0.2)
    found = sorted(seconds.values())
    bench.say(
        f"  {len(found)} deliveries: median {found[len(found) // 2]:.3f}, "
        f"p95 {found[len(found) * 95 // 100]:.3f}, last {found[-1]:.3f} s"
    )
    return found[len(found) * 95 // 100]
