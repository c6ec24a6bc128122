"""Mutants of a program: one small change each, as a slip of the hand would make it."""

from __future__ import annotations

import ast
import copy
import signal
import warnings
from collections.abc import Iterator, Sequence
from types import CodeType, FrameType
from typing import Any, Final

import msgspec
from support.verifying import Prepared, said

COMPARED: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
COMPUTED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
SECONDS: Final = 20
"""A mutant that runs longer than this on one bundle is found by that."""


class Mutant(msgspec.Struct):
    """A program that differs in one place: in this line, by this change."""

    line: str
    change: str
    code: CodeType


class _TimeIsUpError(BaseException):
    """Not to be caught by the program."""


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of a program."""
    tree, lines = ast.parse(source), source.splitlines()
    for parent, field, at, node in list(_places(tree)):
        for changed in list(_changes(node)):
            _put(parent, field, at, ast.copy_location(changed, node))
            with warnings.catch_warnings(action="ignore"):
                code = compile(ast.fix_missing_locations(tree), "mutant", "exec")
            _put(parent, field, at, node)
            number: int = getattr(node, "lineno", 0)
            line = lines[number - 1].strip() if number else "for"
            yield Mutant(line, f"{_told(node)} -> {_told(changed)}", code)


def killer(mutant: Mutant, bundles: Sequence[Prepared]) -> Prepared | None:
    """The first of these bundles of which the mutant says something else; None for none."""
    before = signal.signal(signal.SIGALRM, _stop)
    try:
        for bundle in bundles:
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                if said(mutant.code, bundle.arguments, bundle.probe) != bundle.said:
                    return bundle
            except (Exception, _TimeIsUpError):  # noqa: BLE001 (it does not even run)
                return bundle
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    return None


def _stop(number: int, frame: FrameType | None) -> None:
    raise _TimeIsUpError


def _places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Where each expression and statement stands: in which field of what, and at which place.

    What types are and what is said in docstrings changes nothing.
    """
    told = [
        each
        for node in ast.walk(tree)
        for name in ("annotation", "returns")
        if (each := getattr(node, name, None)) is not None
    ]
    passed_over = {id(each) for node in told for each in ast.walk(node)}
    for parent in ast.walk(tree):
        if isinstance(parent, ast.Expr) and isinstance(parent.value, ast.Constant):
            continue
        for field, value in ast.iter_fields(parent):
            for at, node in enumerate(value) if isinstance(value, list) else ((None, value),):
                if id(node) in passed_over:
                    continue
                if isinstance(node, ast.expr | ast.stmt | ast.comprehension):
                    yield parent, field, at, node


def _put(parent: ast.AST, field: str, at: int | None, node: ast.AST) -> None:
    if at is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[at] = node


def _told(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    for kind, change in _CHANGES.items():
        if isinstance(node, kind):
            yield from change(node)


def _of_compare(node: ast.Compare) -> Iterator[ast.AST]:
    for at, op in enumerate(node.ops):
        for other in COMPARED[type(op)]:
            yield _with(node, ops=[*node.ops[:at], other(), *node.ops[at + 1 :]])


def _of_boolean(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    yield from node.values


def _of_binary(node: ast.BinOp | ast.AugAssign) -> Iterator[ast.AST]:
    other = COMPUTED.get(type(node.op))  # None for the / of paths
    if other is not None:
        yield _with(node, op=other())


def _of_constant(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
        yield ast.Constant(value - 1)
    elif isinstance(value, str):
        yield ast.Constant(f"{value}~")
    elif isinstance(value, bytes):
        yield ast.Constant(value + b"~")


def _of_unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    yield node.operand


def _of_condition(node: ast.If | ast.IfExp | ast.While) -> Iterator[ast.AST]:
    yield _with(node, test=ast.Constant(value=False))
    if not isinstance(node, ast.While):
        yield _with(node, test=ast.Constant(value=True))


def _of_statement(node: ast.Expr | ast.Assign) -> Iterator[ast.AST]:
    if not isinstance(node.value, ast.Constant):
        yield ast.Pass()


def _of_return(node: ast.Return) -> Iterator[ast.AST]:
    yield _with(node, value=ast.Constant(value=None))


def _of_comprehension(node: ast.comprehension) -> Iterator[ast.AST]:
    if node.ifs:
        yield _with(node, ifs=[])


def _of_call(node: ast.Call) -> Iterator[ast.AST]:
    """Without what is done to something, such as ``sorted``."""
    if len(node.args) == 1 and not node.keywords and not isinstance(node.args[0], ast.Starred):
        yield node.args[0]
    if isinstance(node.func, ast.Attribute):
        yield node.func.value


_CHANGES: Final[dict[Any, Any]] = {
    ast.Compare: _of_compare,
    ast.BoolOp: _of_boolean,
    (ast.BinOp, ast.AugAssign): _of_binary,
    ast.Constant: _of_constant,
    ast.UnaryOp: _of_unary,
    (ast.If, ast.IfExp, ast.While): _of_condition,
    (ast.Expr, ast.Assign, ast.AugAssign): _of_statement,
    ast.Return: _of_return,
    ast.comprehension: _of_comprehension,
    ast.Call: _of_call,
}


def _with(node: ast.AST, **changes: Any) -> ast.AST:
    changed = copy.copy(node)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed
