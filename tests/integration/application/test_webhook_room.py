"""Room for attempts at webhooks, and questions to the database that are asked together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import pytest

from nbledger_application.webhooks import lanes
from nbledger_application.webhooks.gathered import Gathered
from nbledger_application.webhooks.lanes import Lanes


async def turns() -> None:
    """Let everything go on that can."""
    for _ in range(20):
        await asyncio.sleep(0)


class Attempts:
    """Attempts that go on until they are let go."""

    def __init__(self, room: Lanes) -> None:
        self._room = room
        self.under_way = 0
        self.let_go = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self, count: int, project_id: UUID, *, failing: bool = False) -> int:
        """Begin so many; returns how many attempts are under way then."""
        self._tasks += [
            asyncio.create_task(self._one(project_id, failing=failing)) for _ in range(count)
        ]
        await turns()
        return self.under_way

    async def _one(self, project_id: UUID, *, failing: bool) -> None:
        async with self._room.place(project_id, failing=failing):
            self.under_way += 1
            await self.let_go.wait()
            self.under_way -= 1

    async def end(self) -> int:
        """Let all of them end; returns how many are under way then."""
        self.let_go.set()
        await asyncio.gather(*self._tasks)
        return self.under_way


@pytest.mark.guarantee("G60")
async def test_a_project_takes_a_quarter_of_a_lane_and_leaves_the_rest_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "PARK_SECONDS", 3600.0)
    attempts = Attempts(Lanes(16))
    greedy, other = uuid4(), uuid4()
    assert await attempts.begin(20, greedy) == 3
    assert await attempts.begin(2, other) == 5
    assert await attempts.begin(20, greedy, failing=True) == 6
    assert await attempts.begin(1, other, failing=True) == 7
    assert await attempts.end() == 0


@pytest.mark.guarantee("G60")
async def test_what_takes_long_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "PARK_SECONDS", 0.0)
    attempts = Attempts(Lanes(16))
    # Beside the lane there is room for 32, and for a quarter of them of one project.
    await attempts.begin(20, uuid4())
    async with asyncio.timeout(20):
        while attempts.under_way < 8 + 3:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)
    assert await attempts.begin(0, uuid4()) == 8 + 3
    # The lane of those that fail has no room beside it.
    assert await attempts.begin(5, uuid4(), failing=True) == 8 + 3 + 1
    assert await attempts.end() == 0


async def test_a_place_is_given_back_whoever_is_cancelled() -> None:
    room = Lanes(4)
    project = uuid4()
    async with AsyncExitStack() as held:
        await held.enter_async_context(room.place(project, failing=False))
        waiting = asyncio.create_task(held.enter_async_context(room.place(project, failing=False)))
        await turns()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(20), room.place(project, failing=False):
        pass


async def test_questions_are_answered_together_and_one_spoils_no_other() -> None:
    asked: list[list[int]] = []

    async def work(questions: Sequence[int]) -> list[int]:
        asked.append(list(questions))
        if 13 in questions:
            raise ValueError("no such question")
        return [10 * each for each in questions]

    gathered = Gathered(work, 3, (OSError,))
    found = await asyncio.gather(
        *(gathered.ask(each) for each in (1, 2, 3, 4, 13)), return_exceptions=True
    )
    assert found[:4] == [10, 20, 30, 40]
    assert isinstance(found[4], ValueError)
    assert asked == [[1, 2, 3], [4, 13], [4], [13]]


async def test_what_all_suffer_from_is_not_tried_for_each() -> None:
    calls: list[int] = []

    async def work(questions: Sequence[int]) -> list[int]:
        calls.append(len(questions))
        raise OSError("away")

    gathered = Gathered(work, 10, (OSError,))
    found = await asyncio.gather(*(gathered.ask(each) for each in range(5)), return_exceptions=True)
    assert all(isinstance(each, OSError) for each in found)
    assert calls == [5]


async def test_whoever_asks_is_cancelled_when_it_is_closed() -> None:
    never = asyncio.Event()

    async def work(questions: Sequence[int]) -> list[int]:
        await never.wait()
        return list(questions)

    gathered = Gathered(work, 1, ())
    asking = [asyncio.create_task(gathered.ask(each)) for each in range(3)]
    await turns()
    await gathered.close()
    ended = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended)
