"""The headers of the records of state topics: CloudEvents 1.0 in binary mode."""

from typing import Final

from nbledger_domain.vocabulary.addresses import project_path
from nbledger_schemas import Schema
from nbledger_schemas.headers import HEADERS, SUBJECT

_IDS: Final = ("ce_notebookid", "ce_datasetid")
_AS_OF_EVENTS: Final = frozenset(
    {"ce_specversion", "ce_tenantid", "ce_projectid", *_IDS, "ce_dataref", "ce_erased"}
)
_OWN: Final[dict[str, tuple[Schema, str, str]]] = {
    "content-type": (
        {"type": "string"},
        "`application/json`, or with `ce_dataref` that of a CloudEvent as JSON.",
        "application/json",
    ),
    "ce_id": ({"type": "string"}, "The id and the position: a repetition has the same.", ""),
    "ce_type": ({"type": "string"}, "`nbledger.` and the type.", "nbledger.{type}"),
    "ce_source": (
        {"type": "string", "format": "uri-reference"},
        "The path of the notebook or dataset.",
        "",
    ),
    "ce_subject": ({"type": "string", "format": "uuid"}, "The id, which is the key.", SUBJECT),
    "ce_partitionkey": ({"type": "string", "format": "uuid"}, "The key.", SUBJECT),
    "ce_time": (
        {"type": "string", "format": "date-time"},
        "When the last event that it shows was recorded.",
        "2026-01-20T10:30:00.123456Z",
    ),
    "ce_sequence": (
        {"type": "string", "pattern": "^[0-9]{20}$"},
        "The position of the last event that it shows: of two records of a key the higher holds.",
        "00000000000000004712",
    ),
    "ce_position": ({"type": "string", "pattern": "^[0-9]+$"}, "The same as a number.", "4712"),
}
_SCHEMA_ADDRESS: Final = (
    {"type": "string", "format": "uri"},
    "The address of the schema of the value; missing where it is deleted.",
    "https://notebooks.example.com/schema/states/{type}.json",
)


def state_headers_schema() -> Schema:
    """The schema of the headers as an object of texts."""
    common = {each.name: each for each in HEADERS if each.name in _AS_OF_EVENTS}
    told = {
        **{name: (each.schema, each.meaning) for name, each in common.items()},
        **{name: (schema, meaning) for name, (schema, meaning, _) in _OWN.items()},
        "ce_dataschema": _SCHEMA_ADDRESS[:2],
        "ce_dataref": (common["ce_dataref"].schema, "Where to read what is too large (512 KiB)."),
        "ce_erased": (common["ce_erased"].schema, "It is deleted, and there is no value."),
    }
    optional = {*_IDS, "ce_dataref", "ce_erased", "ce_dataschema"}
    return {
        "type": "object",
        "properties": {
            name: {**schema, "description": meaning} for name, (schema, meaning) in told.items()
        },
        "required": [name for name in told if name not in optional],
    }


def example_state_headers(state_type: str) -> dict[str, str]:
    """Headers of a record with such a state."""
    kind = "dataset" if state_type.startswith("dataset") else "notebook"
    common = {
        each.name: each.example
        for each in HEADERS
        if each.name in ("ce_specversion", "ce_tenantid", "ce_projectid", f"ce_{kind}id")
    }
    own = {name: example for name, (_, _, example) in _OWN.items()}
    place = (common["ce_tenantid"], common["ce_projectid"], kind, SUBJECT)
    return {
        **common,
        **own,
        "ce_id": f"{SUBJECT}-4712",
        "ce_type": f"nbledger.{state_type}",
        "ce_source": project_path(*place),
        "ce_dataschema": _SCHEMA_ADDRESS[2].replace("{type}", state_type),
    }
