"""Checking JSON objects member by member, so that every fault is told at once."""

import codecs
import difflib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar, get_args, get_origin, overload

import msgspec

from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_http.requests.json_faults import faults_of_json, repeated_members

T = TypeVar("T")

MAX_DEPTH = 100
"""Deeper JSON is refused: too much that reads it later works recursively."""

MAX_NAME = 100
"""What is longer was meant for no member."""

MAX_TOLD = 100
"""Of what can be wrong any number of times, so many are told."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
_AT = re.compile(r" - at `(?:key in )?\$?(.*)`\Z", re.DOTALL)
_STEP = re.compile(r"\[(\d+|\.\.\.)\]|\.([^.\[]+)")


def decode(body: bytes) -> Any:
    """The JSON value in ``body``. Raises :class:`InvalidInputError`."""
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise InvalidInputError([Fault("", "is nested too deeply")]) from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidInputError(_unreadable(body, error)) from None
    return value


def _unreadable(body: bytes, error: Exception) -> list[Fault]:
    """What is wrong with a body that was not decoded, where that is not what ``error`` says."""
    if not body.strip():
        return [Fault("", "is empty")]
    if _SURROGATE.search(body) is not None:
        # msgspec takes half of a surrogate pair for the end of its input, and the json of the
        # standard library reads it.
        try:
            value = json.loads(body.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError):
            pass
        else:
            if faults := list(itertools.islice(unstorable(value), MAX_TOLD)):
                return faults
    try:
        text = body.decode()
    except UnicodeDecodeError as undecodable:
        return [Fault("", f"is not UTF-8: byte {undecodable.start} cannot be read")]
    return faults_of_json(text, error)


def decode_object(body: bytes, *, unique: bool = False) -> dict[str, Any]:
    """The JSON object in ``body``, free of what can be stored nowhere.

    Of members with one name the last counts, unless they are to be ``unique``. Raises
    :class:`InvalidInputError`.
    """
    value = decode(body)
    if not isinstance(value, dict):
        raise InvalidInputError([Fault("", "must be a JSON object")])
    faults = list(itertools.islice(unstorable(value), MAX_TOLD))
    if not faults and unique:
        faults = repeated_members(body.removeprefix(codecs.BOM_UTF8))
    if faults:
        raise InvalidInputError(faults)
    return value


def unstorable(value: Any, pointer: str = "", depth: int = 0) -> Iterator[Fault]:
    """A fault for every text with a NUL or half a character, and for nesting too deep."""
    if isinstance(value, str):
        if reason := _bad_text(value):
            yield Fault(pointer, reason)
    elif isinstance(value, dict | list):
        if depth == MAX_DEPTH:
            yield Fault(pointer, f"is nested more than {MAX_DEPTH} deep")
            return
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if isinstance(key, str) and (reason := _bad_text(key)):
                yield Fault(pointer, f"has a member whose name {reason}")
                continue
            yield from unstorable(item, f"{pointer}/{escaped(key)}", depth + 1)


def _bad_text(text: str) -> str | None:
    if "\x00" in text:
        return "contains the character U+0000, which cannot be stored"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "contains half of a surrogate pair, which is no character"
    return None


def escaped(key: object) -> str:
    """``key`` as a reference token of a JSON pointer (RFC 6901)."""
    return str(key).replace("~", "~0").replace("/", "~1")


class Members:
    """The members of a JSON object; taking them one by one collects what is wrong with them."""

    def __init__(self, value: dict[str, Any], pointer: str, faults: list[Fault]) -> None:
        self._left = dict(value)
        self._known: list[str] = []
        self._pointer = pointer
        self.faults = faults

    def fault(self, name: str, reason: str) -> None:
        """Add a fault of the member ``name``."""
        self.faults.append(Fault(f"{self._pointer}/{escaped(name)}", reason))

    def has(self, name: str) -> bool:
        """Whether the member is there and has not been taken."""
        self._known.append(name)
        return name in self._left

    # ``kind`` is whatever msgspec converts to, which has no type of its own: not every such
    # form is a class, so that callers state the type of what they get.
    @overload
    def take(self, name: str, kind: Any) -> Any: ...
    @overload
    def take(self, name: str, kind: Any, default: T) -> T: ...
    def take(self, name: str, kind: Any, default: Any = None) -> Any:
        """The member as a ``kind``; ``default`` where it is absent, null or (a fault) wrong."""
        value = self._pop(name)
        if value is None:
            return default
        return self._convert(f"{self._pointer}/{escaped(name)}", value, kind, default)

    def require(self, name: str, kind: Any, default: T) -> T:
        """Like :meth:`take`, where an absent member is a fault; ``default`` stands in for it."""
        if self._left.get(name) is None:
            self._pop(name)
            self.fault(name, "is required")
            return default
        return self.take(name, kind, default)

    def items(
        self,
        name: str,
        kind: Any,
        *,
        limit: int,
        check: Callable[[Any], object] | None = None,
    ) -> list[Any] | None:
        """The good items of a list; a fault is added for every bad one.

        ``check`` raises :class:`ValueError` that says what is wrong with an item.
        """
        value = self._pop(name)
        if value is None:
            return None
        pointer = f"{self._pointer}/{escaped(name)}"
        if not isinstance(value, list):
            self.faults.append(Fault(pointer, "must be an array"))
            return None
        if len(value) > limit:
            self.faults.append(Fault(pointer, f"must have at most {limit} items"))
            return None
        good: list[Any] = []
        for index, item in enumerate(value):
            before = len(self.faults)
            converted = self._convert(f"{pointer}/{index}", item, kind, None)
            if len(self.faults) > before or converted is None:
                continue
            try:
                if check is not None:
                    check(converted)
            except ValueError as error:
                self.faults.append(Fault(f"{pointer}/{index}", f"{converted!r} {error}"))
            else:
                good.append(converted)
        return good

    def inner(self, name: str) -> "Members | None":
        """The members of the object ``name``; ``None`` where it is absent or no object."""
        value = self._pop(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.fault(name, "must be an object")
            return None
        return Members(value, f"{self._pointer}/{escaped(name)}", self.faults)

    def objects(self, name: str, *, limit: int) -> "list[Members] | None":
        """The objects of the list ``name``; ``None`` where it is absent or no list."""
        value = self._pop(name)
        if value is None:
            return None
        pointer = f"{self._pointer}/{escaped(name)}"
        if not isinstance(value, list) or len(value) > limit:
            self.faults.append(Fault(pointer, f"must be an array of at most {limit} objects"))
            return None
        found: list[Members] = []
        for index, item in enumerate(value):
            if isinstance(item, dict):
                found.append(Members(item, f"{pointer}/{index}", self.faults))
            else:
                self.faults.append(Fault(f"{pointer}/{index}", "must be an object"))
        return found

    def ignore(self, *names: str) -> None:
        """Let members be that are there to be read only."""
        for name in names:
            self._left.pop(name, None)

    def warn_of_unknown(self, warnings: list[str]) -> None:
        """Add a warning for every member that nobody has asked for."""
        for name in self._left:
            if len(warnings) >= MAX_TOLD:
                break
            pointer = f"{self._pointer}/{escaped(name)}"
            warnings.append(f"{pointer}: unknown member, ignored{self._meant(name)}")

    def refuse_unknown(self) -> None:
        """Add a fault for every member that nobody has asked for."""
        for name in self._left:
            if len(self.faults) >= MAX_TOLD:
                break
            self.fault(name, f"is an unknown member{self._meant(name) or self._there_are()}")

    def _pop(self, name: str) -> Any:
        self._known.append(name)
        return self._left.pop(name, None)

    def _meant(self, name: str) -> str:
        """The known name that ``name`` is most like, in words; empty where it is like none."""
        near = nearest(name, self._known)
        return "" if near is None else f"; did you mean {near}?"

    def _there_are(self) -> str:
        return f"; there are {', '.join(dict.fromkeys(self._known))}"

    def _convert(self, pointer: str, value: Any, kind: Any, default: Any) -> Any:
        if value is None:
            self.faults.append(Fault(pointer, "must not be null"))
            return default
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            fault = _from_msgspec(pointer, str(error))
            if get_origin(kind) is Literal:
                fault = Fault(pointer, f"must be one of {', '.join(get_args(kind))}")
            self.faults.append(fault)
            return default


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The ``known`` name that was probably meant; ``None`` where it is like none of them."""
    plain = {_plain(each): each for each in known}
    near = difflib.get_close_matches(_plain(name[:MAX_NAME]), plain, n=1)
    return plain[near[0]] if near else None


def _plain(name: str) -> str:
    """``name`` without what tells cellRange from cell_range."""
    return re.sub(r"[\s_-]", "", name).casefold()


_KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_EXPECTED = re.compile(r"Expected `([^`]+)`(.*)\Z", re.DOTALL)


def _from_msgspec(pointer: str, message: str) -> Fault:
    """A fault where msgspec says it is, in words that are not Python's."""
    match = _AT.search(message)
    if match is not None:
        message = message[: match.start()]
        for index, name in _STEP.findall(match[1]):
            pointer += f"/{'*' if index == '...' else index or name}"
    expected = _EXPECTED.match(message)
    if expected is None:
        return Fault(pointer, message[:1].lower() + message[1:])
    wanted = " or ".join(_KINDS.get(kind, kind) for kind in expected[1].split(" | "))
    limit = expected[2].split(", got")[0]
    if limit.endswith("regex '\\\\S'"):
        return Fault(pointer, "must not be blank")
    return Fault(pointer, f"must be {wanted}{limit}")
