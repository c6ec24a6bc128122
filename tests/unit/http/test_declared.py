"""Requests are read by what their structs declare, and OpenAPI describes the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from msgspec import UNSET, Meta, UnsetType

from nbledger_domain import words
from nbledger_domain.errors import Fault, InvalidInputError
from nbledger_http.description import execution_examples, notebook_examples
from nbledger_http.requests import declared
from nbledger_http.requests.bodies import CreateNotebook, UpdateNotebook
from nbledger_http.requests.declared import (
    FaultReport,
    one_of,
    read_form,
    read_object,
    read_query,
)
from nbledger_http.requests.json_bodies import MAX_TOLD
from nbledger_http.requests.runs import ExecuteNotebook


def _even(number: int) -> None:
    if number % 2:
        raise ValueError("is odd")


class Inner(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """An object in another one."""

    odd_name: str = "x"
    count: Annotated[int, Meta(ge=1, le=10)] = 3


class Outer(msgspec.Struct, rename="camel", kw_only=True):
    """An object with all kinds of members."""

    READ_ONLY: ClassVar = ("readOnly",)

    outer_name: Annotated[
        str, Meta(min_length=1, max_length=5, pattern=r"\S", extra={"pattern": "must not be blank"})
    ]
    inner: Inner | None = None
    inners: Annotated[list[Inner], Meta(max_length=2)] = []
    words: list[str] | None = None
    number: Annotated[int, Meta(extra={"check": _even})] | None = None
    form: Annotated[str, one_of(["a", "b"])] = "a"
    mode: Literal["all", "range"] | None = None
    extra: dict[str, dict[str, Any]] | None = None
    later: str | UnsetType = UNSET


def read(body: dict[str, Any], base: Outer | None = None) -> tuple[Outer, list[Fault], list[str]]:
    report = FaultReport()
    found = read_object(Outer, body, report, base)
    try:
        report.check()
    except InvalidInputError as refused:
        return found, refused.faults, report.warnings
    return found, [], report.warnings


def test_what_is_right_is_read_and_the_rest_is_the_default() -> None:
    body = {
        "outerName": "n",
        "inner": {"oddName": "y"},
        "inners": [{}, {"count": 10}],
        "number": 2**70,
        "extra": {"a": {"b": [1]}},
        "mode": None,
        "readOnly": 1,
    }
    found, faults, warnings = read(body)
    assert (faults, warnings) == ([], [])
    assert found == Outer(
        outer_name="n",
        inner=Inner(odd_name="y"),
        inners=[Inner(), Inner(count=10)],
        number=2**70,
        extra={"a": {"b": [1]}},
    )


def test_what_is_left_out_stays_and_a_null_takes_away_what_may_be_missing() -> None:
    before = Outer(outer_name="n", inner=Inner("y", 5), words=["a"], form="b", number=4)
    assert read({}, before)[0] == before
    found, faults, _ = read({"inner": {"count": 6}, "words": None, "form": None}, before)
    assert faults == []
    assert found == Outer(outer_name="n", inner=Inner("y", 6), form="b", number=4)


def test_every_fault_is_told_at_once_where_it_is() -> None:
    body = {
        "outerName": " ",
        "inner": {"oddName": 1, "count": 11, "a/b": 1},
        "inners": [{"count": 0}, 7],
        "words": ["a", 2],
        "number": 3,
        "form": "c",
        "mode": "none",
        "extra": {"a": {"b": 1}, "c": 2},
        "later": None,
    }
    _, faults, _ = read(body)
    assert faults == [
        Fault("/outerName", "must not be blank"),
        Fault("/inner/oddName", "must be text"),
        Fault("/inner/count", "must be a whole number from 1 to 10"),
        Fault("/inner/a~1b", "is an unknown member; there are oddName, count"),
        Fault("/inners/0/count", "must be a whole number from 1 to 10"),
        Fault("/inners/1", "must be an object"),
        Fault("/words/1", "must be text"),
        Fault("/number", "'3' is odd"),
        Fault("/form", "must be one of a, b"),
        Fault("/mode", "must be one of all, range"),
        Fault("/extra/*", "must be an object"),
        Fault("/later", "must not be null"),
    ]
    wrong: dict[str, Any]
    for wrong, reason in (
        ({"outerName": ""}, "must not be empty"),
        ({"outerName": "x" * 6}, "must have at most 5 characters"),
        ({"outerName": None}, "is required"),
    ):
        assert read(wrong)[1] == [Fault("/outerName", reason)]
    for wrong, pointer, reason in (
        ({"inners": [{}] * 3}, "/inners", "must have at most 2 items"),
        ({"inners": {}}, "/inners", "must be an array"),
        ({"inner": []}, "/inner", "must be an object"),
    ):
        assert read({"outerName": "n", **wrong})[1] == [Fault(pointer, reason)]


def test_a_fault_of_a_part_is_not_told_beside_that_of_the_whole() -> None:
    report = FaultReport()
    report.fault("/a", "must be an object")
    report.fault("/a/b", "is required")
    report.fault("/a", "is odd")
    report.fault("/ab", "is odd")
    assert report.faults == [Fault("/a", "must be an object"), Fault("/ab", "is odd")]


def test_an_unknown_member_is_told_with_the_known_one_that_was_meant() -> None:
    body = {"outerName": "n", "out_er-name": 1, "Words": [], "name": 1, "x": 1, "a/b\u200b": 2}
    _, faults, warnings = read(body)
    assert faults == []
    assert warnings == [
        "/out_er-name: unknown member, ignored; did you mean outerName?",
        "/Words: unknown member, ignored; did you mean words?",
        "/name: unknown member, ignored; did you mean outerName?",
        "/x: unknown member, ignored",
        "/a~1b\ufffd: unknown member, ignored",
    ]
    # In a request that is refused they may be the cause.
    assert read({"name": "n", "x": 1})[1] == [
        Fault("/outerName", "is required; 'name' is not a known member"),
        Fault("/name", "is an unknown member; did you mean outerName?"),
    ]


def test_of_unknown_members_no_more_are_told_than_anybody_reads() -> None:
    many: dict[str, Any] = {f"{number}number": 1 for number in range(10_000)}
    _, faults, warnings = read({"outerName": "n", **many})
    assert (faults, len(warnings)) == ([], MAX_TOLD)
    _, faults, _ = read(many)
    assert len(faults) == MAX_TOLD + 1
    report = FaultReport()
    read_object(Inner, many, report)
    assert len(report.faults) == MAX_TOLD


class Texts(msgspec.Struct, rename="camel", kw_only=True):
    """What a form or a query says."""

    page_size: Annotated[int, Meta(ge=1, le=100)] = 20
    flag: bool = False
    text: str | None = None
    form: Literal["csv", "zip"] = "csv"


def test_no_more_names_are_compared_than_take_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def counted(name: str, keys: Sequence[str]) -> str | None:
        compared.append(name)
        return words.nearest_member(name, keys)

    monkeypatch.setattr(declared, "nearest_member", counted)
    cells = [{f"name{number}": 1 for number in range(100)}] * 1_000
    report = FaultReport()
    read_object(CreateNotebook, {"initialCells": cells}, report)
    assert len(report.faults) > 1_000
    assert len(compared) == declared.MAX_LOOKED_UP


def test_a_value_that_looks_like_a_place_is_a_value() -> None:
    report = FaultReport()
    text = " - at `" * 100_000 + "$.x`"
    read_object(CreateNotebook, {"notebookName": "n", "initialCells": [{"cellType": text}]}, report)
    (fault, _) = report.faults
    assert fault.pointer == "/initialCells/0/cellType"


def test_forms_and_queries_write_numbers_and_flags_as_text() -> None:
    values = {"pageSize": "7", "flag": " True", "text": "7", "form": "zip"}
    for read_texts in (read_form, read_query):
        report = FaultReport()
        found = read_texts(Texts, values, report)
        assert (found, report.faults) == (Texts(page_size=7, flag=True, text="7", form="zip"), [])


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("pageSize", "", "must be a whole number from 1 to 100"),
        ("pageSize", "101", "must be a whole number from 1 to 100"),
        ("pageSize", "1.0", "must be a whole number from 1 to 100"),
        ("pageSize", "9" * 19, "must be a whole number from 1 to 100"),
        ("flag", "yes", "must be true or false"),
        ("text", "", "must not be empty"),
        ("form", "", "must be one of csv, zip"),
        ("pagesize", "1", "is an unknown parameter; did you mean pageSize?"),
    ],
)
def test_a_parameter_that_is_wrong_is_refused(name: str, value: str, reason: str) -> None:
    report = FaultReport()
    read_query(Texts, {name: value, "utm": "1", "_": ""}, report)
    assert report.faults == [Fault(f"?{name}", reason)]


def test_an_empty_field_of_a_form_is_left_out() -> None:
    report = FaultReport()
    names = ("pageSize", "flag", "text", "form", "other")
    assert read_form(Texts, dict.fromkeys(names, ""), report) == Texts()
    assert report.faults == []
    assert report.warnings == ["/other: unknown member, ignored"]


BROKEN: dict[str, Callable[[Any], Any]] = {
    "maxLength": lambda most: "x" * (most + 1),
    "pattern": lambda _: " ",
    "enum": lambda _: "none of them",
    "maximum": lambda most: most + 1,
    "maxItems": lambda most: [1] * (most + 1),
}
"""For each constraint that a schema may have what breaks it."""


def breaches(schema: dict[str, Any], components: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """For each constraint that ``schema`` describes a value that breaks it, and where."""
    if "$ref" in schema:
        schema = components[schema["$ref"]]
    yield from (("", broken(schema[name])) for name, broken in BROKEN.items() if name in schema)
    if schema.get("additionalProperties") is False:
        yield "/unknown", {"unknown": 1}
    for option in schema.get("anyOf", []):
        yield from breaches(option, components)
    for name, inner in schema.get("properties", {}).items():
        yield from ((f"/{name}{at}", {name: value}) for at, value in breaches(inner, components))
    if "items" in schema:
        yield from ((f"/0{at}", [value]) for at, value in breaches(schema["items"], components))


@pytest.mark.parametrize(
    ("kind", "example"),
    [
        (CreateNotebook, notebook_examples.CREATE_NOTEBOOK),
        (UpdateNotebook, notebook_examples.UPDATE_NOTEBOOK),
        (ExecuteNotebook, execution_examples.EXECUTE_NOTEBOOK),
    ],
)
def test_what_is_described_is_what_is_checked(
    kind: type[msgspec.Struct], example: dict[str, Any]
) -> None:
    report = FaultReport()
    read_object(kind, example, report)
    assert (report.faults, report.warnings) == ([], [])
    (described,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    tried = 0
    for pointer, part in breaches(described, components):
        report = FaultReport()
        read_object(kind, {**example, **part}, report)
        assert pointer in {fault.pointer for fault in report.faults}, (pointer, str(part)[:200])
        tried += 1
    assert tried >= 8
