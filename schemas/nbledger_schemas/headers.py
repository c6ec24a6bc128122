"""The headers of the messages on the topic of events: attributes of CloudEvents 1.0.

A message with data is in binary mode, one without in structured mode with the same headers.
"""

from typing import Final, NamedTuple

from nbledger_domain.vocabulary.addresses import project_path
from nbledger_schemas import Schema

JSON: Final = "application/json"
STRUCTURED: Final = "application/cloudevents+json; charset=utf-8"
"""Of a message without data: the value is the event with its attributes."""

_UUID: Final = {"type": "string", "format": "uuid"}
_COUNT: Final = {"type": "string", "pattern": "^[0-9]+$"}
_TEXT: Final = {"type": "string"}
_TIME: Final = {"type": "string", "format": "date-time"}


class EventHeader(NamedTuple):
    """A header: its name, schema and meaning, an example, and whether each message has it."""

    name: str
    schema: Schema
    meaning: str
    example: str
    always: bool = True


_TENANT: Final = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
_PROJECT: Final = "550e8400-e29b-41d4-a716-446655440000"
SUBJECT: Final = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"

HEADERS: Final = (
    EventHeader(
        "ce_specversion", {"type": "string", "const": "1.0"}, "The version of CloudEvents.", "1.0"
    ),
    EventHeader(
        "content-type",
        {"type": "string", "enum": [JSON, STRUCTURED]},
        "The media type of the value: of the data, or of an event without data.",
        JSON,
    ),
    EventHeader(
        "ce_id",
        _UUID,
        "The event's id: a repetition has the same one.",
        "9f1c1f0e-5d0b-4b5c-8a53-1b1f8d3f7e11",
    ),
    EventHeader("ce_type", _TEXT, "`nbledger.` and the type.", "nbledger.{type}"),
    EventHeader(
        "ce_source",
        {"type": "string", "format": "uri-reference"},
        "The path of what the event concerns.",
        project_path(_TENANT, _PROJECT, "notebook", SUBJECT),
    ),
    EventHeader("ce_subject", _UUID, "The stream's id, which is the key, too.", SUBJECT),
    EventHeader(
        "ce_time",
        _TIME,
        "When it was decided, by the clock of whoever decided.",
        "2026-01-20T10:30:00.123456Z",
    ),
    EventHeader(
        "ce_recordedtime",
        _TIME,
        "When it was recorded, by the clock of the store.",
        "2026-01-20T10:30:00.125801Z",
    ),
    EventHeader("ce_partitionkey", _UUID, "The key: the stream's id.", SUBJECT),
    EventHeader(
        "ce_dataschema",
        {"type": "string", "format": "uri"},
        "The address of the schema of the data; missing where the data is erased.",
        "https://notebooks.example.com/schema/events/{type}.json",
        always=False,
    ),
    EventHeader(
        "ce_sequence",
        {"type": "string", "pattern": "^[0-9]{20}$"},
        "The position with leading zeros, so that it sorts as text.",
        "00000000000000004712",
    ),
    EventHeader(
        "ce_position", _COUNT, "The position among all events; rises without a gap.", "4712"
    ),
    EventHeader("ce_streamversion", _COUNT, "The position in the stream, from 1.", "1"),
    EventHeader("ce_tenantid", _UUID, "The tenant.", _TENANT),
    EventHeader("ce_projectid", _UUID, "The project.", _PROJECT),
    EventHeader(
        "ce_notebookid", _UUID, "The notebook that the event concerns.", SUBJECT, always=False
    ),
    EventHeader(
        "ce_datasetid", _UUID, "The dataset that the event concerns.", SUBJECT, always=False
    ),
    EventHeader(
        "ce_libraryid", _UUID, "The library that the event concerns.", SUBJECT, always=False
    ),
    EventHeader(
        "ce_historyid", _UUID, "The reads of histories that it is among.", SUBJECT, always=False
    ),
    EventHeader("ce_noticeid", _UUID, "The notice of a kernel type.", SUBJECT, always=False),
    EventHeader(
        "ce_webhookid", _UUID, "The webhook that the event concerns.", SUBJECT, always=False
    ),
    EventHeader(
        "ce_authtype",
        {"type": "string", "enum": ["api_key", "service_account", "system"]},
        "What caused it: a principal by a token, a worker, or a part of the service.",
        "api_key",
        always=False,
    ),
    EventHeader(
        "ce_authid",
        _TEXT,
        "Who caused it: the random id of the principal, a worker or a part of the service.",
        "d9428888-122b-41e1-b85c-61d0e1d6f7a1",
        always=False,
    ),
    EventHeader(
        "ce_correlationid", _TEXT, "The request or run that it belongs to.", "01HZX3", always=False
    ),
    EventHeader("ce_causationid", _TEXT, "What it follows from.", "01HZX3", always=False),
    EventHeader(
        "ce_traceparent",
        _TEXT,
        "The trace of the request, by W3C Trace Context.",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        always=False,
    ),
    EventHeader(
        "ce_dataref",
        {"type": "string", "format": "uri-reference"},
        "Where to read data that is too large for a message (over 512 KiB).",
        project_path(_TENANT, _PROJECT, "notebook", SUBJECT, "history?after=4711&limit=1"),
        always=False,
    ),
    EventHeader(
        "ce_erased",
        {"type": "string", "const": "true"},
        "The data was erased before the event was published.",
        "true",
        always=False,
    ),
    EventHeader(
        "ce_replay",
        {"type": "string", "const": "true"},
        "The event was published again on request; not on the live topic unless asked.",
        "true",
        always=False,
    ),
)


_IDS: Final = frozenset(
    {
        *("ce_notebookid", "ce_datasetid", "ce_libraryid"),
        *("ce_historyid", "ce_noticeid", "ce_webhookid"),
    }
)
_SPECIAL: Final = frozenset(
    {"ce_dataref", "ce_erased", "ce_replay", "ce_causationid", "ce_traceparent"}
)


def envelope_schema() -> Schema:
    """The schema of the value of a message without data: its attributes as a JSON object."""
    attributes = [each for each in HEADERS if each.name.startswith("ce_")]
    return {
        "type": "object",
        "description": "An event without data, in the structured mode of CloudEvents.",
        "properties": {
            each.name.removeprefix("ce_"): {**each.schema, "description": each.meaning}
            for each in attributes
        },
        "required": [each.name.removeprefix("ce_") for each in attributes if each.always],
        "anyOf": [{"required": ["dataref"]}, {"required": ["erased"]}],
    }


def headers_schema() -> Schema:
    """The schema of the headers as an object of texts."""
    return {
        "type": "object",
        "properties": {each.name: {**each.schema, "description": each.meaning} for each in HEADERS},
        "required": [each.name for each in HEADERS if each.always],
    }


def example_headers(event_type: str) -> dict[str, str]:
    """Headers of a message with such an event, but for those of special cases."""
    own = id_header(event_type)
    others = _IDS - {own}
    left_out = others | _SPECIAL
    return {
        each.name: each.example.replace("{type}", event_type).replace(
            "/notebook/", f"/{own[3:-2]}/"
        )
        for each in HEADERS
        if each.name not in left_out
    }


def id_header(event_type: str) -> str:
    """The header that names what an event of this type concerns."""
    if event_type.startswith("notice.kernel-"):
        return "ce_noticeid"
    kind = event_type.partition(".")[0]
    return (
        f"ce_{kind}id" if kind in ("dataset", "history", "library", "webhook") else "ce_notebookid"
    )
