"""A change that breaks a reader is found, and the rule that it breaks is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from support.paths import ROOT

from nbledger_schemas.compatibility import RULES, bare, breaks

Schema = dict[str, Any]

THING: Schema = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid", "description": "The thing."},
        "size": {"type": "integer", "minimum": 0},
        "ratio": {"type": "number"},
        "kind": {"type": "string", "enum": ["a", "b"]},
        "code": {"anyOf": [{"type": "string", "enum": ["x"]}, {"type": "string"}]},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}},
        "figures": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "required": ["id", "size", "kind", "parts"],
    "$defs": {
        "Part": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "of": {"$ref": "#/$defs/Part"},
                "rows": {"type": "integer"},
            },
            "required": ["name"],
        }
    },
    "examples": [{"id": 1}],
}


def members(schema: Schema) -> Schema:
    found: Schema = schema["properties"]
    return found


def part(schema: Schema) -> Schema:
    found: Schema = schema["$defs"]["Part"]
    return found


Change = Callable[[Schema], Any]
BREAKING: list[tuple[str, str, Change]] = [
    ("property-removed", "/note", lambda s: members(s).pop("note")),
    ("property-removed", "/parts/-/rows", lambda s: members(part(s)).pop("rows")),
    ("property-made-optional", "/size", lambda s: s["required"].remove("size")),
    ("property-made-optional", "/parts/-/name", lambda s: part(s)["required"].clear()),
    ("property-made-required", "/note", lambda s: s["required"].append("note")),
    (
        "property-made-required",
        "/new",
        lambda s: (members(s).update(new={"type": "string"}), s["required"].append("new")),
    ),
    ("type-widened", "/size", lambda s: members(s).update(size={"type": "number", "minimum": 0})),
    ("type-widened", "/size", lambda s: members(s).update(size={"minimum": 0})),
    (
        "type-widened",
        "/parts/-/name",
        lambda s: members(part(s)).update(name={"anyOf": [{"type": "string"}, {"type": "null"}]}),
    ),
    ("type-widened", "/figures/*", lambda s: members(s).update(figures={"type": "object"})),
    ("type-narrowed", "/ratio", lambda s: members(s).update(ratio={"type": "integer"})),
    ("type-narrowed", "/note", lambda s: members(s)["note"].update(anyOf=[{"type": "string"}])),
    ("enum-value-added", "/kind", lambda s: members(s)["kind"]["enum"].append("c")),
    ("enum-value-added", "/kind", lambda s: members(s)["kind"].pop("enum")),
    ("enum-value-removed", "/kind", lambda s: members(s)["kind"]["enum"].remove("a")),
    (
        "enum-value-removed",
        "/code",
        lambda s: members(s).update(code={"type": "string", "enum": ["x"]}),
    ),
    ("bound-changed", "/size", lambda s: members(s)["size"].update(minimum=-1)),
    ("bound-changed", "/id", lambda s: members(s)["id"].pop("format")),
    ("default-changed", "/note", lambda s: members(s)["note"].update(default="none")),
    ("closed", "", lambda s: s.update(additionalProperties=False)),
    ("closed", "/parts/-", lambda s: part(s).update(additionalProperties=False)),
]
HARMLESS: dict[str, Change] = {
    "a new member that may be missing": lambda s: members(s).update(new={"type": "integer"}),
    "a value of an open list": lambda s: members(s)["code"]["anyOf"][0]["enum"].append("y"),
    "another description": lambda s: members(s)["id"].update(description="It."),
    "other examples": lambda s: s.update(examples=[]),
    "another name of a part": lambda s: (
        s["$defs"].update(Piece=part(s)),
        members(s).update(parts={"type": "array", "items": {"$ref": "#/$defs/Piece"}}),
    ),
    "the order of values": lambda s: members(s)["kind"]["enum"].reverse(),
}


def changed(change: Change) -> Schema:
    schema = copy.deepcopy(THING)
    change(schema)
    return schema


@pytest.mark.guarantee("G53")
@pytest.mark.parametrize(("rule", "place", "change"), BREAKING)
def test_the_broken_rule_is_named(rule: str, place: str, change: Change) -> None:
    found = breaks({"thing.done.v1": bare(THING)}, {"thing.done.v1": changed(change)})
    assert (place, rule) in {(each.place, each.rule) for each in found}
    assert f"thing.done.v1 {place or '/'}: {rule}: {RULES[rule]}" in map(str, found)


def test_an_event_that_is_gone_breaks_its_readers() -> None:
    (found,) = breaks({"thing.done.v1": THING}, {"thing.done.v2": THING})
    assert (found.event, found.rule) == ("thing.done.v1", "event-removed")


@pytest.mark.parametrize("what", HARMLESS)
def test_additions_break_nobody(what: str) -> None:
    assert breaks({"thing.done.v1": bare(THING)}, {"thing.done.v1": changed(HARMLESS[what])}) == []


def test_every_rule_is_shown_and_explained() -> None:
    shown = {rule for rule, _, _ in BREAKING} | {"event-removed"}
    assert shown == set(RULES)
    text = " ".join((ROOT / "docs" / "events.md").read_text().split())
    for rule, told in RULES.items():
        assert f"`{rule}`" in text
        assert told in text
