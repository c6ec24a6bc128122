"""Every kind of event, as independent SDKs of CloudEvents read it: from the topic, and as JSON."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.base import BaseCloudEvent
from support.cloud_events import STRUCTURED, javascript_reads, python_reads, python_reads_body
from support.paths import TESTS
from support.read_models import running
from support.topics import Record, reading, until

from nbledger_infrastructure import settings
from nbledger_infrastructure.actors import SCHEDULER
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.kafka import clients, cloudevents, messages, relay
from nbledger_infrastructure.kafka.structured import envelope
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    Metadata,
    NewEvent,
    RecordedEvent,
    Stream,
)

GOLDEN = TESTS / "unit" / "domain" / "golden"
BASE = "https://notebooks.example.com"
TENANT, PROJECT = uuid.uuid4(), uuid.uuid4()
ACTORS = (SCHEDULER, str(uuid.uuid4()), "worker:w1", "a name of before principals")
RENAMED = "notebook.renamed.v1"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def config(database_dsn: str, kafka: str, topic_prefix: str) -> settings.Settings:
    return settings.Settings(
        postgres=settings.Postgres(dsn=database_dsn),
        http=settings.Http(public_url=BASE),
        kafka=settings.Kafka(
            bootstrap_servers=kafka, topic_prefix=topic_prefix, idempotent=False, partitions=3
        ),
    )


async def append(store: EventStore, number: int, *written: tuple[str, bytes]) -> uuid.UUID:
    """Append events, each a type and data, in a stream of their own."""
    stream_id = uuid.uuid4()
    metadata = Metadata(
        actor=ACTORS[number % len(ACTORS)],
        correlation_id="a run \N{SNOWMAN}" if number % 2 else None,
        causation_id=str(uuid.uuid4()) if number % 3 else None,
        traceparent=TRACE if number % 5 else None,
    )
    await store.append(
        Stream(stream_id, stream_id, TENANT, PROJECT),
        [
            NewEvent(event_id=new_id(), type=type_, data=data, occurred_at=datetime.now(UTC))
            for type_, data in written
        ],
        expected_version=0,
        metadata=metadata,
    )
    return stream_id


async def append_every_kind(store: EventStore) -> list[RecordedEvent]:
    """One of each type with its golden data, one whose data is too large, and one erased."""
    golden = {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.json"))}
    # Which command a lost attempt leads to is told by the request before it.
    both = ("execution.requested.v1", "execution.attempt-lost.v1")
    await append(store, 0, *((each, golden.pop(each)) for each in both))
    for number, (type_, data) in enumerate(golden.items()):
        await append(store, number, (type_, data))
    large = json.dumps({"name": "x" * messages.MAX_DATA_BYTES}).encode()
    await append(store, 1, (RENAMED, large))
    await store.erase_subject(await append(store, 2, (RENAMED, b'{"name":"n"}')))
    return list(await store.read_all(after_position=0, limit=1000))


def expected(event: RecordedEvent, dataref: str | None) -> dict[str, Any]:
    """Every attribute of an event, as the standard and its extensions say."""
    kind = cloudevents.subject_kind(event.type)
    told: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(event.event_id),
        "source": f"/api/{TENANT}/{PROJECT}/{kind}/{event.subject_id}",
        "type": f"nbledger.{event.type}",
        "subject": str(event.stream_id),
        "partitionkey": str(event.stream_id),
        "sequence": str(event.position).rjust(20, "0"),
        "position": str(event.position),
        "streamversion": str(event.version),
        "tenantid": str(TENANT),
        "projectid": str(PROJECT),
        f"{kind}id": str(event.subject_id),
    }
    actor, metadata = event.metadata.actor, event.metadata
    kinds = dict(zip(ACTORS, ("system", "api_key", "service_account", "api_key"), strict=True))
    told["authtype"] = kinds[actor]
    if actor != ACTORS[-1]:
        told["authid"] = actor
    for name in ("correlation_id", "causation_id", "traceparent"):
        if (value := getattr(metadata, name)) is not None:
            told[name.replace("_", "")] = value
    if event.data is None:
        return {**told, "erased": "true"}
    told["dataschema"] = f"{BASE}/schema/events/{event.type}.json"
    if dataref is not None:
        return {**told, "dataref": dataref}
    return {**told, "datacontenttype": "application/json"}


def check_python(read: BaseCloudEvent, event: RecordedEvent, dataref: str | None) -> None:
    found = dict(read.get_attributes())
    assert found.pop("time") == event.occurred_at
    recorded: str = found.pop("recordedtime")
    assert datetime.fromisoformat(recorded) == event.recorded_at
    assert found == expected(event, dataref)
    without = event.data is None or dataref is not None
    assert read.get_data() == (None if without else json.loads(event.data or b""))


def check_javascript(read: dict[str, Any], event: RecordedEvent, dataref: str | None) -> None:
    del read["time"]  # which it cuts to milliseconds
    assert datetime.fromisoformat(read.pop("recordedtime")) == event.recorded_at
    data = read.pop("data", None)
    told = expected(event, dataref)
    # It has a default.
    read.setdefault("datacontenttype", "application/json")
    assert read == {"datacontenttype": "application/json", **told}
    without = event.data is None or dataref is not None
    assert data == (None if without else json.loads(event.data or b""))


@pytest.mark.guarantee("G57")
async def test_sdks_read_every_kind_of_event(config: settings.Settings, store: EventStore) -> None:
    events = await append_every_kind(store)
    assert events[-1].data is None
    async with (
        reading(config, clients.events_topic(config.kafka)) as found,
        running(relay.run, config),
    ):
        await until(found, len(events))
    by_id: dict[str, Record] = {dict(each.headers)["ce_id"].decode(): each for each in found}
    published = [by_id[str(event.event_id)] for event in events]
    of_large = cloudevents.history_path(events[-2])
    datarefs = [of_large if each is events[-2] else None for each in events]
    for message, event, dataref in zip(published, events, datarefs, strict=True):
        without = event.data is None or dataref is not None
        assert message.key == str(event.stream_id).encode()
        kind = dict(message.headers)["content-type"].decode()
        assert kind.startswith(STRUCTURED) == without
        if not without:
            assert message.value == event.data
        check_python(python_reads(message), event, dataref)

    made = envelope(512, BASE)
    bodies = [made(event) for event in events]
    for body, event, dataref in zip(bodies, events, datarefs, strict=True):
        check_python(python_reads_body(body), event, dataref)

    read = javascript_reads(published, [(cloudevents.STRUCTURED, body) for body in bodies])
    for one, event, dataref in zip(read, events * 2, datarefs * 2, strict=True):
        check_javascript(one, event, dataref)


async def test_sequences_sort_as_positions_do(store: EventStore) -> None:
    await append_every_kind(store)
    events = await store.read_all(after_position=0, limit=1000)
    told = [
        dict(cloudevents.event_headers(each, address=BASE))["ce_sequence"].decode()
        for each in events
    ]
    assert len(told) > 10
    assert sorted(told, key=str) == told
