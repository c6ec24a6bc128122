"""Steps that wait to be recorded: in order, in few appends, within a bound, and with its errors."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from nbledger_application.recording import FencedError
from nbledger_domain.execution import Execution
from nbledger_workers.running.pending import PendingSteps
from nbledger_workers.translation.steps import Step


class Store:
    """Takes steps while it is open; each is a call that leaves its number."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = asyncio.Event()
        self.appends: list[list[int]] = []
        self.error: Exception | None = None

    async def record(self, step: Step) -> None:
        self.asked.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        told: list[int] = []
        step(cast("Execution", told))
        self.appends.append(told)


def numbered(number: int) -> list[Step]:
    return [lambda told: cast("Any", told).append(number)]


async def test_steps_are_recorded_in_order_while_others_are_put() -> None:
    store, then = Store(), list[int]()
    pending = PendingSteps(store.record, max_bytes=1_000_000)
    pending.start()
    await pending.put(numbered(0), then=lambda: then.append(0))
    await store.asked.wait()
    for number in range(1, 50):
        await pending.put(numbered(number))
    assert not then
    store.open.set()
    await pending.flush()
    assert then == [0]
    assert store.appends == [[0], list(range(1, 50))]
    await pending.close()


async def test_more_than_the_bound_is_waited_with() -> None:
    store = Store()
    pending = PendingSteps(store.record, max_bytes=10_000)
    pending.start()
    await pending.put(numbered(0), weight=6_000)
    late = asyncio.create_task(pending.put(numbered(1), weight=6_000))
    await store.asked.wait()
    await asyncio.sleep(0)
    assert not late.done()
    store.open.set()
    await late
    await pending.flush()
    assert store.appends == [[0], [1]]
    # One that is larger than the bound by itself goes alone.
    await pending.put(numbered(2), weight=50_000)
    await pending.flush()
    await pending.close()


async def test_what_recording_meets_reaches_whoever_puts_or_waits() -> None:
    store = Store()
    pending = PendingSteps(store.record, max_bytes=1_000)
    pending.start()
    await pending.put(numbered(0), weight=900)
    late = asyncio.create_task(pending.put(numbered(1), weight=900))
    store.error = FencedError("taken over")
    store.open.set()
    for waiting in (late, pending.flush(), pending.put(numbered(2))):
        with pytest.raises(FencedError):
            await waiting
    await pending.close()
