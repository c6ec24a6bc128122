"""Calls that may hang, such as of a folder on a network: none of them holds up anything else.

Threads of asyncio's own pool are few, name look-ups need them, and a process waits for them before
it ends. So these calls have threads of their own, which end with the process, wherever they are.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class HangingError(Exception):
    """As many calls as may be under way hang; no other is begun."""


class HangingCalls:
    """Calls of one thing that may hang, of which at most ``most`` are under way at once."""

    def __init__(self, name: str, most: int) -> None:
        self._name: Final = name
        self._most: Final = most
        self._under_way: set[Future[object]] = set()

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in a thread; whoever is cancelled leaves it behind, under way.

        Raises :class:`HangingError` where ``most`` are under way already.
        """
        # What has ended is taken out here, where no other thread can come between.
        self._under_way = {each for each in self._under_way if not each.done()}
        if len(self._under_way) >= self._most:
            raise HangingError(f"{self._name} does not answer")
        outcome: Future[T] = Future()
        # A call that runs cannot be cancelled.
        outcome.set_running_or_notify_cancel()

        def run() -> None:
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 (raised where it is awaited)
                outcome.set_exception(error)
            else:
                outcome.set_result(result)

        Thread(target=run, name=self._name, daemon=True).start()
        self._under_way.add(outcome)  # type: ignore[arg-type]
        return await asyncio.wrap_future(outcome)
