"""Applying differences as nbdime specifies them, to check them by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def patched(value: Any, diff: Sequence[Mapping[str, Any]]) -> Any:
    """What ``diff`` makes of a value of JSON; texts are patched by their lines."""
    if isinstance(value, dict):
        return _object(value, diff)
    if isinstance(value, str):
        return "".join(_sequence(value.splitlines(keepends=True), diff, _line))
    return _sequence(value, diff, patched)


def _object(value: dict[str, Any], diff: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    made = dict(value)
    for each in diff:
        key = each["key"]
        if each["op"] == "remove":
            del made[key]
        elif each["op"] == "patch":
            made[key] = patched(made[key], each["diff"])
        else:
            assert (each["op"] == "add") == (key not in made)
            made[key] = each["value"]
    return made


def _line(value: str, diff: Sequence[Mapping[str, Any]]) -> str:
    return "".join(_sequence(list(value), diff, None))


def _sequence(value: Sequence[Any], diff: Sequence[Mapping[str, Any]], inner: Any) -> list[Any]:
    made: list[Any] = []
    at = 0
    for each in diff:
        assert each["key"] >= at, "operations are in order"
        made += value[at : each["key"]]
        at = each["key"]
        if each["op"] == "addrange":
            assert each["valuelist"]
            made += each["valuelist"]
        elif each["op"] == "removerange":
            assert 0 < each["length"] <= len(value) - at
            at += each["length"]
        else:
            assert each["op"] == "patch"
            made.append(inner(value[at], each["diff"]))
            at += 1
    return [*made, *value[at:]]
