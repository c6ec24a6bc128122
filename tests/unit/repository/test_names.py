"""Names: errors are called so, one name means one thing, and modules go by their own names."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from support.paths import ROOT, SOURCE_ROOTS

TWICE = {
    "Alternative": "in OpenAPI's description, and among the forms of a result",
    "Bundle": "a notebook with its files, and a history that strangers check with one program",
    "CellStarted": "the event, and the kernel's message that becomes it",
    "CellStatus": "the domain's, and the kernel's message that becomes it",
    "Environment": "what a notebook asks for, and what is provided for it",
    "Fault": "whose fault a termination is, and what an audit finds",
    "Incoming": "messages of a kernel, and the body of a request",
    "Kernel": "what isolation knows of a kernel, and the one that is started",
    "NewNotebook": "the command, and its body",
    "OutputsUpdated": "the event, and the kernel's message that becomes it",
    "Place": "in the body of a problem, and in an archive of results",
    "Run": "the run of a worker, and the body that asks for one",
    "Waiting": "in the queue, and in the pool of kernels",
}
"""Classes of one name in two packages or rooms, each with what they are. It only shrinks."""

NOT_ERROR = {
    "Problem": "what HTTP calls an answer that tells of one (RFC 9457)",
}
"""Exceptions whose names do not end in Error. It only shrinks."""

ALIASES = {
    "artifacts": "of `artifacts.store`",
    "cell_inputs": "of `requests.cells`",
    "requests": "of `requests.bodies`",
}
"""Other names for modules of our own. It only shrinks."""

_EXCEPTIONS = ("BaseException", "Exception")


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the service, without the notebook SDK and the client.

    These stand by themselves; the client's types and errors have the names of the API's on purpose.
    """
    for room in SOURCE_ROOTS:
        if room not in {"client", "sdk"}:
            for path in sorted((ROOT / room).rglob("*.py")):
                yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def classes() -> Iterator[tuple[str, ast.ClassDef]]:
    for path, tree in trees():
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                yield path, node


def test_one_name_means_one_class() -> None:
    places = defaultdict(list)
    for path, node in classes():
        if not node.name.startswith("_"):
            places[node.name].append(path)
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if name not in TWICE} == {}
    assert TWICE.keys() <= twice.keys(), "what has one meaning now needs no exception"


def test_errors_are_called_errors() -> None:
    bases = defaultdict(set)
    for _, node in classes():
        for base in node.bases:
            bases[node.name].add(
                base.attr if isinstance(base, ast.Attribute) else ast.unparse(base)
            )

    def is_error(name: str, *seen: str) -> bool:
        return (
            name in _EXCEPTIONS
            or (name.endswith("Error") and name not in bases)
            or any(is_error(base, name, *seen) for base in bases.get(name, set()) - {*seen, name})
        )

    found = {name for name in bases if is_error(name) and not name.endswith("Error")}
    assert found == set(NOT_ERROR)


def test_modules_go_by_their_own_names() -> None:
    ours = {Path(path).stem for path, _ in trees()}
    found = {
        alias.asname: f"{path}:{node.lineno}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nbledger")
        for alias in node.names
        if alias.asname
        and alias.name in ours
        and not alias.asname.endswith(alias.name)
        and (ROOT / room_of(node.module or "", alias.name)).exists()
    }
    assert {alias: place for alias, place in found.items() if alias not in ALIASES} == {}
    assert ALIASES.keys() <= found.keys(), "what is called by its name needs no exception"


def room_of(package: str, module: str) -> str:
    """The path of a module of ours, should there be one."""
    for room in SOURCE_ROOTS:
        path = f"{room}/{package.replace('.', '/')}/{module}.py"
        if (ROOT / path).exists():
            return path
    return "nowhere"
