"""What is wrong with a body that is no JSON, and where."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from nbledger_domain.errors import Fault

MAX_TOLD = 20
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity\b|NaN\b', re.DOTALL)
_BYTE = re.compile(r"\(byte (\d+)\)")
_WORD = re.compile(r"[A-Za-z]{2,20}(?![A-Za-z])")
_LONGEST = 4_000
"""Digits of an integer that Python converts without fail."""


class _NoJson:
    """Stands for a value that Python's JSON knows and JSON does not."""

    def __init__(self, word: str) -> None:
        self.word = word


def faults_of_json(body: str, error: Exception) -> list[Fault]:
    """The faults of ``body``, which a strict decoder has refused with ``error``."""
    if faults := _numbers(body):
        return faults
    reason = str(error).removeprefix("JSON is malformed: ")
    if reason == "Input data was truncated":
        reason = "it ends too early"
    found = _BYTE.search(reason)
    if found is None:
        return [Fault("", f"is not JSON: {reason}")]
    start = len(body.encode()[: int(found[1])].decode("utf-8", "ignore"))
    line, column = _place(body, start)
    word = _WORD.match(body, start)
    what = f"{word[0]} is no JSON," if word else reason.removesuffix(found[0]).rstrip()
    return [Fault("", f"is not JSON: {what} at line {line}, column {column} {found[0]}")]


def repeated_members(body: bytes) -> list[Fault]:
    """A fault for each member of ``body``, which is JSON, whose name another one has, too."""
    if not _repeats(body):
        return []
    value = json.loads(body, object_pairs_hook=_Pairs, parse_int=len, parse_float=len)
    faults: list[Fault] = []
    pending: list[tuple[str, Any]] = [("", value)]
    while pending and len(faults) < MAX_TOLD:
        pointer, each = pending.pop()
        if isinstance(each, _Pairs):
            found: set[str] = set()
            for key, item in each.pairs:
                below = f"{pointer}/{_step(key)}"
                if key in found:
                    faults.append(Fault(below, "is given more than once"))
                found.add(key)
                pending.append((below, item))
        elif isinstance(each, list):
            pending += [(f"{pointer}/{place}", item) for place, item in enumerate(each)]
    return list(dict.fromkeys(faults))


def _repeats(body: bytes) -> bool:
    """Whether any member's name is another one's, too; quick, as ordinary bodies have none."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len(dict(pairs)) < len(pairs)

    json.loads(body, object_pairs_hook=look, parse_int=len, parse_float=len)
    return found


class _Pairs:
    """A JSON object with all of its members."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def _step(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _numbers(body: str) -> list[Fault]:
    """A fault for each NaN, infinity, or number that no double holds; none if there is more."""
    try:
        value = json.loads(body, parse_constant=_NoJson, parse_float=_float, parse_int=_integer)
    except (ValueError, RecursionError):
        return []
    words = [each for each in _TOKEN.finditer(body) if not each[0].startswith('"')]
    found = list(_found(value))
    # Of members with one name only the last is among what was found.
    constants = [each for _, each in found if not each.word.startswith("a number")]
    places = iter(words) if len(constants) == len(words) else None
    faults: list[Fault] = []
    for pointer, each in found[:MAX_TOLD]:
        if each.word.startswith("a number"):
            faults.append(Fault(pointer, f"is {each.word}"))
            continue
        where = ""
        if places is not None:
            place = next(places)
            line, column = _place(body, place.start())
            byte = len(body[: place.start()].encode())
            where = f" (line {line}, column {column}, byte {byte})"
        faults.append(Fault(pointer, f"is {each.word}, which is no JSON{where}; send null or text"))
    return faults


def _found(value: Any, pointer: str = "") -> Iterator[tuple[str, _NoJson]]:
    if isinstance(value, _NoJson):
        yield pointer, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _found(item, f"{pointer}/{_step(key)}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _found(item, f"{pointer}/{place}")


def _float(text: str) -> float | _NoJson:
    value = float(text)
    return value if math.isfinite(value) else _NoJson("a number larger than any double")


def _integer(text: str) -> int | _NoJson:
    if len(text) > _LONGEST:
        return _NoJson(f"a number of more than {_LONGEST:,} digits")
    return int(text)


def _place(body: str, start: int) -> tuple[int, int]:
    """Line and column of a character, from 1."""
    before = body[:start]
    return before.count("\n") + 1, start - (before.rfind("\n") + 1) + 1
