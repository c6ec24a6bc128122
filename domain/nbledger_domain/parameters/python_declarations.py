"""Parameters that a cell of Python declares: read by its grammar, never evaluated."""

from __future__ import annotations

import ast
import io
import math
import re
import tokenize
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import UNSET

from nbledger_domain.parameters.declared import Declared, JsonType, declared, type_of

_MAGIC = re.compile(r"^([ \t]*)(?:[%!?].*|[%\w.*]+\?{1,2})[ \t]*$", re.MULTILINE)
_TYPE_COMMENT = re.compile(r"type:\s*(\S+)\s*(.*)\Z", re.DOTALL)

_TYPES: Final[Mapping[str, JsonType]] = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "None": "null",
    **dict.fromkeys(
        ("list", "List", "tuple", "Tuple", "Sequence", "MutableSequence", "Iterable"), "array"
    ),
    **dict.fromkeys(("dict", "Dict", "Mapping", "MutableMapping"), "object"),
}
_WRAPPERS: Final = frozenset({"Final", "Annotated", "ClassVar"})


class _NoLiteralError(Exception):
    """The code has something else than a literal of JSON."""


def without_magics(source: str) -> str:
    """The source with commands of IPython replaced by statements, line for line."""
    return _MAGIC.sub(r"\1pass", source)


def declarations(source: str) -> list[Declared] | None:
    """The parameters that the top level of ``source`` declares; ``None`` if it is no Python."""
    text = without_magics(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    reader = _Reader(text)
    found: dict[str, Declared] = {}
    for statement in tree.body:
        for each in reader.declared_by(statement):
            found[each.name] = each
    return list(found.values())


class _Reader:
    """Reads statements of one source."""

    def __init__(self, source: str) -> None:
        self._lines = [line.encode() for line in source.splitlines(keepends=True)]
        self._comments = _comments(source)

    def declared_by(self, statement: ast.stmt) -> Iterator[Declared]:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            _, text = self._comment(statement)
            annotation = statement.annotation
            yield self._declared(
                statement.target.id,
                statement.value,
                annotation=self._written(annotation),
                types=_types(annotation),
                text=text,
            )
        elif isinstance(statement, ast.Assign):
            typed, text = self._comment(statement)
            for target in statement.targets:
                for name, value in _names(target, statement.value):
                    yield self._declared(
                        name,
                        value,
                        annotation=typed,
                        types=None if typed is None else _types_in(typed),
                        text=text,
                    )

    def _declared(
        self,
        name: str,
        value: ast.expr | None,
        *,
        annotation: str | None,
        types: Sequence[JsonType] | None,
        text: str,
    ) -> Declared:
        return declared(
            name,
            types=types,
            declared_type=annotation,
            default=UNSET if value is None else _literal(value),
            default_source=None if value is None else self._source(value),
            help=text,
        )

    def _comment(self, statement: ast.stmt) -> tuple[str | None, str]:
        """The type and the help in the comment beside the statement's end."""
        text = self._comments.get(statement.end_lineno or 0, "")
        typed = _TYPE_COMMENT.match(text)
        return (None, text) if typed is None else (typed[1], typed[2])

    def _written(self, annotation: ast.expr) -> str:
        """An annotation as it is written; one in quotes without them."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            return annotation.value
        return self._source(annotation)

    def _source(self, node: ast.expr) -> str:
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        lines = self._lines[first : last + 1]
        # Columns are counted in bytes.
        lines[-1] = lines[-1][: node.end_col_offset]
        lines[0] = lines[0][node.col_offset :]
        return b"".join(lines).decode()


def _comments(source: str) -> dict[int, str]:
    """The text of comments by line."""
    found: dict[int, str] = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                found[token.start[0]] = token.string.lstrip("#").strip()
    except (tokenize.TokenError, SyntaxError):
        pass
    return found


def _names(target: ast.expr, value: ast.expr | None) -> Iterator[tuple[str, ast.expr | None]]:
    """The names that an assignment sets, each with its part of the value."""
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple | ast.List):
        parts: Sequence[ast.expr | None] = [value] * len(target.elts)
        if (
            isinstance(value, ast.Tuple | ast.List)
            and len(value.elts) == len(target.elts)
            and not any(isinstance(each, ast.Starred) for each in (*target.elts, *value.elts))
        ):
            parts = value.elts
        elif value is not None:
            # Which part of it is whose is not known before it runs.
            parts = [_Opaque.of(value)] * len(target.elts)
        for each, part in zip(target.elts, parts, strict=True):
            yield from _names(each, part)
    elif isinstance(target, ast.Starred):
        yield from _names(target.value, None if value is None else _Opaque.of(value))


class _Opaque(ast.expr):
    """An expression of which a part is meant."""

    @classmethod
    def of(cls, value: ast.expr) -> ast.expr:
        return ast.copy_location(cls(), value)


def _literal(node: ast.expr) -> Any:
    try:
        return _value(node)
    except (_NoLiteralError, RecursionError):
        return UNSET


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=None | bool() | int() | str() as value):
            return _encodable(value)
        case ast.Constant(value=float() as value) if math.isfinite(value):
            return value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=value)):
            if isinstance(value, int | float) and not isinstance(value, bool):
                return -_value(node.operand) if isinstance(sign, ast.USub) else _value(node.operand)
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return dict(zip(map(_key, keys), map(_value, values), strict=True))
        case _:
            pass
    raise _NoLiteralError


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return str(_encodable(node.value))
    raise _NoLiteralError


def _encodable(value: Any) -> Any:
    """The value, unless it is text with half a character."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _NoLiteralError from None
    return value


def _types_in(text: str) -> list[JsonType]:
    """The types that an annotation in a text names."""
    try:
        return _types(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _types(node: ast.expr) -> list[JsonType]:
    """The types that an annotation allows, in order; none where one of them is not known."""
    try:
        parts = list(_alternatives(node))
    except RecursionError:
        return []
    if any(not part for part in parts):
        return []
    return list(dict.fromkeys(kind for part in parts for kind in part))


def _alternatives(node: ast.expr) -> Iterator[list[JsonType]]:
    match node:
        case ast.Constant(value=None):
            yield ["null"]
        case ast.Constant(value=str() as text):
            yield _types_in(text)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            known = _TYPES.get(name)
            yield [] if known is None else [known]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from _alternatives(left)
            yield from _alternatives(right)
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            yield from _of_generic(name, inner)
        case _:
            yield []


def _of_generic(name: str, inner: ast.expr) -> Iterator[list[JsonType]]:
    items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Optional":
        yield from _alternatives(inner)
        yield ["null"]
    elif name == "Union":
        for item in items:
            yield from _alternatives(item)
    elif name in _WRAPPERS:
        yield from _alternatives(items[0]) if items else iter([[]])
    elif name == "Literal":
        for item in items:
            found = _literal(item)
            yield [] if found is UNSET else [type_of(found)]
    else:
        known = _TYPES.get(name)
        yield [] if known is None else [known]
