"""The schemas of states: made of the types, with examples, and promised like those of events."""

from __future__ import annotations

import copy

import pytest
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]

from nbledger_projections.state_topics import schemas
from nbledger_projections.state_topics.states import STATES
from nbledger_schemas import states
from nbledger_schemas.compatibility import breaks


def test_what_is_made_of_the_types_is_never_behind() -> None:
    made = schemas.files()
    assert {path: path.read_text() for path in schemas.FOLDER.iterdir()} == made, (
        "run `make schemas`"
    )
    assert list(states()) == sorted(each.type for each in STATES)


@pytest.mark.guarantee("G58")
def test_what_was_promised_to_readers_holds() -> None:
    assert [str(each) for each in schemas.broken()] == []
    changed = copy.deepcopy(schemas.current())
    changed["notebook-state.v1"]["required"].remove("notebookName")
    found = [str(each) for each in breaks(schemas.current(), changed)]
    assert len(found) == 1
    assert "property-made-optional" in found[0]


@pytest.mark.parametrize("name", list(states()))
def test_examples_are_valid(name: str) -> None:
    schema = states()[name]
    Draft202012Validator.check_schema(schema)
    assert schema["examples"]
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    for example in schema["examples"]:
        assert [each.message for each in validator.iter_errors(example)] == []
        assert example.keys() <= schema["properties"].keys()
