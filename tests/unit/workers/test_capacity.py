"""Slots are taken by weight, and a heavy run is not overtaken for ever."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from nbledger_application import queue
from nbledger_application.claims import Histories
from nbledger_application.queue import Waiting
from nbledger_infrastructure.commands import Command
from nbledger_workers.intake import taking
from nbledger_workers.intake.capacity import Slots, slots_of
from nbledger_workers.intake.doorbell import Doorbell
from nbledger_workers.intake.turns import Turns


def test_slots_are_counted_by_the_processors_that_there_are() -> None:
    cores = len(os.sched_getaffinity(0))
    assert slots_of(1.0) == cores
    assert slots_of(2.5) == round(2.5 * cores)
    assert slots_of(0.01) == 1


def test_a_run_takes_as_many_slots_as_its_kernel_type_weighs() -> None:
    slots = Slots(2, {"scala": 1.5, "r": 0.1})
    assert (slots.weight("python3"), slots.weight("r")) == (1.0, 0.1)
    slots.take(1.5)
    assert not slots.fits(1.0)
    for _ in range(5):
        assert slots.fits(0.1)
        slots.take(0.1)
    assert not slots.fits(0.1)
    slots.give_back(1.5)
    assert slots.fits(1.5)
    for _ in range(5):
        slots.give_back(0.1)
    # Heavier than all slots together: alone it fits.
    assert slots.fits(9.0)
    slots.take(9.0)
    assert not slots.fits(0.1)


class _Taker:
    """Takes what it is given, and gives slots back when it is told to."""

    def __init__(self, slots: Slots, given: list[Waiting]) -> None:
        self.taken: list[str] = []
        self._slots = slots
        self._given = given
        self.changed = asyncio.Event()

    async def read(self, command: Command) -> Histories | None:
        return None

    async def take(self, command: Command, histories: Histories | None) -> bool:
        chosen = self._given.pop(0)
        assert chosen.command == command
        self._slots.take(self._slots.weight(chosen.kernel_type))
        self.taken.append(chosen.kernel_type)
        self.changed.set()
        return True


def _waiting(kernel_type: str) -> Waiting:
    return Waiting("Normal", uuid4(), uuid4(), uuid4(), uuid4(), datetime.now(UTC), kernel_type)


@asynccontextmanager
async def _taking(slots: Slots, taker: _Taker, bell: Doorbell) -> AsyncIterator[None]:
    task = asyncio.create_task(
        taking.take_turns(
            None,  # type: ignore[arg-type]  # nobody asks the store
            ["python3", "r", "scala"],
            taker,
            slots=slots,
            turns=Turns(),
            doorbell=bell,
        )
    )
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_lighter_runs_do_not_overtake_a_heavy_one_whose_turn_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots, bell = Slots(2, {"scala": 2.0}), Doorbell()
    given = [_waiting(each) for each in ("python3", "scala", "python3")]
    offered = asyncio.Event()

    async def next_waiting(*_: object, passed_over: Sequence[UUID], **__: object) -> Waiting | None:
        if given and given[0].kernel_type == "scala":
            offered.set()
        return given[0] if given else None

    monkeypatch.setattr(queue, "next_waiting", next_waiting)
    taker = _Taker(slots, given)
    async with asyncio.timeout(10), _taking(slots, taker, bell):
        while taker.taken != ["python3"]:
            await taker.changed.wait()
            taker.changed.clear()
        await offered.wait()
        assert taker.taken == ["python3"], "the heavy one is next, and does not fit"
        slots.give_back(1.0)
        while taker.taken != ["python3", "scala"]:
            await taker.changed.wait()
            taker.changed.clear()
        slots.give_back(2.0)
        while taker.taken != ["python3", "scala", "python3"]:
            await taker.changed.wait()
            taker.changed.clear()
