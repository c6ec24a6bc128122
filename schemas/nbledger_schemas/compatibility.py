"""What a change of a schema breaks for readers.

Two readers are to be served: one that was made for the released schema and gets new events, and one
that is made for the new schema and reads events of before, which are kept for ever. So a change may
neither allow what was ruled out nor rule out what was allowed. What remains is the addition of
members that may be missing: readers pass over members that they do not know.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from nbledger_schemas import Schema

RULES: Final[dict[str, str]] = {
    "event-removed": "An event that was published stays described: it is stored for ever.",
    "property-removed": "A member that was described stays, with its meaning.",
    "property-made-optional": "A member that was always there is always there.",
    "property-made-required": "A member that may be missing in events of before is not required.",
    "type-widened": "A member has no other types than those that were described.",
    "type-narrowed": "A member may have, for ever, the types that events of before have.",
    "enum-value-added": "A closed list of values stays as it is; only an open one grows.",
    "enum-value-removed": "A value that events of before have stays in the list.",
    "bound-changed": "The bounds, pattern and format of a value stay as they are.",
    "default-changed": "What it means that a member is missing stays as it is.",
    "closed": "Objects are open: readers pass over members that they do not know.",
}
"""What readers may rely on, by the name of the rule; docs/events.md explains them."""

_BOUNDS: Final = (
    "format",
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
)
_NOTES: Final = frozenset({"$schema", "$id", "title", "description", "examples"})


class Break(msgspec.Struct, frozen=True):
    """A change that breaks readers of ``event``: where in the schema, and which rule."""

    event: str
    place: str
    rule: str

    def __str__(self) -> str:
        return f"{self.event} {self.place or '/'}: {self.rule}: {RULES[self.rule]}"


def bare(schema: Any) -> Any:
    """``schema`` without what binds no reader: descriptions, examples and addresses."""
    if isinstance(schema, list):
        return [bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {key: bare(each) for key, each in value.items()}
        if name in ("properties", "$defs")
        else value
        if name == "default"
        else bare(value)
        for name, value in schema.items()
        if name not in _NOTES
    }


def breaks(released: Mapping[str, Schema], now: Mapping[str, Schema]) -> list[Break]:
    """Everything that breaks a reader, in order. Nothing where all changes are additions."""
    found: list[Break] = []
    for event, schema in released.items():
        if event not in now:
            found.append(Break(event, "", "event-removed"))
            continue
        comparison = _Comparison(schema, now[event])
        found.extend(Break(event, place, rule) for place, rule in comparison.found())
    return found


class _Comparison:
    """Of two versions of one schema."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old = old
        self._new = new
        self._under_way: set[tuple[str, str]] = set()

    def found(self) -> list[tuple[str, str]]:
        return list(dict.fromkeys(self._schemas(self._old, self._new, "")))

    def _schemas(self, old: Schema, new: Schema, place: str) -> Iterator[tuple[str, str]]:
        pair = (old.get("$ref", ""), new.get("$ref", ""))
        if any(pair):
            if pair in self._under_way:
                return
            self._under_way.add(pair)
        if old.get("default", msgspec.UNSET) != new.get("default", msgspec.UNSET):
            yield place, "default-changed"
        before, after = _by_type(old, self._old), _by_type(new, self._new)
        if _widened(set(before), set(after)):
            yield place, "type-widened"
        if _widened(set(after), set(before)):
            yield place, "type-narrowed"
        for kind in before.keys() & after.keys():
            yield from self._alike(before[kind], after[kind], place)
        self._under_way.discard(pair)

    def _alike(self, old: Schema, new: Schema, place: str) -> Iterator[tuple[str, str]]:
        if any(old.get(bound) != new.get(bound) for bound in _BOUNDS):
            yield place, "bound-changed"
        yield from ((place, rule) for rule in _enum_rules(old.get("enum"), new.get("enum")))
        if "items" in old or "items" in new:
            yield from self._schemas(old.get("items", {}), new.get("items", {}), f"{place}/-")
        yield from self._objects(old, new, place)

    def _objects(self, old: Schema, new: Schema, place: str) -> Iterator[tuple[str, str]]:
        more_before, more_now = (each.get("additionalProperties", True) for each in (old, new))
        if more_now is False and more_before is not False:
            yield place, "closed"
        elif isinstance(more_before, dict) or isinstance(more_now, dict):
            yield from self._schemas(_or_any(more_before), _or_any(more_now), f"{place}/*")
        known, still = old.get("properties", {}), new.get("properties", {})
        needed, needed_now = set(old.get("required", ())), set(new.get("required", ()))
        for name, schema in known.items():
            if name not in still:
                yield f"{place}/{name}", "property-removed"
                continue
            if name in needed - needed_now:
                yield f"{place}/{name}", "property-made-optional"
            yield from self._schemas(schema, still[name], f"{place}/{name}")
        for name in sorted(needed_now - needed):
            yield f"{place}/{name}", "property-made-required"


def _by_type(schema: Schema, root: Schema) -> dict[str, Schema]:
    """What ``schema`` allows, by JSON type; ``any`` where it names none."""
    if "$ref" in schema:
        return _by_type(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" not in schema:
        return {schema.get("type", "any"): schema}
    found: dict[str, Schema] = {}
    for option in schema["anyOf"]:
        for kind, each in _by_type(option, root).items():
            # Of a list of values and any text beside it, which is an open list, the text counts.
            if kind not in found or "enum" in found[kind]:
                found[kind] = each
    return found


def _or_any(schema: Any) -> Schema:
    return schema if isinstance(schema, dict) else {}


def _widened(before: set[str], after: set[str]) -> bool:
    """Whether ``after`` has a type that ``before`` does not allow."""
    return not (
        "any" in before or after <= before or ("number" in before and after - before == {"integer"})
    )


def _enum_rules(old: list[Any] | None, new: list[Any] | None) -> Iterator[str]:
    if old is not None and (new is None or set(new) - set(old)):
        yield "enum-value-added"
    if new is not None and (old is None or set(old) - set(new)):
        yield "enum-value-removed"
