"""Which tests stand behind which promise of docs/guarantees.md.

`python tests/support/guarantees.py` fails on a promise without a test, and on a test that names a
promise which is not there; `--list` prints the tests of each promise.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator

from support.paths import ROOT, TESTS

PAGE = ROOT / "docs" / "guarantees.md"


def promises() -> dict[str, str]:
    """The title of each promise by its number, as the page has them."""
    paragraphs = re.split(r"\n{2,}", PAGE.read_text())
    found = (re.match(r"\*\*(G\d+)\. (.+?)\*\*", " ".join(each.split())) for each in paragraphs)
    return {each[1]: each[2] for each in found if each is not None}


def _numbers(marks: list[ast.expr]) -> Iterator[str]:
    for mark in marks:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.guarantee":
            yield from (str(ast.literal_eval(argument)) for argument in mark.args)


def tests() -> dict[str, list[str]]:
    """The tests that name each number, as pytest would name them."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for number in _numbers(node.decorator_list):
                    found[number].append(f"{path.relative_to(ROOT)}::{node.name}")
    return found


def faults() -> list[str]:
    """What is wrong, one line each."""
    promised, shown = promises(), tests()
    return [
        *(f"{number} has no test: {promised[number]}" for number in promised.keys() - shown.keys()),
        *(
            f"{test} names {number}, which docs/guarantees.md does not have"
            for number in shown.keys() - promised.keys()
            for test in shown[number]
        ),
    ]


def main() -> None:
    """Print what is asked for; exit with what is wrong."""
    if "--list" in sys.argv[1:]:
        shown = tests()
        for number, title in promises().items():
            print(f"{number}. {title}")
            for test in shown[number]:
                print(f"    {test}")
    if found := faults():
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
