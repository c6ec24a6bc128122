"""The read model of datasets: rows, fresh reads, rebuilding, and what is left of deleted ones."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest
from support.read_models import assert_holds, catch_up, contents, naive_datasets

from nbledger_application import repository
from nbledger_application.reactions import eraser
from nbledger_domain.dataset import Column, Dataset, Source
from nbledger_domain.execution import Representation
from nbledger_domain.vocabulary.media_types import PARQUET
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope
from nbledger_infrastructure.artifacts.store import open_store as open_artifacts
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.kafka import messages
from nbledger_infrastructure.kafka.cloudevents import attributes
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, Stream
from nbledger_infrastructure.settings import Kafka
from nbledger_projections import rebuild
from nbledger_projections.read_models import dataset_details

PROJECT = UUID(int=1)
METADATA = Metadata(actor="tester")


def stream_of(dataset_id: UUID) -> Stream:
    return Stream(dataset_id, dataset_id, PROJECT, PROJECT)


def add_version(dataset: Dataset, rows: int) -> None:
    dataset.add_version(
        content=Representation(PARQUET, "5f" * 32, 100),
        rows=rows,
        columns=[Column("case_id", "string")],
        source=Source(kind="upload", file_name="log.csv"),
        at=now(),
    )


async def tell(store: EventStore, dice: random.Random, steps: int) -> None:
    """Things that happen to some datasets."""
    living: list[Dataset] = []
    for _ in range(steps):
        if not living or dice.random() < 0.3:
            living.append(Dataset.create(uuid4(), name=f"D{dice.randrange(9)}", at=now()))
        dataset = dice.choice(living)
        if dataset.head is not None and dice.random() < 0.2:
            dataset.delete(at=now())
            living.remove(dataset)
        else:
            add_version(dataset, dice.randrange(1000))
        await repository.save(store, dataset, stream_of(dataset.id), METADATA)


async def test_rows_reads_and_lists_are_what_the_events_say(pool: Pool, store: EventStore) -> None:
    dice = random.Random(1)
    await tell(store, dice, 40)
    position = await catch_up(pool, dataset_details.NAME, batch=7)
    events = await store.read_all(after_position=0, limit=1000)
    await assert_holds(pool, dataset_details.NAME, events)
    # What comes now is in no row yet, and is read all the same.
    await tell(store, dice, 20)
    events = await store.read_all(after_position=0, limit=1000)
    for dataset_id, document in naive_datasets(events).items():
        view = await dataset_details.get(pool, PROJECT, PROJECT, dataset_id)
        assert view is not None
        assert view.document == document
        assert await dataset_details.get(pool, PROJECT, uuid4(), dataset_id) is None
    page = await dataset_details.page(pool, PROJECT, PROJECT, page=1, page_size=100)
    assert page.position == position
    await catch_up(pool, dataset_details.NAME)
    page = await dataset_details.page(pool, PROJECT, PROJECT, page=1, page_size=100)
    shown = [UUID(msgspec.json.decode(item)["datasetId"]) for item in page.items]
    created = [event.stream_id for event in events if event.type == Dataset.Created.TYPE]
    living = naive_datasets(events)
    assert shown == [each for each in reversed(created) if each in living]
    assert page.total_count == len(shown)
    second = await dataset_details.page(pool, PROJECT, PROJECT, page=2, page_size=3)
    assert [UUID(msgspec.json.decode(item)["datasetId"]) for item in second.items] == shown[3:6]


async def test_only_the_newest_versions_are_listed(pool: Pool, store: EventStore) -> None:
    dataset = Dataset.create(uuid4(), name="Many", at=now())
    for rows in range(130):
        add_version(dataset, rows)
    await repository.save(store, dataset, stream_of(dataset.id), METADATA)
    view = await dataset_details.get(pool, PROJECT, PROJECT, dataset.id)
    assert view is not None
    told = msgspec.json.decode(view.document, type=dataset_details.DatasetDocument)
    assert (told.version, told.row_count) == (130, 129)
    assert [each.version for each in told.versions] == list(range(130, 30, -1))
    assert view.document.count(b"case_id") == 1


@pytest.mark.guarantee("G21")
async def test_a_rebuild_gives_the_same_rows(pool: Pool, store: EventStore) -> None:
    await tell(store, random.Random(2), 30)
    await catch_up(pool, dataset_details.NAME)
    before = await contents(pool, dataset_details.NAME)
    assert before["dataset_details"]
    await rebuild.rebuild_projections(pool, [dataset_details.NAME])
    assert await contents(pool, dataset_details.NAME) == before


async def test_a_deleted_dataset_is_erased_and_its_files_go(
    pool: Pool, store: EventStore, tmp_path: Path
) -> None:
    artifacts = ArtifactStore(open_artifacts((tmp_path / "artifacts").as_uri()))
    dataset = Dataset.create(uuid4(), name="Secret", at=now())
    add_version(dataset, 3)
    dataset.delete(at=now())
    await repository.save(store, dataset, stream_of(dataset.id), METADATA)
    scope = Scope(PROJECT, PROJECT, dataset.id)
    await artifacts.put(scope, b"rows")
    events = await store.read_stream(dataset.id)
    assert all(event.data is not None for event in events)
    await eraser.react(store, pool, artifacts, events)
    erased = await store.read_stream(dataset.id)
    assert [event.type for event in erased] == [
        "dataset.created.v1",
        "dataset.version-added.v1",
        "dataset.deleted.v1",
    ]
    assert all(event.data is None for event in erased)
    assert await artifacts.delete_all(scope) == 0
    assert await dataset_details.get(pool, PROJECT, PROJECT, dataset.id) is None
    await catch_up(pool, dataset_details.NAME)
    assert set(map(len, (await contents(pool, dataset_details.NAME)).values())) == {0}


async def test_the_relay_passes_its_events_on(store: EventStore) -> None:
    dataset = Dataset.create(uuid4(), name="Journeys", at=now())
    add_version(dataset, 3)
    await repository.save(store, dataset, stream_of(dataset.id), METADATA)
    for recorded in await store.read_stream(dataset.id):
        message = messages.event_message(recorded, Kafka(), "")
        told = attributes(message.headers)
        assert message.key == str(dataset.id).encode()
        assert message.value == recorded.data
        assert told["type"] == f"nbledger.{recorded.type}"
        assert told["source"] == f"/api/{PROJECT}/{PROJECT}/dataset/{dataset.id}"
        assert told["datasetid"] == str(dataset.id)
        assert "notebookid" not in told
