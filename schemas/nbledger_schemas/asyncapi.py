"""The AsyncAPI document: topics, keys, headers and payloads of what subscribers may read."""

from typing import Any, Final

import msgspec

from nbledger_schemas import Schema, located, published, states
from nbledger_schemas.headers import (
    HEADERS,
    STRUCTURED,
    envelope_schema,
    example_headers,
    headers_schema,
)
from nbledger_schemas.state_headers import example_state_headers, state_headers_schema

VERSION: Final = "3.1.0"
BINDING: Final = "0.5.0"

_SERVER: Final = "broker"
_REF: Final = "#/components/schemas/"
_UUID: Final = {"type": "string", "format": "uuid"}
_WITHOUT_DATA: Final = "without-data"

_ABOUT: Final = """\
Every change of a notebook, an execution, a dataset or a library is an event on one topic, and the
checkpoints of the logs that prove it are on another. Compacted topics have the newest state of each
notebook, execution and dataset. One more has lineage, where it is set up.

Delivery is at least once, and in order for each key: drop a message whose `ce_id` was seen. Members
of the data that are not described may appear at any time. Messages are CloudEvents 1.0 in binary
mode. Where data was erased before it was published (`ce_erased`), or is too large for a message
(`ce_dataref` says where to read it), the message is in structured mode with the same headers: its
`content-type` begins with `application/cloudevents`, and its value has the attributes and no data.
A value is never null.
"""


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """What the document tells of an installation's broker, whose address it does not tell."""

    protocol: str
    sasl: str | None
    topic_prefix: str
    partitions: int
    replicas: int
    retention_hours: int
    state_topics: bool


def document(broker: Broker, *, base: str, version: str) -> dict[str, Any]:
    """The document of the service that is reached by ``base``, in this version."""
    types = list(published())
    return {
        "asyncapi": VERSION,
        "id": f"{base}/schema/asyncapi.json",
        "info": {
            "title": "nbledger events",
            "version": version,
            "description": _ABOUT,
            "contact": {"name": "Whoever runs this service", "url": base},
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
            "tags": [
                {"name": "events"},
                {"name": "states"},
                {"name": "proofs"},
                {"name": "lineage"},
            ],
            "externalDocs": {"description": "The HTTP API", "url": f"{base}/schema"},
        },
        "defaultContentType": "application/json",
        "servers": {_SERVER: _server(broker)},
        "channels": {
            "events": _events(broker, types),
            **(_states(broker) if broker.state_topics else {}),
            "checkpoints": _checkpoints(broker),
            "lineage": _lineage(broker),
        },
        "operations": {
            "publishEvents": _operation("events", "Publishes every event, in order for each key."),
            **(_state_operations() if broker.state_topics else {}),
            "publishCheckpoints": _operation(
                "checkpoints", "Publishes every checkpoint, in order for each log."
            ),
            "publishLineage": _operation(
                "lineage", "Publishes what becomes of runs and datasets, in order for each key."
            ),
        },
        "components": {
            "schemas": _schemas(base, with_states=broker.state_topics),
            "messages": {
                **{name: _event(name, schema) for name, schema in published().items()},
                **(
                    {name: _state(name, schema) for name, schema in states().items()}
                    if broker.state_topics
                    else {}
                ),
                _WITHOUT_DATA: _without_data(),
                "checkpoint.v1": _checkpoint(),
                "lineage": _openlineage(),
            },
            "securitySchemes": _security(broker),
        },
    }


def _server(broker: Broker) -> dict[str, Any]:
    described: dict[str, Any] = {
        "host": "{broker}",
        "protocol": broker.protocol,
        "description": "The Kafka broker.",
        "variables": {
            "broker": {
                "description": "Host and port by which subscribers reach it; its operator tells.",
                "default": "localhost:9092",
            }
        },
    }
    if broker.sasl is not None:
        described["security"] = [{"$ref": "#/components/securitySchemes/password"}]
    return described


def _security(broker: Broker) -> dict[str, Any]:
    kinds = {
        None: {},
        "PLAIN": {"password": {"type": "plain"}},
        "SCRAM-SHA-256": {"password": {"type": "scramSha256"}},
        "SCRAM-SHA-512": {"password": {"type": "scramSha512"}},
    }
    return kinds[broker.sasl]


def _channel(
    topic: str, described: dict[str, Any], configuration: dict[str, Any]
) -> dict[str, Any]:
    kafka = {"topic": topic, "topicConfiguration": configuration, "bindingVersion": BINDING}
    bindings = {"kafka": kafka | described.pop("kafka")}
    return {
        "address": topic,
        "servers": [{"$ref": f"#/servers/{_SERVER}"}],
        **described,
        "bindings": bindings,
    }


def _events(broker: Broker, types: list[str]) -> dict[str, Any]:
    return _channel(
        f"{broker.topic_prefix}.events",
        {
            "title": "Events",
            "summary": "Every event, by its stream.",
            "messages": {
                name: {"$ref": f"#/components/messages/{name}"} for name in (*types, _WITHOUT_DATA)
            },
            "tags": [{"name": "events"}],
            "kafka": {"partitions": broker.partitions, "replicas": broker.replicas},
        },
        {"cleanup.policy": ["delete"], "retention.ms": broker.retention_hours * 3_600_000},
    )


def _checkpoints(broker: Broker) -> dict[str, Any]:
    return _channel(
        f"{broker.topic_prefix}.checkpoints",
        {
            "title": "Checkpoints",
            "summary": "Every signed checkpoint of each tenant's log, kept for ever.",
            "messages": {"checkpoint.v1": {"$ref": "#/components/messages/checkpoint.v1"}},
            "tags": [{"name": "proofs"}],
            "kafka": {"partitions": 1, "replicas": broker.replicas},
        },
        {"cleanup.policy": ["delete"], "retention.ms": -1},
    )


def _lineage(broker: Broker) -> dict[str, Any]:
    return _channel(
        f"{broker.topic_prefix}.lineage",
        {
            "title": "Lineage",
            "summary": "Runs and versions of datasets as OpenLineage tells them.",
            "description": "The topic is there where the setting `lineage.transport` is `kafka`.",
            "messages": {"lineage": {"$ref": "#/components/messages/lineage"}},
            "tags": [{"name": "lineage"}],
            "kafka": {"partitions": broker.partitions, "replicas": broker.replicas},
        },
        {"cleanup.policy": ["delete"], "retention.ms": broker.retention_hours * 3_600_000},
    )


def _states(broker: Broker) -> dict[str, Any]:
    return {
        _state_channel(name): _channel(
            f"{broker.topic_prefix}.{name.partition('.')[0]}",
            {
                "title": name.partition(".")[0],
                "summary": "The newest state of each, by its id; no value where it is deleted.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"}},
                "tags": [{"name": "states"}],
                "kafka": {"partitions": broker.partitions, "replicas": broker.replicas},
            },
            {
                "cleanup.policy": ["compact"],
                "delete.retention.ms": broker.retention_hours * 3_600_000,
            },
        )
        for name in states()
    }


def _state_channel(name: str) -> str:
    kind = name.partition("-")[0]
    return f"{kind}State"


def _state_operations() -> dict[str, Any]:
    found = {}
    for name in states():
        channel = _state_channel(name)
        found[f"publish{channel[0].upper()}{channel[1:]}"] = _operation(
            channel, "Publishes the newest state of each, never an older one after a newer one."
        )
    return found


def _operation(channel: str, summary: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
    }


_COMMON: Final = {
    "correlationId": {"location": "$message.header#/ce_correlationid"},
    "bindings": {
        "kafka": {
            "key": {**_UUID, "description": "The stream's id."},
            "bindingVersion": BINDING,
        }
    },
}
_LARGE: Final = "notebook.cells-updated.v1"


def _event(name: str, schema: Schema) -> dict[str, Any]:
    return {**_message(name, schema, headers="headers", example=example_headers(name)), **_COMMON}


def _state(name: str, schema: Schema) -> dict[str, Any]:
    told = _message(name, schema, headers="stateHeaders", example=example_state_headers(name))
    key = {**_UUID, "description": "The id of what it is the state of."}
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
        "headers": {"$ref": f"{_REF}{headers}"},
        "payload": {"$ref": _REF + name},
        **({"examples": examples} if examples else {}),
    }


def _without_data() -> dict[str, Any]:
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
        "title": _WITHOUT_DATA,
        "summary": "An event of any type whose data is too large for a message, or erased.",
        "contentType": STRUCTURED,
        "headers": {"$ref": f"{_REF}headers"},
        "payload": {"$ref": f"{_REF}withoutData"},
        **_COMMON,
        "examples": [{"name": "tooLarge", "headers": shown, "payload": payload}],
    }


def _checkpoint() -> dict[str, Any]:
    return {
        "name": "nbledger.checkpoint.v1",
        "title": "checkpoint.v1",
        "summary": "A signed checkpoint of a log, as a note of C2SP.",
        "contentType": "text/plain; charset=utf-8",
        "headers": {"$ref": f"{_REF}checkpointHeaders"},
        "payload": {"type": "string", "description": "The note, byte for byte as it is served."},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "The log's origin."},
                "bindingVersion": BINDING,
            }
        },
    }


def _openlineage() -> dict[str, Any]:
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


def _checkpoint_headers() -> Schema:
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


def _schemas(base: str, *, with_states: bool) -> dict[str, Schema]:
    """Those of events and of what they are made of: one of each, as they have no other names."""
    found: dict[str, Schema] = {
        "headers": headers_schema(),
        "withoutData": envelope_schema(),
        "checkpointHeaders": _checkpoint_headers(),
        **({"stateHeaders": state_headers_schema()} if with_states else {}),
    }
    for name, schema in (published() | (states() if with_states else {})).items():
        whole = located(schema, base)
        address = whole.pop("$id")
        whole.pop("$schema")
        parts = {f"{name}.{part}": each for part, each in whole.pop("$defs", {}).items()}
        whole["externalDocs"] = {"description": "As JSON Schema 2020-12", "url": address}
        found[name] = _referring(whole, name)
        found |= {part: _referring(each, name) for part, each in parts.items()}
    return found


def _referring(schema: Any, name: str) -> Any:
    """``schema`` with references that lead to the parts of the schema ``name`` in the document.

    What stands beside a reference does not count in AsyncAPI, so it is put around it.
    """
    if isinstance(schema, list):
        return [_referring(each, name) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" not in schema:
        return {
            key: each if key in ("examples", "default") else _referring(each, name)
            for key, each in schema.items()
        }
    reference = {"$ref": f"{_REF}{name}.{schema['$ref'].rpartition('/')[2]}"}
    beside = {key: each for key, each in schema.items() if key != "$ref"}
    return {**beside, "allOf": [reference]} if beside else reference
