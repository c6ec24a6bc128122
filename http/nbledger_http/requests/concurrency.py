"""The turn of a request: its place among those that are worked on."""

import asyncio
from typing import Any, cast

from litestar.types import Scope


class Turn:
    """A request's place among those that are worked on; whoever only waits gives it back."""

    __slots__ = ("_semaphore",)

    def __init__(self, semaphore: asyncio.Semaphore) -> None:
        self._semaphore: asyncio.Semaphore | None = semaphore

    def give_back(self) -> None:
        """Let another request have it; once is enough."""
        semaphore, self._semaphore = self._semaphore, None
        if semaphore is not None:
            semaphore.release()


def turn_of(scope: Scope) -> Turn:
    """The turn of the request with this scope."""
    return cast("Turn", cast("dict[str, Any]", scope)["turn"])


def is_head(scope: Scope) -> bool:
    """Whether the client wants headers only; the method then reads GET."""
    return cast("dict[str, Any]", scope).get("head") is True
