"""Requests as structs declare them: the fields are what is checked, and what OpenAPI describes.

A field's type and ``Meta`` hold its constraints. ``Meta.extra`` says what no JSON Schema can:

- ``reason``: what to say of any wrong value; ``pattern``: of one that the pattern does not match;
- ``one_of``: the texts that are allowed (see :func:`one_of`);
- ``check``: a function that raises ``ValueError`` with what is wrong with a value.

Members that a struct does not declare are ignored with a warning, or refused where it forbids
them; those in its ``READ_ONLY`` may be sent back, and are ignored.
"""

import functools
import itertools
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_domain.input_files import shown
from nbledger_domain.unseen import all_seen
from nbledger_domain.words import nearest, nearest_member
from nbledger_http.requests.json_bodies import MAX_TOLD, decode_object, escaped

S = TypeVar("S", bound=Struct)

_INTEGER = re.compile(r"[+-]?\d{1,19}\Z", re.ASCII)
_AT = " - at `"
_STEP = re.compile(r"\[(\d+|\.\.\.)\]|\.([^.\[]+)")
_EXPECTED = re.compile(r"Expected `([^`]+)`(.*)\Z", re.DOTALL)
_KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}


def one_of(names: Collection[str], description: str | None = None) -> Meta:
    """The constraint of a text that it is one of ``names``, which are known at run time."""
    return Meta(
        description=description,
        extra_json_schema={"enum": list(names)},
        extra={"one_of": tuple(names)},
    )


MAX_LOOKED_UP = 500
"""So many names of a request are compared with those that are known: comparing takes time."""


class NoFields(Struct):
    """Of a form that carries a file and nothing else."""


class FaultReport:
    """What is wrong with a request, and what else is to be said of it."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.warnings: list[str] = []
        self._misspelt: list[Fault] = []
        self._told: set[str] = set()
        self._looked_up = 0

    def fault(self, pointer: str, reason: str) -> None:
        """Tell what is wrong at ``pointer``, once: nor is it told of a part of what is wrong."""
        parts = (pointer[: slash.start()] for slash in re.finditer("/", pointer))
        if pointer in self._told or any(part in self._told for part in parts):
            return
        self._told.add(pointer)
        self.faults.append(Fault(pointer, reason))

    def tells_within(self, pointer: str) -> bool:
        """Whether a part of what is at ``pointer`` is told to be wrong."""
        return any(each.startswith(f"{pointer}/") for each in self._told)

    def meant(self, name: str, keys: Sequence[str]) -> str | None:
        """Which of ``keys`` was probably meant; none once enough of the request was compared."""
        if self._looked_up == MAX_LOOKED_UP:
            return None
        self._looked_up += 1
        return nearest_member(name, keys)

    def unknown(self, pointer: str, meant: str | None) -> None:
        """Warn of a member that is ignored; in a request that is refused it may be the cause."""
        hint = "" if meant is None else f"; did you mean {meant}?"
        if len(self.warnings) < MAX_TOLD:
            told = all_seen(pointer, "�")
            self.warnings.append(f"{told}: unknown member, ignored{hint}")
        if meant is not None and len(self._misspelt) < MAX_TOLD:
            self._misspelt.append(Fault(pointer, f"is an unknown member{hint}"))

    def check(self) -> None:
        """Raise :class:`InvalidInputError` if anything is wrong."""
        if self.faults:
            raise InvalidInputError([*self.faults, *self._misspelt])


def read_object(
    kind: type[S], value: Mapping[str, Any], report: FaultReport, base: S | None = None
) -> S:
    """The JSON object ``value`` as a ``kind``; what it leaves out is as in ``base``.

    What is wrong goes into ``report``; the default stands in for it.
    """
    return _Reading(report).object(kind, value, "/", base)


def read_form(kind: type[S], fields: Mapping[str, str], report: FaultReport) -> S:
    """The text fields of a form as a ``kind``; an empty one counts as left out.

    A field that may be an object takes it as JSON.
    """
    given: dict[str, Any] = {name: text for name, text in fields.items() if text}
    for member in _declared(kind):
        text = given.get(member.key, "")
        if text.lstrip().startswith("{") and _struct_of(member.kind, {}) is not None:
            given[member.key] = _object_in(text, f"/{escaped(member.key)}", report)
    _unknown(kind, fields, "/", report)
    return _Reading(report, text=True).object(kind, given, "/", None)


def _object_in(text: str, pointer: str, report: FaultReport) -> dict[str, Any] | None:
    """The JSON object that a field of a form carries."""
    try:
        return decode_object(text.encode())
    except InvalidInputError as error:
        for fault in error.faults:
            report.fault(f"{pointer}{fault.pointer}", fault.reason)
        return None


def read_query(kind: type[S], values: Mapping[str, str], report: FaultReport) -> S:
    """The parameters of a query as a ``kind``.

    What is like none of them is passed over: where a token is needed the guard has refused it
    (`known_parameters.py`), and to other links caches and trackers add their own. A mistyped name
    must not pass for a parameter that was left out.
    """
    found = _Reading(report, text=True).object(kind, values, "?", None)
    known = [member.key for member in _declared(kind)]
    for name in known:
        # PostgreSQL has no text with it, so nothing that is asked for can match.
        if "\x00" in values.get(name, ""):
            report.fault(f"?{name}", "has the character U+0000, which no value has")
    for name in values:
        if name not in known and len(report.faults) < MAX_TOLD:
            near = nearest(name, known)
            if near is not None:
                report.fault(f"?{name}", f"is an unknown parameter; did you mean {near}?")
    return found


def boolean(text: str) -> bool | None:
    """``true`` or ``false`` as forms and queries write them."""
    return {"true": True, "false": False, "1": True, "0": False}.get(text.strip().lower())


class _Kind(NamedTuple):
    """What one value is to be: ``whole`` is its annotation, ``core`` that without ``Meta``."""

    whole: Any
    core: Any
    is_struct: bool
    inner: "_Kind | None"
    bounds: dict[str, Any]
    extra: dict[str, Any]

    def stand_in(self) -> Any:
        """A value of this kind, for one that is missing or wrong."""
        if get_origin(self.core) is Literal:
            return get_args(self.core)[0]
        if self.is_struct:
            return self.core(**{each.name: each.default() for each in _declared(self.core)})
        return (get_origin(self.core) or self.core)()


class _Member(NamedTuple):
    name: str
    key: str
    kind: _Kind
    nullable: bool
    required: bool
    default: Callable[[], Any]


def _kind(whole: Any) -> _Kind:
    core = get_args(whole)[0] if get_origin(whole) is Annotated else whole
    # Of what may be one of several kinds the bounds are those of whichever has them.
    options = get_args(core) if get_origin(core) in (Union, UnionType) else ()
    metas: list[Meta] = [
        meta for each in (whole, *options) for meta in getattr(each, "__metadata__", ())
    ]
    names = ("ge", "le", "max_length")
    return _Kind(
        whole,
        core,
        isinstance(core, type) and issubclass(core, Struct),
        _kind(get_args(core)[0]) if get_origin(core) is list else None,
        {
            name: bound
            for meta in metas
            for name in names
            if (bound := getattr(meta, name)) is not None
        },
        {key: value for meta in metas for key, value in (meta.extra or {}).items()},
    )


@functools.cache
def _declared(kind: type[Struct]) -> tuple[_Member, ...]:
    return tuple(_member(field) for field in msgspec.structs.fields(kind))


def _member(field: msgspec.structs.FieldInfo) -> _Member:
    annotated = get_origin(field.type) is Annotated
    core = get_args(field.type)[0] if annotated else field.type
    options = get_args(core) if get_origin(core) in (Union, UnionType) else (core,)
    kinds = [each for each in options if each not in (type(None), UnsetType)]
    whole: Any = functools.reduce(operator.or_, kinds)
    kind = _kind(Annotated[whole, *field.type.__metadata__] if annotated else whole)
    if field.default is not msgspec.NODEFAULT:
        value = field.default
        default: Callable[[], Any] = lambda: value  # noqa: E731
    elif field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory
    else:
        default = kind.stand_in
    return _Member(
        field.name, field.encode_name, kind, type(None) in options, field.required, default
    )


class _Reading:
    """One request that is read; ``text`` says whether it writes numbers and flags as text."""

    def __init__(self, report: FaultReport, *, text: bool = False) -> None:
        self._report = report
        self._text = text

    def object(self, kind: type[S], value: Mapping[str, Any], prefix: str, base: S | None) -> S:
        """The struct that ``value`` says; pointers to its members begin with ``prefix``."""
        found: dict[str, Any] = {}
        for member in _declared(kind):
            at = f"{prefix}{escaped(member.key)}"
            fallback = member.default() if base is None else getattr(base, member.name)
            given = value.get(member.key)
            if given is not None:
                found[member.name] = self._value(member.kind, given, at, fallback)
                continue
            null = member.key in value
            found[member.name] = None if null and member.nullable else fallback
            if member.required and base is None:
                self._report.fault(
                    at, f"is required{self._written_for_it(kind, value, member.key)}"
                )
            elif null and not member.nullable and fallback is UNSET:
                self._report.fault(at, "must not be null")
        if not self._text:
            _unknown(kind, value, prefix, self._report)
        return kind(**found)

    def _written_for_it(self, kind: type[Struct], value: Iterable[str], key: str) -> str:
        """What was sent in place of the member ``key``, in words that follow that it is missing."""
        keys = [member.key for member in _declared(kind)]
        others = itertools.islice((name for name in value if name not in keys), MAX_TOLD)
        instead = next((name for name in others if self._report.meant(name, keys) == key), None)
        return "" if instead is None else f"; {shown(instead)} is not a known member"

    def _value(self, kind: _Kind, value: Any, pointer: str, fallback: Any) -> Any:
        if (struct := _struct_of(kind, value)) is not None:
            base = fallback if isinstance(fallback, struct) else None
            # An object in a form is JSON: its members are no text.
            reading = _Reading(self._report) if self._text else self
            return reading.object(struct, value, f"{pointer}/", base)
        if kind.inner is not None and isinstance(value, list):
            return self._items(kind, kind.inner, value, pointer)
        try:
            found = msgspec.convert(
                _from_text(kind.core, value) if self._text else value, kind.whole
            )
        except msgspec.ValidationError as error:
            self._report.fault(*_told(kind, value, pointer, str(error)))
            return fallback
        if kind.extra and (reason := _refused(kind, found)) is not None:
            self._report.fault(pointer, reason)
        return found

    def _items(self, kind: _Kind, inner: _Kind, value: list[Any], pointer: str) -> list[Any]:
        limit = kind.bounds.get("max_length")
        if limit is not None and len(value) > limit:
            self._report.fault(pointer, f"must have at most {limit:,} items")
            return []
        # What is no object at all is stood in for, so that the others keep their places.
        stand_in = inner.stand_in()
        return [
            self.object(inner.core, item, f"{pointer}/{index}/", None)
            if inner.is_struct and isinstance(item, dict)
            else self._value(inner, item, f"{pointer}/{index}", stand_in)
            for index, item in enumerate(value)
        ]


def _struct_of(kind: _Kind, value: Any) -> type[Struct] | None:
    """What an object is read as: the kind itself, or the struct among those that it may be."""
    if not isinstance(value, dict):
        return None
    union = get_origin(kind.core) in (Union, UnionType)
    options = get_args(kind.core) if union else (kind.core,)
    return next(
        (each for each in options if isinstance(each, type) and issubclass(each, Struct)), None
    )


def _unknown(kind: type[Struct], value: Iterable[str], prefix: str, report: FaultReport) -> None:
    """Tell of the members that the struct does not declare."""
    keys = [member.key for member in _declared(kind)]
    known = {*keys, *getattr(kind, "READ_ONLY", ())}
    for name in itertools.islice((name for name in value if name not in known), MAX_TOLD):
        pointer, meant = f"{prefix}{escaped(name)}", report.meant(name, keys)
        if not kind.__struct_config__.forbid_unknown_fields:
            report.unknown(pointer, meant)
        elif len(report.faults) < MAX_TOLD:
            hint = f"there are {', '.join(keys)}" if meant is None else f"did you mean {meant}?"
            report.fault(pointer, f"is an unknown member; {hint}")


def _told(kind: _Kind, value: Any, pointer: str, message: str) -> tuple[str, str]:
    """Where and why msgspec refuses a value, in words that are not Python's."""
    # The last one: a value that is quoted before it may hold anything.
    if message.endswith("`") and (at := message.rfind(_AT)) >= 0:
        path = message[at + len(_AT) : -1].removeprefix("key in ")
        message = message[:at]
        for index, name in _STEP.findall(path):
            pointer += f"/{'*' if index == '...' else index or name}"
    return pointer, _reason(kind, value, message)


def _reason(kind: _Kind, value: Any, message: str) -> str:
    if "reason" in kind.extra:
        return str(kind.extra["reason"])
    if get_origin(kind.core) is Literal:
        return f"must be one of {', '.join(get_args(kind.core))}"
    if value == "" and kind.core is str:
        return "must not be empty"
    if "pattern" in kind.extra and "matching regex" in message:
        return str(kind.extra["pattern"])
    if kind.core is int and {"ge", "le"} <= kind.bounds.keys():
        return f"must be a whole number from {kind.bounds['ge']} to {kind.bounds['le']}"
    if "of length <=" in message:
        return f"must have at most {kind.bounds['max_length']:,} characters"
    expected = _EXPECTED.match(message)
    if expected is None:
        return message[:1].lower() + message[1:]
    wanted = " or ".join(_KINDS.get(each, each) for each in expected[1].split(" | "))
    return f"must be {wanted}{expected[2].split(', got')[0]}"


def _refused(kind: _Kind, value: Any) -> str | None:
    """Why a value that is of this kind is none that may be sent."""
    allowed, check = kind.extra.get("one_of"), kind.extra.get("check")
    if allowed is not None and value not in allowed:
        return f"must be one of {', '.join(allowed)}"
    if check is not None:
        try:
            check(value)
        except ValueError as error:
            return f"{shown(str(value))} {error}"
    return None


def _from_text(core: Any, text: str) -> Any:
    """The value that a form or a query writes as ``text``; an empty one is none."""
    if core is int and _INTEGER.match(text):
        return int(text)
    found = boolean(text) if core is bool or bool in get_args(core) else None
    return (text or None) if found is None else found
