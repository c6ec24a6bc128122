"""A page of the documentation for each event, made of its schema."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from nbledger_schemas import Schema
from nbledger_schemas.headers import SUBJECT, example_headers

_NOTEBOOK: Final = "/notebook/{notebookId}"
_PLACES: Final = {
    "notebook": ("the notebook", f"{_NOTEBOOK}/history"),
    "execution": ("the execution", f"{_NOTEBOOK}/execution/{{executionId}}/history"),
    "schedule": ("the schedule", f"{_NOTEBOOK}/schedule/history"),
    "firing": ("the firing", f"{_NOTEBOOK}/schedule/history"),
    "trigger": ("the trigger", f"{_NOTEBOOK}/automatic-execution/history"),
    "action": ("the action", "/execution-actions/{actionId}/history"),
    "dataset": ("the dataset", "/dataset/{datasetId}/history"),
    "library": ("the library", "/library/{libraryId}/history"),
    "notice": ("the notice", "/notices"),
    "history": ("the record", "/history-reads"),
    "webhook": ("the webhook", "/webhook/{webhookId}/history"),
}
"""By the first word of a type: whose stream its events are in, and where they can be read again."""


def page(name: str, schema: Schema) -> str:
    """The page of the event ``name``."""
    stream, replay = _PLACES[name.partition(".")[0]]
    example = schema["examples"][0] if schema.get("examples") else {}
    message = {"key": SUBJECT, "headers": example_headers(name), "value": example}
    return "\n".join(
        [
            f"# {name}",
            "",
            "<!-- Written by `make schemas`; change the type's docstring instead. -->",
            "",
            schema["description"],
            "",
            f"Schema: [{name}.json](../../schemas/nbledger_schemas/events/{name}.json), served at",
            f"`{schema['$id']}`, which is where `ce_dataschema` leads.",
            "",
            "## Data",
            "",
            *_members(schema, schema.get("$defs", {})),
            "## What may be missing",
            "",
            *_missing(schema),
            "The data as a whole where it was erased before it was published (`ce_erased`), or is",
            "larger than 512 KiB: then `ce_dataref` says where to read it. The message is in",
            "structured mode then: its value has the attributes, and no data. Members that are not",
            "described here may appear at any time: pass over them.",
            "",
            "## Example",
            "",
            "```json",
            json.dumps(message, indent=2, ensure_ascii=False),
            "```",
            "",
            "## Order, retention, replay",
            "",
            f"- **Order**: events of {stream} come in order; `ce_streamversion` counts from 1.",
            "  Across streams `ce_position` tells the order. Delivery is at least once: drop an",
            "  event whose `ce_id` you have seen.",
            "- **Retention**: the topic keeps events for `kafka.retention_hours` (a week), and the",
            "  store for ever, but for erased data.",
            f"- **Replay**: `GET …/events?type={name}` tells all of a project again, from any",
            f"  position (`after`), and `GET …{replay}` what is of one thing:",
            "  see [histories](../histories.md).",
            "",
        ]
    )


def index(schemas: Mapping[str, Schema]) -> str:
    """The page that lists all of them."""
    rows = [f"| [{name}]({name}.md) | {_first(each)} |" for name, each in schemas.items()]
    return "\n".join(
        [
            "# A page for each event",
            "",
            "<!-- Written by `make schemas`. -->",
            "",
            "[Events](../events.md) says what holds for all of them.",
            "",
            "| event | when |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def _first(schema: Schema) -> str:
    """The first sentence of the description."""
    text: str = schema["description"]
    return _cell(text.splitlines()[0].partition(". ")[0].rstrip("."))


def _members(schema: Schema, definitions: Mapping[str, Schema]) -> Iterator[str]:
    yield from _table(schema)
    for name, each in definitions.items():
        yield f"### {name}"
        yield ""
        yield each["description"]
        yield ""
        yield from _table(each)


def _table(schema: Schema) -> Iterator[str]:
    if not schema.get("properties"):
        yield "It has no members: `{}`."
        yield ""
        return
    yield "| member | type | always there | meaning |"
    yield "|---|---|---|---|"
    for name, each in schema["properties"].items():
        always = "yes" if name in schema.get("required", ()) else "no"
        told = f"{each['description']}"
        yield f"| `{name}` | {_cell(_kind(each))} | {always} | {_cell(told)} |"
    yield ""


def _missing(schema: Schema) -> Iterator[str]:
    for name, each in schema["properties"].items():
        if name not in schema.get("required", ()):
            means = (
                f"missing means `{json.dumps(each['default'], ensure_ascii=False)}`"
                if "default" in each
                else "missing where there is nothing to tell, or in events of before there was"
            )
            yield f"- `{name}`: {means}."
    yield (
        ""
        if len(schema["properties"]) > len(schema.get("required", ()))
        else ("All members of the data are always there.\n")
    )


def _kind(schema: Schema) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    kind: str = schema.get("type", "any")
    if kind == "array":
        return f"array of {_kind(schema.get('items', {}))}"
    form = schema.get("format")
    return f"{kind} ({form})" if form else kind


def _cell(text: Any) -> str:
    return re.sub(r"\s+", " ", str(text)).replace("|", "\\|")
