"""Calls that are answered together: while one lot is at work the next one gathers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Gathered(Generic[K, V]):
    """Asks ``work``, which answers ``most`` questions at once, in their order, within one loop.

    What it raises is told to all who asked together where it is one of ``common``; else each is
    asked for alone.
    """

    def __init__(
        self,
        work: Callable[[Sequence[K]], Awaitable[Sequence[V]]],
        most: int,
        common: tuple[type[Exception], ...],
    ) -> None:
        self._work = work
        self._common = common
        self._most = most
        self._waiting: list[tuple[K, asyncio.Future[V]]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, question: K) -> V:
        """The answer. Raises what ``work`` raises."""
        answer: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._answer(), name="gathered")
        return await answer

    async def close(self) -> None:
        """End what is under way; whoever waits is cancelled."""
        for _, answer in self._waiting:
            answer.cancel()
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _answer(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                await self._answer_all(asked)
            except asyncio.CancelledError:
                for _, answer in asked:
                    answer.cancel()
                raise

    async def _answer_all(self, asked: Sequence[tuple[K, asyncio.Future[V]]]) -> None:
        try:
            answers = await self._work([question for question, _ in asked])
        except Exception as error:  # noqa: BLE001 (it is told to whoever asked)
            if len(asked) > 1 and not isinstance(error, self._common):
                # One may have spoilt it for the others.
                for each in asked:
                    await self._answer_all([each])
                return
            for _, answer in asked:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for (_, answer), found in zip(asked, answers, strict=True):
                if not answer.done():
                    answer.set_result(found)
