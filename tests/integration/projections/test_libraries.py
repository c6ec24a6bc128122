"""The read model of uploaded libraries: rows, fresh reads, rebuilding; their events on Kafka."""

from __future__ import annotations

import random
from uuid import UUID, uuid4

from support.read_models import assert_holds, catch_up, contents, naive_libraries

from nbledger_application import repository
from nbledger_domain.execution import Representation
from nbledger_domain.library import Library
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.kafka import messages
from nbledger_infrastructure.kafka.cloudevents import attributes
from nbledger_infrastructure.packages.wheels import WHEEL
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, Stream
from nbledger_infrastructure.settings import Kafka
from nbledger_projections import rebuild
from nbledger_projections.read_models import library_details

PROJECT = UUID(int=1)
METADATA = Metadata(actor="tester")


async def upload(store: EventStore, version: str) -> Library:
    library = Library.upload(
        uuid4(),
        name="our-rules",
        version=version,
        file_name=f"our_rules-{version}-py3-none-any.whl",
        content=Representation(WHEEL, "5f" * 32, 100),
        requires_python=">=3.11",
        dependencies=["pandas>=3"],
        at=now(),
    )
    await repository.save(store, library, stream_of(library), METADATA)
    return library


def stream_of(library: Library) -> Stream:
    return Stream(library.id, library.id, PROJECT, PROJECT)


async def tell(store: EventStore, dice: random.Random, steps: int) -> None:
    living: list[Library] = []
    for step in range(steps):
        if living and dice.random() < 0.3:
            library = living.pop(dice.randrange(len(living)))
            library.delete(at=now())
            await repository.save(store, library, stream_of(library), METADATA)
        else:
            living.append(await upload(store, f"1.{step}"))


async def test_rows_and_reads_are_what_the_events_say(pool: Pool, store: EventStore) -> None:
    dice = random.Random(3)
    await tell(store, dice, 30)
    await catch_up(pool, library_details.NAME, batch=7)
    events = await store.read_all(after_position=0, limit=1000)
    await assert_holds(pool, library_details.NAME, events)
    before = await contents(pool, library_details.NAME)
    assert before["library_details"]
    await rebuild.rebuild_projections(pool, [library_details.NAME])
    assert await contents(pool, library_details.NAME) == before
    # What comes now is in no row yet, and is read all the same.
    await tell(store, dice, 10)
    events = await store.read_all(after_position=0, limit=1000)
    living = naive_libraries(events)
    for stream_id in {event.stream_id for event in events}:
        view = await library_details.get(pool, PROJECT, PROJECT, stream_id)
        assert (None if view is None else view.document) == living.get(stream_id)
        assert await library_details.get(pool, PROJECT, uuid4(), stream_id) is None


async def test_the_relay_passes_its_events_on(store: EventStore) -> None:
    library = await upload(store, "1.0")
    (recorded,) = await store.read_stream(library.id)
    message = messages.event_message(recorded, Kafka(), "")
    told = attributes(message.headers)
    assert message.key == str(library.id).encode()
    assert message.value == recorded.data
    assert told["type"] == "nbledger.library.uploaded.v1"
    assert told["source"] == f"/api/{PROJECT}/{PROJECT}/library/{library.id}"
    assert told["libraryid"] == str(library.id)
    assert "notebookid" not in told
