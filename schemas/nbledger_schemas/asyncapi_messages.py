"""The messages of the AsyncAPI document: headers, payload and an example of each."""

from typing import Any, Final

from nbledger_schemas import Schema
from nbledger_schemas.headers import (
    HEADERS,
    STRUCTURED,
    envelope_schema,
    example_headers,
)
from nbledger_schemas.state_headers import example_state_headers

BINDING: Final = "0.5.0"
REF: Final = "#/components/schemas/"
UUID_SCHEMA: Final = {"type": "string", "format": "uuid"}
WITHOUT_DATA: Final = "without-data"

_COMMON: Final = {
    "correlationId": {"location": "$message.header#/ce_correlationid"},
    "bindings": {
        "kafka": {
            "key": {**UUID_SCHEMA, "description": "The stream's id."},
            "bindingVersion": BINDING,
        }
    },
}
_LARGE: Final = "notebook.cells-updated.v1"


def event(name: str, schema: Schema) -> dict[str, Any]:
    """The message of an event."""
    return {**_message(name, schema, headers="headers", example=example_headers(name)), **_COMMON}


def state(name: str, schema: Schema) -> dict[str, Any]:
    """The message of a state."""
    told = _message(name, schema, headers="stateHeaders", example=example_state_headers(name))
    key = {**UUID_SCHEMA, "description": "The id of what it is the state of."}
    return {**told, "bindings": {"kafka": {"key": key, "bindingVersion": BINDING}}}


def _message(name: str, schema: Schema, *, headers: str, example: dict[str, str]) -> dict[str, Any]:
    examples = [
        {"name": f"example{number}", "headers": example, "payload": each}
        for number, each in enumerate(schema.get("examples", ()), start=1)
    ]
    return {
        "name": f"nbledger.{name}",
        "title": name,
        "summary": schema["description"].partition("\n\n")[0],
        "contentType": "application/json",
        "headers": {"$ref": f"{REF}{headers}"},
        "payload": {"$ref": REF + name},
        **({"examples": examples} if examples else {}),
    }


def without_data() -> dict[str, Any]:
    """Of any type, in structured mode."""
    headers = {each.name: each.example.replace("{type}", _LARGE) for each in HEADERS}
    kept = envelope_schema()["required"]
    shown = {
        **{f"ce_{name}": headers[f"ce_{name}"] for name in (*kept, "dataschema", "dataref")},
        "content-type": STRUCTURED,
    }
    payload = {
        name.removeprefix("ce_"): value for name, value in shown.items() if name != "content-type"
    }
    return {
        "name": "nbledger.without-data",
        "title": WITHOUT_DATA,
        "summary": "An event of any type whose data is too large for a message, or erased.",
        "contentType": STRUCTURED,
        "headers": {"$ref": f"{REF}headers"},
        "payload": {"$ref": f"{REF}withoutData"},
        **_COMMON,
        "examples": [{"name": "tooLarge", "headers": shown, "payload": payload}],
    }


def checkpoint() -> dict[str, Any]:
    """The message of a checkpoint."""
    return {
        "name": "nbledger.checkpoint.v1",
        "title": "checkpoint.v1",
        "summary": "A signed checkpoint of a log, as a note of C2SP.",
        "contentType": "text/plain; charset=utf-8",
        "headers": {"$ref": f"{REF}checkpointHeaders"},
        "payload": {"type": "string", "description": "The note, byte for byte as it is served."},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "The log's origin."},
                "bindingVersion": BINDING,
            }
        },
    }


def openlineage() -> dict[str, Any]:
    """The message of lineage."""
    about = {
        "eventTime": ("date-time", "When it happened."),
        "producer": ("uri", "What tells it, in its version."),
        "schemaURL": ("uri", "By which schema the document is valid: RunEvent or DatasetEvent."),
    }
    properties = {
        name: {"type": "string", "format": kind, "description": meaning}
        for name, (kind, meaning) in about.items()
    }
    return {
        "name": "nbledger.lineage",
        "title": "lineage",
        "summary": "A document of OpenLineage 2-0-2.",
        "contentType": "application/json",
        "payload": {"type": "object", "properties": properties, "required": list(properties)},
        "externalDocs": {
            "description": "OpenLineage",
            "url": "https://openlineage.io/spec/2-0-2/OpenLineage.json",
        },
        "bindings": {
            "kafka": {
                "key": {
                    "type": "string",
                    "description": "As OpenLineage's clients have it: `run:` or `dataset:`, the "
                    "namespace, a slash, and the name of the job or dataset.",
                },
                "bindingVersion": BINDING,
            }
        },
        "examples": [
            {
                "name": "dataset",
                "payload": {
                    "eventTime": "2024-01-20T10:30:00.000000Z",
                    "producer": "urn:nbledger:0.1.0",
                    "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json"
                    "#/$defs/DatasetEvent",
                    "dataset": {
                        "namespace": "nbledger/550e8400-e29b-41d4-a716-446655440000"
                        "/660e8400-e29b-41d4-a716-446655440000",
                        "name": "770e8400-e29b-41d4-a716-446655440000",
                    },
                },
            }
        ],
    }


def checkpoint_headers() -> Schema:
    """The schema of the headers of checkpoints."""
    told = {
        "ce_type": "nbledger.checkpoint.v1",
        "ce_source": "The path of the log.",
        "ce_id": "The same in a repetition of the same message.",
        "ce_subject": "The size of the log.",
        "ce_time": "When it was signed, or the log at rest was checked again.",
        "ce_tenantid": "The tenant.",
        "ce_specversion": "1.0",
        "content-type": "text/plain; charset=utf-8",
    }
    return {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": meaning} for name, meaning in told.items()
        },
        "required": list(told),
    }
