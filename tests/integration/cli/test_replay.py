"""`nbledger replay`: any aggregate at any moment, and the events that made it."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from eventsourcing.domain import BaseAggregate
from support.stories import begin, record, step

from nbledger.main import main
from nbledger_application import repository
from nbledger_domain.dataset import Dataset
from nbledger_domain.histories import states
from nbledger_domain.notebook import NotebookChanges
from nbledger_domain.schedule import Schedule, ScheduleSettings, schedule_id_of
from nbledger_infrastructure.aggregates import load
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, Stream

BY_TESTER = Metadata(actor="tester")


async def replay(dsn: str, *arguments: str) -> Result:
    """Run the command in a thread: it has a loop of its own."""
    runner = CliRunner(env={"NBLEDGER_POSTGRES_DSN": dsn})
    return await asyncio.to_thread(runner.invoke, main, ["replay", *arguments])


def state_of(aggregate: BaseAggregate[uuid.UUID]) -> Any:
    """The state as JSON tells it."""
    return json.loads(msgspec.json.encode(states.state_of(aggregate)))


def lines(result: Result) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    assert result.exit_code == 0, result.output
    told, *events = map(json.loads, result.stdout.splitlines())
    return told, events


async def test_every_moment_of_anything_is_replayed(
    pool: Pool, store: EventStore, database_dsn: str
) -> None:
    dice = random.Random(7)
    story = begin(dice)
    await record(store, story)
    known: dict[int, dict[str, Any]] = {}
    for _ in range(25):
        step(story, dice)
        position = await record(store, story)
        known[position or max(known, default=0)] = state_of(story.notebook)
    run = story.executions[0]
    dataset = Dataset.create(uuid.uuid4(), name="T", at=now())
    dataset_stream = Stream(dataset.id, dataset.id, uuid.uuid4(), uuid.uuid4())
    await repository.save(store, dataset, dataset_stream, BY_TESTER)
    schedule_id = schedule_id_of(story.notebook.id)
    settings = ScheduleSettings(cron="0 3 * * *")
    schedule = Schedule.create(
        schedule_id, notebook_id=story.notebook.id, settings=settings, set_by="tester", at=now()
    )
    stream = Stream(schedule_id, story.notebook.id, uuid.uuid4(), uuid.uuid4())
    await repository.save(store, schedule, stream, BY_TESTER)
    schedule.pause("requested", at=now(), note="Rest")
    await repository.save(store, schedule, stream, BY_TESTER)

    chosen = dice.choice(list(known))
    told, events = lines(
        await replay(database_dsn, str(story.notebook.id), "--as-of", str(chosen), "--json")
    )
    assert told["state"] == known[chosen]
    assert told["kind"] == "notebook"
    assert told["position"] == chosen
    recorded = await store.read_stream(story.notebook.id)
    assert [each["position"] for each in events] == [
        each.position for each in recorded if each.position <= chosen
    ]
    assert events[0]["type"] == "notebook.created.v1"
    assert events[0]["data"]["name"] == story.notebook.name or len(events) > 1

    told, _ = lines(await replay(database_dsn, str(run.id), "--json"))
    loaded = await load(store, type(run), run.id)
    assert loaded is not None
    assert told["state"] == state_of(loaded.aggregate)
    told, _ = lines(await replay(database_dsn, str(dataset.id), "--json"))
    assert (told["kind"], told["state"]["name"]) == ("dataset", "T")
    first = (await store.read_stream(schedule_id))[0]
    told, events = lines(
        await replay(
            database_dsn,
            *(str(story.notebook.id), "--schedule", "--json", "--as-of", str(first.position)),
        )
    )
    assert (told["state"]["state"], len(events)) == ("active", 1)
    readable = await replay(database_dsn, str(story.notebook.id), "--schedule")
    assert readable.exit_code == 0
    for text in (f"schedule {schedule_id}", '"state": "paused"', "schedule.paused.v1", "tester"):
        assert text in readable.stdout


@pytest.mark.guarantee("G46")
async def test_what_cannot_be_replayed_is_told(
    pool: Pool, store: EventStore, database_dsn: str
) -> None:
    story = begin(random.Random(1))
    await record(store, story)
    notebook_id = str(story.notebook.id)
    story.notebook.update(NotebookChanges(name="Secret"), at=now())
    head = await record(store, story)
    version = await replay(database_dsn, notebook_id, "--as-of", "1.0.1")
    assert version.exit_code == 0
    assert '"name": "Secret"' in version.stdout
    dataset = Dataset.create(uuid.uuid4(), name="T", at=now())
    stream = Stream(dataset.id, dataset.id, uuid.uuid4(), uuid.uuid4())
    await repository.save(store, dataset, stream, BY_TESTER)
    for arguments, status, told in (
        ((str(uuid.uuid4()),), 1, "there is no stream"),
        (("not-an-id",), 2, "is not a valid UUID"),
        ((notebook_id, "--as-of", "yesterday"), 2, "must be a time with its zone"),
        ((notebook_id, "--as-of", str(head + 9)), 1, "is beyond the last event"),
        ((notebook_id, "--as-of", "2999-01-01T00:00:00Z"), 1, "is later than now"),
        ((notebook_id, "--as-of", "2020-01-01T00:00:00Z"), 1, "was created later"),
        ((notebook_id, "--as-of", "9.9.9"), 1, "has never had version 9.9.9"),
        ((str(dataset.id), "--as-of", "1.0.0"), 1, "only notebooks are read as of a version"),
        ((notebook_id, "--schedule"), 1, f"notebook {notebook_id} has no schedule"),
    ):
        result = await replay(database_dsn, *arguments)
        assert result.exit_code == status, (arguments, result.output)
        assert told in result.stderr, (arguments, result.stderr)
    story.notebook.delete(at=now())
    await record(store, story)
    deleted = await replay(database_dsn, notebook_id)
    assert deleted.exit_code == 0
    assert '"deleted": true' in deleted.stdout
    await store.erase_subject(story.notebook.id)
    for options in ((), ("--json",)):
        erased = await replay(database_dsn, notebook_id, *options)
        assert erased.exit_code == 1
        assert "its data was erased at " in erased.stderr
        assert "notebook.created.v1" in erased.stdout
        assert "Secret" not in erased.output
    told, *events = map(json.loads, erased.stdout.splitlines())
    assert told["state"] is None
    assert told["erasedAt"]
    assert [each["erased"] for each in events] == [True] * 4
