"""Kernels that wait for their run: pairs of supervising child and ready kernel, each used once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from nbledger_infrastructure.backoff import Backoff
from nbledger_infrastructure.packages import Environment
from nbledger_workers.kernel.driving.pair import (
    ForkServers,
    Pair,
    finish_even_if_cancelled,
    new_launch,
)
from nbledger_workers.kernel.processes.fork_client import ForkServerLostError
from nbledger_workers.kernel.protocol import RunFinished
from nbledger_workers.kernel.standalone.isolation import Isolation

log = structlog.get_logger(__name__)

#: A kernel that was not needed for so long is one too many.
IDLE_SECONDS: Final = 60.0
# A start takes a processor for a while, which the run that has just taken a kernel needs more.
_REFILL_AFTER_SECONDS: Final = 0.15


class Sizing:
    """How many kernels should wait: one more whenever none is left, one less after idle times.

    None at all until the first is taken, unless it is `eager`. Times are monotonic seconds.
    """

    def __init__(self, minimum: int, maximum: int, *, now: float, eager: bool = True) -> None:
        self.wanted = minimum if eager else 0
        self._minimum = minimum
        self._maximum = max(minimum, maximum)
        self._since = now
        self._fewest: int | None = None

    def took(self, left: int, now: float) -> None:
        """One was taken and so many are left waiting."""
        self._fewest = left if self._fewest is None else min(self._fewest, left)
        self.wanted = max(self.wanted, self._minimum)
        if left == 0:
            self.wanted = min(self.wanted + 1, self._maximum)
            self._since = now

    def look(self, waiting: int, now: float) -> int:
        """Told how many wait; how many of them are too many."""
        fewest = waiting if self._fewest is None else min(self._fewest, waiting)
        if now - self._since >= IDLE_SECONDS:
            if fewest > 0:
                self.wanted = max(self.wanted - 1, min(self.wanted, self._minimum))
            self._since, self._fewest = now, None
        return max(waiting - self.wanted, 0)


class Waiting(msgspec.Struct, frozen=True):
    """Kernels of one kernelspec that wait, and the private memory of one of them, in bytes."""

    count: int
    memory_bytes: int | None


class _Shelf:
    """The kernels of one kernelspec."""

    def __init__(self, kernel_name: str, sizing: Sizing) -> None:
        self.kernel_name = kernel_name
        self.sizing = sizing
        self.ready: deque[Pair] = deque()
        self.starting: dict[Pair, None] = {}
        self.memory_bytes: int | None = None
        self.backoff = Backoff(0.5, 30.0)
        self.pause = 0.0
        self.refill_at = 0.0
        self.wake = asyncio.Event()


class KernelPool:
    """Pairs for each of some kernelspecs, between `minimum` and `maximum` of each.

    `kernel_names` says of each whether it is started before anybody has asked for one.

    `confine` is the isolation for a work folder and a folder of sockets.
    `start` it, `take` a pair for each run, `close` it. With `fork_servers` pairs are forked. Each
    pair has a folder of its own in `folder`, which goes to whoever takes the pair.
    """

    def __init__(
        self,
        folder: Path,
        kernel_names: Mapping[str, bool],
        *,
        minimum: int = 1,
        maximum: int = 4,
        fork_servers: ForkServers | None = None,
        process_limits: Mapping[str, int] | None = None,
        confine: Callable[[Path, Path], Isolation] | None = None,
    ) -> None:
        self._folder = folder
        self._fork_servers = fork_servers
        self._process_limits = dict(process_limits or {})
        self._confine = confine
        now = time.monotonic()
        self._shelves = {
            name: _Shelf(name, Sizing(minimum, maximum, now=now, eager=eager))
            for name, eager in kernel_names.items()
        }
        self._tasks: set[asyncio.Task[None]] = set()
        # More at once would only slow each other, and what runs.
        self._starts = asyncio.Semaphore(max(1, (os.cpu_count() or 2) // 2))

    def start(self) -> None:
        """Begin to fill."""
        for shelf in self._shelves.values():
            self._own(self._keep(shelf))

    async def close(self) -> None:
        """End all that waits."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        pairs = [pair for shelf in self._shelves.values() for pair in self._empty(shelf)]
        await asyncio.gather(*(self._end(pair) for pair in pairs))

    def waiting(self, kernel_name: str) -> Waiting:
        """What waits of a kernelspec."""
        shelf = self._shelves.get(kernel_name)
        if shelf is None:
            return Waiting(0, None)
        return Waiting(len(shelf.ready), shelf.memory_bytes)

    async def take(self, kernel_name: str, environment: Environment | None = None) -> Pair:
        """A pair for one run: ready, or being started when none is. The caller closes it.

        Kernels that wait are in no `environment`: for one a kernel is started now.

        Raises OSError or ForkServerLostError when not even a supervising child can be started; why
        a kernel does not start is what the pair itself reports.
        """
        shelf = self._shelves.get(kernel_name) if environment is None else None
        if shelf is None:
            return await self._new(kernel_name, environment)
        pair: Pair | None = None
        if shelf.ready:
            pair = shelf.ready.popleft()
        elif shelf.starting:
            pair = next(iter(shelf.starting))
            del shelf.starting[pair]
        now = time.monotonic()
        shelf.sizing.took(len(shelf.ready), now)
        if shelf.refill_at < now:
            shelf.refill_at = now + _REFILL_AFTER_SECONDS
        shelf.wake.set()
        return pair if pair is not None else await self._new(kernel_name)

    async def _keep(self, shelf: _Shelf) -> None:
        """Have as many pairs wait as are wanted."""
        while True:
            shelf.wake.clear()
            excess = shelf.sizing.look(len(shelf.ready), time.monotonic())
            for _ in range(excess):
                self._own(self._end(shelf.ready.pop()))
            if (later := shelf.refill_at - time.monotonic()) > 0:
                await asyncio.sleep(later)
            missing = shelf.sizing.wanted - len(shelf.ready) - len(shelf.starting)
            if missing > 0 and not await self._add(shelf):
                await asyncio.sleep(shelf.pause)
                continue
            if missing <= 1:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(IDLE_SECONDS / 4):
                        await shelf.wake.wait()

    async def _add(self, shelf: _Shelf) -> bool:
        """Start one pair and wait until it is ready; whether it is, or somebody has it."""
        async with self._starts:
            try:
                pair = await self._new(shelf.kernel_name)
            except (OSError, ForkServerLostError) as error:
                self._failed(shelf, str(error))
                return False
            shelf.starting[pair] = None
            try:
                is_ready = await pair.ready()
            except BaseException:
                if pair in shelf.starting:
                    del shelf.starting[pair]
                    await self._end(pair)
                raise
            if pair not in shelf.starting:
                return True
            del shelf.starting[pair]
            if not is_ready:
                try:
                    message = await pair.receive()
                finally:
                    await self._end(pair)
                detail = message.detail if isinstance(message, RunFinished) else pair.last_words()
                self._failed(shelf, detail)
                return False
        shelf.backoff.reset()
        shelf.ready.append(pair)
        self._own(self._watch(shelf, pair))
        return True

    async def _watch(self, shelf: _Shelf, pair: Pair) -> None:
        """Measure a pair, and replace it when it dies while it waits."""
        shelf.memory_bytes = await asyncio.to_thread(_private_bytes, pair) or shelf.memory_bytes
        await pair.spoke()
        if pair in shelf.ready:
            shelf.ready.remove(pair)
            log.warning("waiting kernel died", kernel=shelf.kernel_name)
            shelf.wake.set()
            await self._end(pair)

    def _failed(self, shelf: _Shelf, detail: str) -> None:
        shelf.pause = shelf.backoff.fail()
        log.warning(
            "kernel not started",
            kernel=shelf.kernel_name,
            failures=shelf.backoff.failures,
            reason=detail,
        )

    async def _new(self, kernel_name: str, environment: Environment | None = None) -> Pair:
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=self._folder))
        try:
            launch = new_launch(
                folder,
                kernel_name,
                process_limits=self._process_limits,
                confine=self._confine,
                environment=environment,
            )
            return await Pair.start(launch, self._fork_servers)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def _end(self, pair: Pair) -> None:
        await finish_even_if_cancelled(_end(pair))

    def _empty(self, shelf: _Shelf) -> list[Pair]:
        pairs = [*shelf.ready, *shelf.starting]
        shelf.ready.clear()
        shelf.starting.clear()
        return pairs

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _end(pair: Pair) -> None:
    await pair.close(clean=False)
    await asyncio.to_thread(shutil.rmtree, pair.folder, ignore_errors=True)


def _private_bytes(pair: Pair) -> int:
    """Memory that is the pair's alone: of child and kernel, with their guardians; 0 if unknown."""
    total = 0
    kernel = None if pair.started is None else pair.started.pid
    for pid in (pair.child_pid, kernel):
        for each in (pid, None if pid is None else _parent(pid)):
            with contextlib.suppress(OSError, ValueError, IndexError):
                rollup = Path(f"/proc/{each}/smaps_rollup").read_text("ascii")
                total += sum(
                    int(line.split()[1]) * 1024
                    for line in rollup.splitlines()
                    if line.startswith(("Private_Clean:", "Private_Dirty:"))
                )
    return total


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat.rpartition(b")")[2].split()[1])
