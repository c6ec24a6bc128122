"""The AsyncAPI document: topics, keys, headers and payloads of what subscribers may read."""

from typing import Any, Final

import msgspec

from nbledger_schemas import Schema, located, published
from nbledger_schemas.headers import (
    HEADERS,
    STRUCTURED,
    envelope_schema,
    example_headers,
    headers_schema,
)

VERSION: Final = "3.1.0"
BINDING: Final = "0.5.0"

_SERVER: Final = "broker"
_REF: Final = "#/components/schemas/"
_UUID: Final = {"type": "string", "format": "uuid"}
_WITHOUT_DATA: Final = "without-data"

_ABOUT: Final = """\
Every change of a notebook, an execution, a dataset or a library is an event on one topic, and the
checkpoints of the logs that prove it are on another.

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
            "tags": [{"name": "events"}, {"name": "proofs"}],
            "externalDocs": {"description": "The HTTP API", "url": f"{base}/schema"},
        },
        "defaultContentType": "application/json",
        "servers": {_SERVER: _server(broker)},
        "channels": {"events": _events(broker, types), "checkpoints": _checkpoints(broker)},
        "operations": {
            "publishEvents": _operation("events", "Publishes every event, in order for each key."),
            "publishCheckpoints": _operation(
                "checkpoints", "Publishes every checkpoint, in order for each log."
            ),
        },
        "components": {
            "schemas": _schemas(base),
            "messages": {
                **{name: _message(name, schema) for name, schema in published().items()},
                _WITHOUT_DATA: _without_data(),
                "checkpoint.v1": _checkpoint(),
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


def _message(name: str, schema: Schema) -> dict[str, Any]:
    examples = [
        {"name": f"example{number}", "headers": example_headers(name), "payload": each}
        for number, each in enumerate(schema.get("examples", ()), start=1)
    ]
    return {
        "name": f"nbledger.{name}",
        "title": name,
        "summary": schema["description"].partition("\n\n")[0],
        "contentType": "application/json",
        "headers": {"$ref": f"{_REF}headers"},
        "payload": {"$ref": _REF + name},
        **_COMMON,
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


def _schemas(base: str) -> dict[str, Schema]:
    """Those of events and of what they are made of: one of each, as they have no other names."""
    found: dict[str, Schema] = {
        "headers": headers_schema(),
        "withoutData": envelope_schema(),
        "checkpointHeaders": _checkpoint_headers(),
    }
    for name, schema in published().items():
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
