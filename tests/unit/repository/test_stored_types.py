"""SQL compares types of events by all names that they are stored under, not the newest alone."""

import ast
from collections.abc import Iterator

from support.paths import ROOT, SOURCE_ROOTS

EXCEPT = {
    "infrastructure/nbledger_infrastructure/packages/uploads.py": (
        "its index is of that type alone, and looks into the data: both change with a version"
    )
}
_QUERIES = {"fetch", "fetchrow", "fetchval", "execute", "executemany", "cursor"}


def names_newest(node: ast.AST, plain: set[str]) -> bool:
    """Whether an expression holds a class's `TYPE`, or a name of `plain`, as it is."""
    if isinstance(node, ast.Call):
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr == "stored_names":
            return False
    if isinstance(node, ast.Attribute) and node.attr == "TYPE":
        return True
    if isinstance(node, ast.Name) and node.id in plain:
        return True
    return any(names_newest(child, plain) for child in ast.iter_child_nodes(node))


def faults(tree: ast.Module) -> Iterator[int]:
    """The lines of queries that are given the newest name of a type."""
    plain: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and names_newest(statement.value, set()):
            plain |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _QUERIES
            and any(names_newest(argument, plain) for argument in node.args)
        ):
            yield node.lineno


def test_queries_name_stored_types() -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for room in SOURCE_ROOTS
        for path in sorted((ROOT / room).rglob("*.py"))
        if (lines := list(faults(ast.parse(path.read_text()))))
    }
    assert found.keys() == EXCEPT.keys(), found


def test_faults_are_seen() -> None:
    code = """
_ENDED = [event.TYPE for event in TERMINAL]
_STORED = EVENT_TYPES.stored_names(A.TYPE)
c.fetch("SELECT", A.TYPE)
c.fetch("SELECT", [A.TYPE, B.TYPE])
c.fetchval("SELECT", _ENDED)
c.fetch("SELECT", _STORED, EVENT_TYPES.stored_names(A.TYPE))
"""
    assert list(faults(ast.parse(code))) == [4, 5, 6]
