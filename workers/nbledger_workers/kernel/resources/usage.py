"""Samples what a kernel and its descendants use while it runs, and holds them to their limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import msgspec

from nbledger_workers.kernel.processes import family
from nbledger_workers.kernel.processes.family import Family, Process
from nbledger_workers.kernel.protocol import CellResources, Heartbeat, Limits, UpMessage
from nbledger_workers.kernel.resources import limits
from nbledger_workers.kernel.resources.limits import Exceeded, Used

#: How often the kernel itself is looked at.
TICK_SECONDS: Final = 0.1
#: How often its descendants and its files are looked for, at the least: longer where a look costs
#: more CPU time than a hundredth of that.
SAMPLE_SECONDS: Final = 0.25
DISK_SECONDS: Final = 0.5
_COST_RATIO: Final = 100.0
#: How often it is looked how many processes there are and what they can hold at the most. That
#: costs little, and is never put off for long: whoever passes a limit makes all looks expensive.
GLANCE_SECONDS: Final = 0.25
_MOST_GLANCE_SECONDS: Final = 0.5
_GLANCE_RATIO: Final = 20.0
# Where a limit may have been passed, looks follow each other as fast as this, or as they cost.
_DOUBT_SECONDS: Final = 0.25
_WAIT_SECONDS: Final = 0.05
# A look at the files that costs less is not worth a thread.
_QUICK_SECONDS: Final = 0.002
HEARTBEAT_SECONDS: Final = 1.0


class _Cell(msgspec.Struct):
    cpu_seconds: float
    peak_bytes: int


class UsageSampler:
    """Peak memory, CPU time and disk of one run: its kernel, and all that it has started.

    `begin` it when the run begins, `watch` while it goes on. `on_exceeded` is told once, when the
    run passes a limit. Between samples the system's own mark of the kernel's peak is read, so
    that no peak of the kernel itself is missed, however short.
    """

    def __init__(
        self,
        folder: str,
        bounds: Limits | None = None,
        on_exceeded: Callable[[Exceeded], None] | None = None,
    ) -> None:
        self.peak_memory_bytes = 0
        self.cpu_seconds = 0.0
        self.disk_bytes = 0
        self.exceeded: Exceeded | None = None
        self._folder = folder
        self._given_bytes = 0
        self._bounds = bounds or Limits()
        self._on_exceeded = on_exceeded
        self._family: Family | None = None
        self._before = 0.0
        self._others: dict[tuple[int, int], Process] = {}
        self._others_seconds = 0.0
        self._waited = 0.0
        self._orphans_seconds = 0.0
        self._memory = 0
        self._others_memory = 0
        self._cell: _Cell | None = None
        self._resets = True
        self._next_sample = 0.0
        self._next_disk = 0.0
        self._disk_cost = 0.0
        self._disk_looked_at = 0.0
        self._taken_bytes = 0
        self._disk_looking: asyncio.Task[None] | None = None
        self._count = 0
        self._most_memory = 0
        self._next_glance = 0.0
        self._soonest_sample = 0.0
        # The system lets nobody see how a process shares its memory while that is being forked,
        # which takes the longer the more do it: whoever watches over limits cannot wait for it.
        self._looking = ThreadPoolExecutor(1, "memory")
        self._memory_look: Future[tuple[int, float]] | None = None
        self._oom_kills = 0

    @property
    def others(self) -> int:
        """How many processes the last sample found beside the kernel."""
        return sum(not each.is_zombie for each in self._others.values())

    def mapped_files(self) -> set[int]:
        """Inodes of files that the run has mapped into memory and shares with the system."""
        return set() if self._family is None else self._family.mapped_files()

    def begin(self, pid: int) -> None:
        """Count from here on; `pid` is the kernel's."""
        self._family = Family(pid)
        self._oom_kills = family.out_of_memory_kills()
        # What the run was given is none that it has taken.
        self._given_bytes = family.folder_bytes(self._folder)
        kernel = self._family.kernel()
        if kernel is not None:
            self._before = kernel.own_seconds + kernel.waited_seconds
            self._waited = kernel.waited_seconds
            self._memory = kernel.memory_bytes
        self._taken_bytes = family.taken_bytes(self._folder)
        self._disk_looked_at = time.monotonic()
        self._next_sample = self._next_disk = self._disk_looked_at + TICK_SECONDS

    async def watch(self, send: Callable[[UpMessage], Awaitable[None]]) -> None:
        """Sample until cancelled; send a heartbeat each second."""
        try:
            await self._watch(send)
        finally:
            if self._disk_looking is not None:
                await asyncio.gather(self._disk_looking, return_exceptions=True)

    async def _watch(self, send: Callable[[UpMessage], Awaitable[None]]) -> None:
        beat = time.monotonic() + HEARTBEAT_SECONDS
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.monotonic()
            if now >= self._next_glance:
                self._glance()
            if now >= self._next_sample or (self._memory_in_doubt() and self._soonest_sample < now):
                self.sample()
            else:
                self._look_at_kernel()
            if self._disk_is_due(now):
                # Beside this: to add up many files takes longer than others may wait.
                self._disk_looking = asyncio.create_task(self.measure_disk())
            self._hold_to_limits()
            if now >= beat:
                beat = now + HEARTBEAT_SECONDS
                await send(
                    Heartbeat(
                        memory_bytes=self._memory,
                        peak_memory_bytes=self.peak_memory_bytes,
                        cpu_seconds=self.cpu_seconds,
                        disk_bytes=self.disk_bytes,
                    )
                )

    def sample(self) -> None:
        """Look at the kernel and all that it has started."""
        family = self._family
        if family is None:
            return
        self._glance()
        if self._too_many():
            # To look at each would take the longer the more there are.
            self._hold_to_limits()
            return
        begun = time.thread_time()
        kernel = family.kernel()
        if kernel is None:
            return
        others = {
            (each.pid, each.started): each
            for each in family.members()
            if not family.is_kernel(each, kernel)
        }
        for key, each in self._others.items():
            # What its parent has waited for is in the parent's account; the others' in nobody's.
            if key not in others and each.parent in (1, kernel.parent):
                self._orphans_seconds += each.own_seconds + each.waited_seconds
        self._others = others
        self._others_seconds = sum(
            each.own_seconds + each.waited_seconds for each in others.values()
        )
        self._waited = kernel.waited_seconds
        # Forked processes share most of their pages: a sum would count them again and again.
        cost = time.thread_time() - begun
        if not others:
            self._others_memory = 0
        else:
            if self._memory_look is None:
                limit = self._bounds.memory_bytes
                enough = limit and max(limit - kernel.memory_bytes, 1)
                self._memory_look = self._looking.submit(
                    _memory_of, family, list(others.values()), enough
                )
            cost += self._take_memory(_WAIT_SECONDS)
        self._take(kernel)
        now = time.monotonic()
        self._next_sample = now + max(SAMPLE_SECONDS, _COST_RATIO * cost)
        self._soonest_sample = now + max(_DOUBT_SECONDS, cost)

    def _take_memory(self, seconds: float) -> float:
        """Take the others' memory if it is known in so many seconds; what it cost to look."""
        look = self._memory_look
        if look is None:
            return 0.0
        try:
            self._others_memory, cost = look.result(seconds)
        except TimeoutError:
            return 0.0
        self._memory_look = None
        return cost

    def _glance(self) -> None:
        """See how many processes there are, and what memory they can hold at the most."""
        if self._family is None:
            return
        self._take_memory(0)
        begun = time.thread_time()
        self._count, self._most_memory = self._family.glance(self._bounds.processes)
        cost, now = time.thread_time() - begun, time.monotonic()
        wait = min(max(GLANCE_SECONDS, _GLANCE_RATIO * cost), _MOST_GLANCE_SECONDS)
        self._next_glance = now + max(wait, cost)

    def _too_many(self) -> bool:
        return 0 < self._bounds.processes < self._count

    def _memory_in_doubt(self) -> bool:
        return 0 < self._bounds.memory_bytes < self._most_memory

    def _disk_is_due(self, now: float) -> bool:
        if self._disk_looking is not None and not self._disk_looking.done():
            return False
        if now >= self._next_disk:
            return True
        limit = self._bounds.disk_bytes
        if not limit or now < self._disk_looked_at + max(DISK_SECONDS, self._disk_cost):
            return False
        # What others take or give back beside it makes a look early or late, and no harm.
        grown = family.taken_bytes(self._folder) - self._taken_bytes
        return self.disk_bytes + grown > limit

    def cell_begins(self) -> None:
        """The figures of `cell_ends` count from here."""
        if self._family is None:
            return
        self._look_at_kernel()
        self._note_peak()
        self._resets = self._resets and family.reset_high_water(self._family.pid)
        self._cell = _Cell(cpu_seconds=self.cpu_seconds, peak_bytes=self._memory)

    def cell_ends(self) -> CellResources | None:
        """What the cell used; None where nothing can be measured."""
        cell = self._cell
        if cell is None:
            return None
        if time.monotonic() >= self._next_sample:
            self.sample()
        else:
            self._look_at_kernel()
        self._note_peak()
        if (
            self._disk_cost <= _QUICK_SECONDS
            and time.monotonic() >= self._disk_looked_at + _COST_RATIO * self._disk_cost
        ):
            self._look_at_disk()
        self._cell = None
        return CellResources(
            peak_memory_bytes=cell.peak_bytes,
            cpu_seconds=max(self.cpu_seconds - cell.cpu_seconds, 0.0),
            disk_bytes=self.disk_bytes,
        )

    async def measure_disk(self) -> None:
        """Add up the files of the run."""
        if self._disk_cost <= _QUICK_SECONDS:
            self._look_at_disk()
        else:
            await asyncio.to_thread(self._look_at_disk)

    def _look_at_disk(self) -> None:
        begun = time.thread_time()
        limit = self._bounds.disk_bytes
        enough = limit and limit + self._given_bytes
        self._taken_bytes = family.taken_bytes(self._folder)
        found = family.folder_bytes(self._folder, enough=enough)
        self.disk_bytes = max(found - self._given_bytes, 0)
        self._disk_cost = time.thread_time() - begun
        self._disk_looked_at = time.monotonic()
        self._next_disk = self._disk_looked_at + max(DISK_SECONDS, _COST_RATIO * self._disk_cost)

    def conclude(self) -> None:
        """Take no more samples."""
        if self._family is not None:
            self._family.close()
            self._family = None
        self._looking.shutdown(wait=False)

    def ended_for_memory(self) -> bool:
        """Whether the system has ended a process for want of memory since the run began."""
        return family.out_of_memory_kills() > self._oom_kills

    def _look_at_kernel(self) -> None:
        kernel = None if self._family is None else self._family.kernel()
        if kernel is not None:
            self._take(kernel)

    def _take(self, kernel: Process) -> None:
        # What has ended since the others were looked at is in the kernel's account by now.
        others = max(self._others_seconds - (kernel.waited_seconds - self._waited), 0.0)
        spent = kernel.own_seconds + kernel.waited_seconds - self._before
        self.cpu_seconds = max(self.cpu_seconds, spent + others + self._orphans_seconds)
        self._memory = kernel.memory_bytes + self._others_memory
        self._put_peak(self._memory)

    def _note_peak(self) -> None:
        if self._family is not None:
            self._put_peak(family.high_water(self._family.pid))

    def _put_peak(self, memory: int) -> None:
        self.peak_memory_bytes = max(self.peak_memory_bytes, memory)
        if self._cell is not None:
            self._cell.peak_bytes = max(self._cell.peak_bytes, memory)

    def _hold_to_limits(self) -> None:
        if self.exceeded is not None or self._family is None:
            return
        used = Used(
            memory_bytes=self._memory,
            cpu_seconds=self.cpu_seconds,
            processes=max(1 + len(self._others), self._count),
            disk_bytes=self.disk_bytes,
        )
        self.exceeded = limits.check(self._bounds, used)
        if self.exceeded is not None and self._on_exceeded is not None:
            self._on_exceeded(self.exceeded)


def _memory_of(family: Family, members: list[Process], enough: int) -> tuple[int, float]:
    """Their memory, where it is not beyond `enough` before the last; and the CPU time it took."""
    begun = time.thread_time()
    total = 0
    for each in members:
        total += family.proportional_memory(each)
        if enough and total > enough:
            break
    return total, time.thread_time() - begun
