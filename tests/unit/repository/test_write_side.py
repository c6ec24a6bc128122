"""What import-linter cannot see: who calls the methods of the event store that write."""

import ast
from collections.abc import Iterator

from support.paths import ROOT, SOURCE_ROOTS


def appends(call: ast.Call) -> bool:
    """Whether the call is one of ``EventStore.append``, whatever the store is called."""
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr == "append"
        and any(keyword.arg == "expected_version" for keyword in call.keywords)
    )


def erases(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "erase_subject"


def calls() -> Iterator[tuple[str, ast.Call]]:
    for room in SOURCE_ROOTS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    yield str(path.relative_to(ROOT)), node


def test_one_function_appends_and_one_reaction_erases() -> None:
    found = list(calls())
    assert [path for path, call in found if appends(call)] == [
        "application/nbledger_application/repository.py"
    ]
    assert [path for path, call in found if erases(call)] == [
        "application/nbledger_application/reactions/eraser.py"
    ]
