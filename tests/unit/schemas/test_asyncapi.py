"""The AsyncAPI document: valid for the parser of its makers, and right about the messages."""

from __future__ import annotations

import copy
import json
import subprocess
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from support.node import node
from support.paths import ROOT, TESTS

from nbledger_http.description.subscribing.asyncapi import broker_of
from nbledger_infrastructure.kafka import clients, cloudevents
from nbledger_infrastructure.kafka.structured import structured
from nbledger_infrastructure.postgres.event_store import Metadata, RecordedEvent
from nbledger_infrastructure.settings import Kafka
from nbledger_schemas import headers, published, states
from nbledger_schemas.asyncapi import document
from nbledger_schemas.headers import HEADERS, envelope_schema, headers_schema, id_header
from nbledger_schemas.state_headers import state_headers_schema

BASE = "https://notebooks.example.com"
ID = UUID("aa0e8400-e29b-41d4-a716-446655440000")
AT = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)
KAFKAS = {
    "plain": Kafka(),
    "secured": Kafka(
        topic_prefix="own.name",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        state_topics="off",
    ),
}


def described(kafka: Kafka) -> dict[str, Any]:
    return document(broker_of(kafka), base=BASE, version="1.2.3")


def with_one_event(whole: dict[str, Any]) -> dict[str, Any]:
    """A copy with one event alone: reading all of them takes the parser seconds."""
    less = copy.deepcopy(whole)
    kept = "execution.claimed.v1"
    messages = less["channels"]["events"]["messages"]
    for name in [each for each in messages if each != kept]:
        del messages[name], less["components"]["messages"][name]
    others = tuple(f"{name}." for name in published() if name != kept)
    schemas = less["components"]["schemas"]
    for name in [each for each in schemas if f"{each}.".startswith(others)]:
        del schemas[name]
    return less


def parsed(*documents: dict[str, Any]) -> list[dict[str, Any]]:
    """What the parser says of each document."""
    told = subprocess.run(
        [node(), str(TESTS / "support" / "asyncapi.cjs"), str(ROOT / ".venv-node")],
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(told.stdout)
    return found


@pytest.mark.guarantee("G53")
def test_the_parser_has_nothing_to_say() -> None:
    whole, secured = map(described, KAFKAS.values())
    secured = with_one_event(secured)
    wrong = with_one_event(whole)
    wrong["asyncapi"] = "3.0.0"
    wrong["channels"]["events"]["messages"]["lost"] = {"$ref": "#/components/messages/lost"}
    told = parsed(whole, secured, wrong)
    assert [each["diagnostics"] for each in told[:2]] == [[], []]
    kinds = len(published()) + 1  # and that of messages without data
    single = {"checkpoints": 1, "lineage": 1}
    states = {"dataset-state": 1, "execution-state": 1, "notebook-state": 1}
    for each, prefix, expected in (
        (told[0], "nbledger", {"events": kinds, **single, **states}),
        (told[1], "own.name", {"events": 1, **single}),
    ):
        assert each["messages"] == {f"{prefix}.{topic}": n for topic, n in expected.items()}
    # It has something to say of others, errors and hints alike.
    assert {each["severity"] for each in told[2]["diagnostics"]} >= {0, 2}


def test_examples_are_valid_by_what_the_document_says() -> None:
    told = described(KAFKAS["plain"])
    components = {"components": told["components"]}
    for name, message in told["components"]["messages"].items():
        for example in message.get("examples", []):
            for part in example.keys() & {"headers", "payload"}:
                validator = Draft202012Validator(
                    {**message[part], **components}, format_checker=FormatChecker()
                )
                assert [e.message for e in validator.iter_errors(example[part])] == [], name


@pytest.mark.parametrize(
    ("actor", "data"),
    [("scheduler", b"{}"), (str(ID), b"{}"), ("worker:w1", None), ("somebody", None)],
)
@pytest.mark.parametrize(
    "name",
    [
        *("notebook.deleted.v1", "dataset.deleted.v1", "library.deleted.v1"),
        *("history.read.v1", "webhook.deleted.v1", "notice.kernel-available.v1"),
    ],
)
def test_headers_are_those_that_are_sent(name: str, actor: str, data: bytes | None) -> None:
    recorded = RecordedEvent(
        *(7, ID, 1, ID, name, ID, ID, ID, data),
        *(Metadata(actor, "one", "two", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"), AT, AT),
        *(b"", b"", name),
    )
    reference = None if data is None else "/api/somewhere"
    sent = cloudevents.event_headers(recorded, dataref=reference, address=BASE, replay=True)
    told = {key: value.decode() for key, value in sent}
    assert len(told) == len(sent)
    schema = {**headers_schema(), "additionalProperties": False}
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    assert [each.message for each in validator.iter_errors(told)] == []
    assert id_header(name) in told
    value = json.loads(structured(sent, None))
    envelope = Draft202012Validator(
        {**envelope_schema(), "additionalProperties": False}, format_checker=FormatChecker()
    )
    assert [each.message for each in envelope.iter_errors(value)] == []
    assert told["content-type"] == headers.STRUCTURED == cloudevents.STRUCTURED
    if data is None:
        assert "ce_dataschema" not in told
    else:
        assert told["ce_dataschema"] == f"{BASE}/schema/events/{name}.json"
        assert {each.name for each in HEADERS if each.always} <= told.keys()


@pytest.mark.parametrize("dataref", [False, True])
@pytest.mark.parametrize("deleted", [False, True])
@pytest.mark.parametrize("name", list(states()))
def test_headers_of_states_are_those_that_are_sent(
    name: str,
    deleted: bool,  # noqa: FBT001
    dataref: bool,  # noqa: FBT001
) -> None:
    kind = "dataset" if name.startswith("dataset") else "notebook"
    state = cloudevents.StateRecord(
        type=name,
        id=ID,
        tenant_id=ID,
        project_id=ID,
        subject_id=ID,
        subject_kind=kind,
        path="/api/somewhere",
        position=4711,
        at=AT,
        deleted=deleted,
        dataref=dataref and not deleted,
    )
    sent = cloudevents.state_headers(state, address=BASE)
    told = {key: value.decode() for key, value in sent}
    assert len(told) == len(sent)
    schema = {**state_headers_schema(), "additionalProperties": False}
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    assert [each.message for each in validator.iter_errors(told)] == []
    assert f"ce_{kind}id" in told
    assert ("ce_dataschema" in told) is not deleted
    assert told["ce_sequence"] == "00000000000000004711"


def test_headers_of_checkpoints_are_those_that_are_sent() -> None:
    sent = cloudevents.checkpoint_headers(ID, 4711, AT)
    told = described(KAFKAS["plain"])["components"]["schemas"]["checkpointHeaders"]
    assert set(told["required"]) == set(told["properties"]) == {name for name, _ in sent}
    assert clients.checkpoints_topic(Kafka()) == "nbledger.checkpoints"


def test_the_topic_of_lineage_is_that_which_is_written() -> None:
    assert clients.lineage_topic(Kafka()) == "nbledger.lineage"
    assert described(KAFKAS["plain"])["channels"]["lineage"]["address"] == "nbledger.lineage"


def test_every_header_is_in_the_table_of_the_docs() -> None:
    text = (ROOT / "docs" / "events.md").read_text()
    for each in HEADERS:
        assert f"`{each.name}`" in text, each.name
