"""Every operation of the API has its verb, and both clients have the same ones."""

from __future__ import annotations

import inspect
from collections import defaultdict
from typing import Any

import pytest
from client_models import openapi, snake
from support.client_verbs import groups, verbs

from nbledger_client import AsyncClient, Client
from nbledger_client.core.verbs import AwaitingGroup, BlockingGroup

NO_VERBS = {
    "getSchemaPage": "a page for people, whose content `openapi` reads",
    "getAsyncApiPage": "a page for people, whose content `asyncapi` reads",
}
"""Operations without a verb, and why."""

HIDDEN = {
    "page": "lists are iterated",
    "cursor": "lists are iterated",
    "format": "each form has a verb of its own, or an argument of the same name",
}
"""Parameters of queries that are no arguments, and why."""

OTHERWISE = {
    "from": "from_",
    "limit": "page_size",
    "event": "event_id",
    "downloadFile": "the link has them all",
}


@pytest.fixture(scope="module")
def operations() -> dict[str, dict[str, Any]]:
    document = openapi()
    return {
        operation["operationId"]: operation
        for path in document["paths"].values()
        for operation in path.values()
    }


def by_operation() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for group in groups():
        for each in verbs(group).values():
            for operation in each.operations:
                found[operation].append(each)
    return found


def test_every_operation_has_a_verb_or_a_reason(operations: dict[str, Any]) -> None:
    assert by_operation().keys() | NO_VERBS.keys() == operations.keys()
    assert not by_operation().keys() & NO_VERBS.keys()


def test_every_parameter_of_a_query_is_an_argument(operations: dict[str, Any]) -> None:
    lacking = []
    for name, found in by_operation().items():
        arguments = set().union(*(_arguments(each.function) for each in found))
        for parameter in operations[name].get("parameters", []):
            told = parameter["name"]
            if parameter["in"] != "query" or told in HIDDEN or name in OTHERWISE:
                continue
            if OTHERWISE.get(told, snake(told)) not in arguments:
                lacking.append((name, told))
    assert lacking == []


def _arguments(function: Any) -> set[str]:
    found = set()
    for name, parameter in inspect.signature(function).parameters.items():
        found.add(name)
        if parameter.kind is parameter.VAR_KEYWORD:
            told = parameter.annotation.removeprefix("Unpack[").removesuffix("]")
            found |= set(function.__globals__[told].__annotations__)
    return found


def test_both_clients_have_the_same_verbs() -> None:
    awaiting = {group.__name__: group for group in groups(AwaitingGroup)}
    for group in groups(BlockingGroup):
        other = awaiting.pop(f"Async{group.__name__}")
        assert verbs(group) == verbs(other)
    assert awaiting == {}


async def test_both_clients_have_the_same_groups() -> None:
    found = set()
    with Client("http://127.0.0.1:9") as blocking:
        async with AsyncClient("http://127.0.0.1:9") as awaited:
            for name in dir(blocking):
                if not name.startswith("_") and isinstance(getattr(blocking, name), BlockingGroup):
                    assert type(getattr(awaited, name)).__name__.startswith("Async")
                    found.add(type(getattr(blocking, name)))
    assert found == set(groups())


@pytest.mark.parametrize("group", [*groups()], ids=lambda group: group.__name__)
def test_every_verb_says_what_it_does_by_an_example(group: Any) -> None:
    for name, each in verbs(group).items():
        assert ">>> " in (each.__doc__ or ""), name


def test_a_verb_shows_the_arguments_that_it_takes() -> None:
    with Client("http://127.0.0.1:9") as client:
        signature = inspect.signature(client.executions.wait)
        assert list(signature.parameters) == ["execution", "timeout"]
        assert client.executions.wait is client.executions.wait
