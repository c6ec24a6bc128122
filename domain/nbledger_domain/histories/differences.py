"""What two states of an aggregate differ in, whatever the aggregate is.

Objects are compared member by member. Items of a list are told apart by their first member, where
all of them have it and no two have the same; other lists are compared as a whole.
"""

from collections.abc import Sequence
from os.path import commonprefix
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.histories.states import State

ChangeKind = Literal["added", "removed", "changed", "reordered"]

MAX_VALUE_BYTES: Final = 2000
"""A value of more bytes, as JSON, is shortened."""

MAX_TEXT: Final = 1000
"""Characters that are shown of a text that is shortened."""

CONTEXT: Final = 100
"""Characters of a shortened text that are shown before the first one that differs."""

MAX_CHANGES: Final = 200
"""So many changes are told of one event; the others are counted."""


class Shortened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """How much a change does not show.

    ``offset`` is the number of the first character shown of a text, from 0; ``before_bytes`` and
    ``after_bytes`` are the sizes of the whole values as JSON in UTF-8.
    """

    offset: int = 0
    before_bytes: int | UnsetType = UNSET
    after_bytes: int | UnsetType = UNSET


class FieldChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One field that is not as it was.

    ``field`` is a JSON pointer into the state, in which an item of a list stands under the value
    of its first member. ``before`` is absent of what was added, ``after`` of what was removed.
    Where a list is ``reordered`` both name its items in order; where it is not, what was added is
    at its end. ``shortened`` is there where a value
    is too large to be shown: of a text a part is shown, of anything else null.
    """

    field: str
    kind: ChangeKind
    before: Any = UNSET
    after: Any = UNSET
    shortened: Shortened | UnsetType = UNSET


class Changes(msgspec.Struct, frozen=True):
    """What an event has changed; ``omitted`` counts the changes that are not among ``fields``."""

    fields: list[FieldChange]
    omitted: int = 0


def differences(before: State | None, after: State) -> Changes:
    """What makes ``after`` of ``before``; of a new aggregate every field that says something."""
    found = _Differences()
    if before is None:
        told = {name: value for name, value in after.items() if value not in (None, [], {}, "")}
        found.members("", {}, told)
    else:
        found.members("", before, after)
    return Changes(found.fields, found.omitted)


class _Differences:
    def __init__(self) -> None:
        self.fields: list[FieldChange] = []
        self.omitted = 0

    def members(self, place: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Compare two objects."""
        for name in before.keys() - after.keys():
            self._told("removed", f"{place}/{_escaped(name)}", before[name], UNSET)
        for name, value in after.items():
            at = f"{place}/{_escaped(name)}"
            if name in before:
                self._values(at, before[name], value)
            else:
                self._told("added", at, UNSET, value)

    def _values(self, place: str, before: Any, after: Any) -> None:
        if before == after and type(before) is type(after):
            return
        if isinstance(before, dict) and isinstance(after, dict):
            self.members(place, before, after)
            return
        if isinstance(before, list) and isinstance(after, list):
            old, new = _by_identity(before), _by_identity(after)
            if old is not None and new is not None and (old or new):
                self._items(place, old, new)
                return
        self._told("changed", place, before, after)

    def _items(self, place: str, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Compare two lists whose items are told apart, each by its identity in order."""
        self.members(place, before, after)
        kept = [name for name in before if name in after]
        if [*kept, *(name for name in after if name not in before)] != list(after):
            self._told("reordered", place, list(before), list(after))

    def _told(self, kind: ChangeKind, place: str, before: Any, after: Any) -> None:
        sizes = _size(before), _size(after)
        if max(sizes) > MAX_VALUE_BYTES:
            if kind in ("added", "removed") and self._parts(kind, place, before, after):
                return
            self._tell_shortened(kind, place, before, after, sizes)
            return
        self._tell(FieldChange(field=place, kind=kind, before=before, after=after))

    def _parts(self, kind: ChangeKind, place: str, before: Any, after: Any) -> bool:
        """Tell the parts of what came or went, where it is large and has any."""
        value = before if after is UNSET else after
        parts = _by_identity(value) if isinstance(value, list) else value
        if not isinstance(parts, dict) or not parts:
            return False
        for name, part in parts.items():
            at = f"{place}/{_escaped(name)}"
            whole = (part, UNSET) if kind == "removed" else (UNSET, part)
            self._told(kind, at, *whole)
        return True

    def _tell_shortened(
        self, kind: ChangeKind, place: str, before: Any, after: Any, sizes: tuple[int, int]
    ) -> None:
        texts = [value for value in (before, after) if isinstance(value, str)]
        same = len(commonprefix(texts)) if len(texts) == 2 else 0  # noqa: RUF071 (of characters)
        offset = max(0, same - CONTEXT)
        shortened = Shortened(
            offset=offset,
            before_bytes=UNSET if before is UNSET else sizes[0],
            after_bytes=UNSET if after is UNSET else sizes[1],
        )
        change = FieldChange(
            field=place,
            kind=kind,
            before=_part(before, offset, sizes[0]),
            after=_part(after, offset, sizes[1]),
            shortened=shortened,
        )
        self._tell(change)

    def _tell(self, change: FieldChange) -> None:
        if len(self.fields) < MAX_CHANGES:
            self.fields.append(change)
        else:
            self.omitted += 1


def _by_identity(items: Sequence[Any]) -> dict[str, Any] | None:
    """The items by their first members; ``None`` where these do not tell them apart."""
    found: dict[str, Any] = {}
    member: str | None = None
    for item in items:
        if not isinstance(item, dict) or not item:
            return None
        if member is None:
            member = next(iter(item))
        identity = item.get(member)
        if not isinstance(identity, str | int) or str(identity) in found:
            return None
        found[str(identity)] = item
    return found


def _size(value: Any) -> int:
    return 0 if value is UNSET else len(msgspec.json.encode(value))


def _part(value: Any, offset: int, size: int) -> Any:
    if value is UNSET:
        return UNSET
    if isinstance(value, str):
        return value[offset : offset + MAX_TEXT]
    return value if size <= MAX_VALUE_BYTES else None


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
