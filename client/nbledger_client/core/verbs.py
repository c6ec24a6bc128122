"""Verbs: written once, and called in both ways.

A group of verbs is a class whose methods make a :class:`Call` or go through steps. ``@verb`` turns
such a method into one that returns the result where the group blocks, and an awaitable of it where
the group awaits; ``@listing`` does the same for what is iterated.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from nbledger_client.core.requests import Call
from nbledger_client.core.steps import Item, Items, Steps

if TYPE_CHECKING:
    from nbledger_client.core.awaiting import Awaiting
    from nbledger_client.core.blocking import Blocking
    from nbledger_client.core.conversation import Conversation

P = ParamSpec("P")
T = TypeVar("T")


class HasNextPage(Protocol):
    """A page of a list."""

    has_next_page: bool


Page = TypeVar("Page", bound=HasNextPage)


class Group:
    """Verbs about one kind of thing."""

    def __init__(self, talk: Conversation) -> None:
        self._talk = talk

    def _pages(
        self,
        path: str,
        answer: type[Page],
        items: Callable[[Page], Sequence[T]],
        query: Mapping[str, Any],
        *,
        own_writes: bool = True,
    ) -> Items[T]:
        """Everything in a list, page by page."""
        page = 1
        while True:
            call = Call("GET", path, answer, {**query, "page": page}, own_writes=own_writes)
            found = yield from self._talk.ask(call)
            for each in items(found):
                yield Item(each)
            if not found.has_next_page:
                return
            page += 1


class BlockingGroup(Group):
    """Whose verbs return when it is done."""

    def __init__(self, talk: Conversation, io: Blocking) -> None:
        super().__init__(talk)
        self._io = io

    def _run(self, steps: Steps[T]) -> T:
        return self._io.run(steps)

    def _iterate(self, items: Items[T]) -> Generator[T, None, None]:
        return self._io.iterate(items)


class AwaitingGroup(Group):
    """Whose verbs are awaited."""

    def __init__(self, talk: Conversation, io: Awaiting) -> None:
        super().__init__(talk)
        self._io = io

    def _run(self, steps: Steps[T]) -> Coroutine[Any, Any, T]:
        return self._io.run(steps)

    def _iterate(self, items: Items[T]) -> AsyncGenerator[T, None]:
        return self._io.iterate(items)


class Declared(Generic[P, T]):
    """What a verb is before it belongs to a client.

    Attributes:
        function: what makes the call, or goes through the steps.
        operations: ids of the API's operations that it uses.
    """

    def __init__(
        self, function: Callable[Concatenate[Any, P], Any], operations: tuple[str, ...]
    ) -> None:
        self.function = function
        self.operations = operations
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type[Group], name: str) -> None:
        self._name = name


class Verb(Declared[P, T]):
    """A verb with one result."""

    @overload
    def __get__(self, group: None, owner: type[Group]) -> Verb[P, T]: ...

    @overload
    def __get__(self, group: BlockingGroup, owner: type[Group]) -> Callable[P, T]: ...

    @overload
    def __get__(
        self, group: AwaitingGroup, owner: type[Group]
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, group: Any, owner: type[Group]) -> Any:
        """The verb of a group; the group keeps it."""
        return self if group is None else self._bound(group)

    def _bound(self, group: Any) -> Callable[..., Any]:
        made = self.function.__get__(group)

        @functools.wraps(made)
        def bound(*args: P.args, **kwargs: P.kwargs) -> Any:
            found = made(*args, **kwargs)
            return group._run(group._talk.ask(found) if isinstance(found, Call) else found)  # noqa: SLF001

        group.__dict__[self._name] = bound
        return bound


class Listing(Declared[P, T]):
    """A verb that hands out one thing after another."""

    @overload
    def __get__(self, group: None, owner: type[Group]) -> Listing[P, T]: ...

    @overload
    def __get__(
        self, group: BlockingGroup, owner: type[Group]
    ) -> Callable[P, Generator[T, None, None]]: ...

    @overload
    def __get__(
        self, group: AwaitingGroup, owner: type[Group]
    ) -> Callable[P, AsyncGenerator[T, None]]: ...

    def __get__(self, group: Any, owner: type[Group]) -> Any:
        """The verb of a group; the group keeps it."""
        return self if group is None else self._bound(group)

    def _bound(self, group: Any) -> Callable[..., Any]:
        made = self.function.__get__(group)

        @functools.wraps(made)
        def bound(*args: P.args, **kwargs: P.kwargs) -> Any:
            return group._iterate(made(*args, **kwargs))  # noqa: SLF001

        group.__dict__[self._name] = bound
        return bound


def verb(
    *operations: str,
) -> Callable[[Callable[Concatenate[Any, P], Call[T]]], Verb[P, T]]:
    """A verb that is one request, of the operations with these ids."""

    def of(function: Callable[Concatenate[Any, P], Call[T]]) -> Verb[P, T]:
        return Verb(function, operations)

    return of


def procedure(
    *operations: str,
) -> Callable[[Callable[Concatenate[Any, P], Steps[T]]], Verb[P, T]]:
    """A verb that takes several steps."""

    def of(function: Callable[Concatenate[Any, P], Steps[T]]) -> Verb[P, T]:
        return Verb(function, operations)

    return of


def listing(
    *operations: str,
) -> Callable[[Callable[Concatenate[Any, P], Items[T]]], Listing[P, T]]:
    """A verb that is iterated."""

    def of(function: Callable[Concatenate[Any, P], Items[T]]) -> Listing[P, T]:
        return Listing(function, operations)

    return of
