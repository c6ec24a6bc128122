"""The schemas of the events: made of the types, complete, right about what is stored."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from support.paths import ROOT, TESTS

from nbledger_domain.events import EVENT_TYPES
from nbledger_schemas import DIALECT, located, published, writing

GOLDEN = TESTS / "unit" / "domain" / "golden"
SCHEMAS = published()
every = pytest.mark.parametrize("name", sorted(SCHEMAS))


def test_every_type_that_is_or_was_stored_has_one() -> None:
    assert set(SCHEMAS) == EVENT_TYPES.readable()


def test_what_is_made_of_the_types_is_never_behind() -> None:
    made = writing.files()
    kept = {path: path.read_text() for path in made if path.exists()}
    changed = sorted(str(path.relative_to(ROOT)) for path in made if kept.get(path) != made[path])
    assert changed == [], "run `make schemas`"
    for folder in (writing.SCHEMAS, writing.PAGES):
        assert {path for path in folder.iterdir() if path.suffix != ".py"} <= made.keys()


@pytest.mark.guarantee("G53")
def test_what_was_promised_to_readers_holds() -> None:
    told = [str(each) for each in writing.broken()]
    assert told == [], "give the event its next version (docs/events.md, Changing a payload)"


@pytest.mark.guarantee("G53")
@every
def test_what_is_stored_is_valid(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    assert schema["$id"] == f"/schema/events/{name}.json"
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    stored = msgspec.json.decode((GOLDEN / f"{name}.json").read_bytes())
    assert stored in schema["examples"]
    for example in schema["examples"]:
        assert [each.message for each in validator.iter_errors(example)] == []
    # Without any one of them that is always there it is not valid.
    for member in schema.get("required", ()):
        less = {key: value for key, value in stored.items() if key != member}
        assert not validator.is_valid(less), member


@every
def test_an_example_has_every_member(name: str) -> None:
    schema = SCHEMAS[name]
    assert set(schema["examples"][0]) == set(schema["properties"])


@every
def test_every_member_is_described_and_objects_are_open(name: str) -> None:
    for place, each in parts(SCHEMAS[name], name):
        if each.get("type") == "object":
            assert each.get("additionalProperties") is not False, place
        for member, told in each.get("properties", {}).items():
            assert told["description"].strip(), f"{place}/{member}"
            assert "``" not in told["description"], f"{place}/{member}"
    assert SCHEMAS[name]["description"]


def parts(schema: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield place, schema
        for key, each in schema.items():
            if key not in ("examples", "default"):
                yield from parts(each, f"{place}/{key}")
    elif isinstance(schema, list):
        for number, each in enumerate(schema):
            yield from parts(each, f"{place}/{number}")


def recorded() -> Iterator[tuple[str, Path, Any]]:
    for path in sorted((GOLDEN / "histories").rglob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            event = msgspec.json.decode(line)
            yield event["type"], path, event["data"]


@pytest.mark.guarantee("G53")
def test_histories_of_released_versions_are_valid() -> None:
    validators = {
        name: Draft202012Validator(schema, format_checker=FormatChecker())
        for name, schema in SCHEMAS.items()
    }
    count = 0
    for name, path, data in recorded():
        count += 1
        errors = [each.message for each in validators[name].iter_errors(data)]
        assert errors == [], f"{path.name}: {name}"
    assert count > 20


def test_the_address_is_absolute_where_it_is_served() -> None:
    told = located(SCHEMAS["notebook.renamed.v1"], "https://host")
    assert told["$id"] == "https://host/schema/events/notebook.renamed.v1.json"
    assert SCHEMAS["notebook.renamed.v1"]["$id"].startswith("/")


def test_the_schemas_are_in_the_wheel(tmp_path: Path) -> None:
    subprocess.run(
        [*(sys.executable, "-m", "hatchling", "build"), "--target", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("nbledger_schemas/events/")}
        assert names == {f"nbledger_schemas/events/{name}.json" for name in SCHEMAS}
        for name in names:
            assert archive.read(name) == (ROOT / "schemas" / name).read_bytes()
