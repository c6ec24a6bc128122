"""Steps that wait to be recorded while the run goes on: in order, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from nbledger_domain.execution import Execution
from nbledger_workers.translation.steps import Step

_BATCH_BYTES: Final = 1_000_000
_BATCH_STEPS: Final = 256
_STEP_BYTES: Final = 500
"""What a step weighs beside what it is told to weigh."""


class _Group(msgspec.Struct, frozen=True):
    steps: Sequence[Step]
    weight: int
    then: Callable[[], None] | None


class PendingSteps:
    """Has ``record`` append the steps of one run behind it; :meth:`start` and :meth:`close` it.

    While the store answers, steps wait for moments. While it is away they gather, up to
    ``max_bytes``, beyond which :meth:`put` waits and with it the run.
    """

    def __init__(self, record: Callable[[Step], Awaitable[None]], *, max_bytes: int) -> None:
        self._record_step = record
        self._max_bytes = max_bytes
        self._groups: deque[_Group] = deque()
        # Of what is not recorded yet, with what is being recorded.
        self._count = 0
        self._bytes = 0
        self._put = asyncio.Event()
        self._recorded = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def recording(self) -> asyncio.Task[None]:
        """The task that records; it ends only by an error, which is the run's."""
        assert self._task is not None  # noqa: S101 - started before
        return self._task

    def start(self) -> None:
        """Begin to record what is put."""
        self._task = asyncio.create_task(self._record_all(), name="pending steps")

    async def put(
        self, steps: Sequence[Step], *, weight: int = 0, then: Callable[[], None] | None = None
    ) -> None:
        """Have steps recorded in one append; ``then`` is called once they are.

        ``weight`` is the bytes that they hold in memory. Waits while too much waits already.
        Raises what recording has met.
        """
        weight += _STEP_BYTES * len(steps)
        await self._until(lambda: not self._count or self._bytes + weight <= self._max_bytes)
        self._groups.append(_Group(steps, weight, then))
        self._count += 1
        self._bytes += weight
        self._put.set()

    async def flush(self) -> None:
        """Wait until all is recorded; raises what recording has met."""
        await self._until(lambda: not self._count)

    async def close(self) -> None:
        """Record no more; what waits is dropped."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _until(self, condition: Callable[[], bool]) -> None:
        recording = self.recording
        while not (recording.done() or condition()):
            self._recorded.clear()
            waiting = asyncio.create_task(self._recorded.wait())
            try:
                await asyncio.wait({waiting, recording}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
        if recording.done():
            recording.result()

    async def _record_all(self) -> None:
        while True:
            await self._put.wait()
            self._put.clear()
            while self._groups:
                await self._record(self._next())

    def _next(self) -> list[_Group]:
        batch = [self._groups.popleft()]
        size, steps = batch[0].weight, len(batch[0].steps)
        while self._groups and size < _BATCH_BYTES and steps < _BATCH_STEPS:
            batch.append(self._groups.popleft())
            size += batch[-1].weight
            steps += len(batch[-1].steps)
        return batch

    async def _record(self, batch: Sequence[_Group]) -> None:
        await self._record_step(_all_of([step for group in batch for step in group.steps]))
        for group in batch:
            if group.then is not None:
                group.then()
        self._count -= len(batch)
        self._bytes -= sum(group.weight for group in batch)
        self._recorded.set()


def _all_of(steps: Sequence[Step]) -> Step:
    """One step that takes all of these."""

    def step(execution: Execution) -> None:
        for each in steps:
            each(execution)

    return step
