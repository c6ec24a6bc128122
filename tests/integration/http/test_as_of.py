"""What `asOf` answers: exactly what the GET answered then."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest
from support import stories
from support.api import Api, new_notebook
from support.read_models import catch_up
from support.shared_api import api, api_server

from nbledger_application import repository
from nbledger_application.reactions import deletions, eraser
from nbledger_application.schedules.following import ScheduleFollower
from nbledger_application.schedules.folding import NOTED, READ
from nbledger_domain.execution import Execution
from nbledger_domain.execution.usual_durations import Usual
from nbledger_domain.notices import RunNotice
from nbledger_domain.schedule import Firing, Schedule, firing_id_of, schedule_id_of
from nbledger_infrastructure.aggregates import load
from nbledger_infrastructure.artifacts.store import ArtifactStore, open_store
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.postgres.event_store import Metadata, Stream
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_projections.machinery import snapshots

__all__ = ["api", "api_server"]

BY_TESTER = Metadata(actor="tester")
SETTINGS = (
    {"scheduleExecution": {"cron": "0 3 1 1 *", "maxRuns": 3}},
    {"scheduleExecution": "0 4 1 1 *"},
    {"scheduleExecution": None},
    {"autoExecution": True, "enrichmentMode": True},
    {"autoExecution": {"on": ["cells"], "quietSeconds": 5}},
    {"outputFormat": "csv", "maxConcurrentRuns": 2},
)
NAMES = ("Ünïcödé \"x\"", "A", "B \U0001f600", "line\nbreak")


class Answer(NamedTuple):
    """What a GET answered, and when: after the event at ``position``, at the time ``at``."""

    path: str
    position: int
    at: str
    status: int
    body: bytes
    etag: str | None


class World:
    """A project in which random things happen, and everything that was read of it."""

    def __init__(self, api: Api, client: httpx.AsyncClient, dice: random.Random) -> None:
        self.api, self.client, self.dice = api, client, dice
        self.notebooks: list[str] = []
        self.executions: dict[str, str] = {}
        self.datasets: list[str] = []
        self.answers: list[Answer] = []
        self.follower = ScheduleFollower(api.store)
        self._followed = 0

    def stream(self, stream_id: UUID, subject_id: UUID) -> Stream:
        return Stream(stream_id, subject_id, self.api.tenant_id, self.api.project_id)

    async def step(self) -> None:
        """Let one thing happen, and read what it may have changed."""
        kinds = [self._edit] * 5 + [self._run] * 2 + [self._advance] * 10 + [self._fire] * 2
        kinds += [self._make, self._table, self._table, self._pause] + [self._slow, self._rerun] * 3
        kinds += [self._delete] * (self.dice.random() < 0.3)
        await self.dice.choice(kinds)()
        await self._follow()
        await self._read()

    async def _make(self) -> None:
        if len(self.notebooks) < 3:
            integration = self.dice.choice(SETTINGS)
            sources = [f"print({n})" for n in range(self.dice.randrange(1, 4))]
            made = await new_notebook(self.client, *sources, integration=integration)
            self.notebooks.append(made["notebookId"])

    async def _edit(self) -> None:
        if not self.notebooks:
            return await self._make()
        path = f"/notebook/{self.dice.choice(self.notebooks)}"
        cells = (await self.client.get(path)).json()["cells"]
        self.dice.shuffle(cells)
        source = f"x = {self.dice.random()}"
        body = self.dice.choice(
            [
                {"notebookName": self.dice.choice(NAMES)},
                {"notebookDescription": self.dice.choice(NAMES)},
                {"integration": self.dice.choice(SETTINGS)},
                {"environment": {"packages": ["numpy"][: self.dice.randrange(2)]}},
                {"cells": [*cells[:3], {"cellType": "code", "content": source}]},
            ]
        )
        answer = await self.client.put(path, json=body)
        assert answer.status_code == 200, answer.text

    async def _run(self) -> None:
        if self.notebooks:
            notebook_id = self.dice.choice(self.notebooks)
            answer = await self.client.post(f"/notebook/{notebook_id}/execute")
            assert answer.status_code == 202, answer.text
            self.executions[answer.json()["executionId"]] = notebook_id

    async def _advance(self) -> None:
        """What a worker records of a run."""
        if not self.executions:
            return
        execution_id = self.dice.choice(list(self.executions))
        loaded = await load(self.api.store, Execution, UUID(execution_id))
        if loaded is not None and not loaded.aggregate.ended:
            for _ in range(self.dice.randrange(1, 4)):
                if not loaded.aggregate.ended:
                    stories.advance(loaded.aggregate, self.dice, now())
            await repository.save(self.api.store, loaded.aggregate, loaded.stream, BY_TESTER)

    async def _rerun(self) -> None:
        if self.executions:
            execution_id = self.dice.choice(list(self.executions))
            notebook_id = self.executions[execution_id]
            path = f"/notebook/{notebook_id}/execution/{execution_id}/rerun"
            answer = await self.client.post(path)
            if answer.status_code == 202:
                self.executions[answer.json()["executionId"]] = notebook_id

    async def _slow(self) -> None:
        if self.executions:
            execution_id = self.dice.choice(list(self.executions))
            notebook_id = UUID(self.executions[execution_id])
            notice = RunNotice.tell(
                UUID(execution_id),
                notebook_id=notebook_id,
                started_at=now(),
                seconds=90.5,
                threshold_seconds=60.0,
                usual=Usual(5, 20.0, 30.0),
                at=now(),
            )
            if not await self.api.store.read_stream(notice.id):
                stream = self.stream(notice.id, notebook_id)
                await repository.save(self.api.store, notice, stream, BY_TESTER)

    async def _fire(self) -> None:
        """What the scheduler records of a due time."""
        for notebook_id in map(UUID, self.notebooks):
            schedule_id = schedule_id_of(notebook_id)
            if await load(self.api.store, Schedule, schedule_id) is None:
                continue
            due = datetime(2024, 1, 1, 3, tzinfo=UTC) + timedelta(days=self.dice.randrange(5))
            firing_id = firing_id_of(schedule_id, due)
            version = len(await self.api.store.read_stream(firing_id))
            members: dict[str, Any] = {
                "originator_id": firing_id,
                "originator_version": version + 1,
                "timestamp": now(),
                "schedule_id": schedule_id,
                "due_at": due,
                "trigger": "due",
            }
            if version == 0 and self.dice.random() < 0.5:
                event: Firing.Event = Firing.Queued(**members)
            elif version < 2:
                event = Firing.Started(
                    **members, execution_id=uuid.uuid4(), notebook_stream_version=1
                )
            else:
                return
            stream = self.stream(firing_id, notebook_id)
            await repository.append(self.api.store, stream, [event], BY_TESTER)

    async def _pause(self) -> None:
        if self.notebooks:
            what = self.dice.choice(["pause", "resume"])
            await self.client.post(f"/notebook/{self.dice.choice(self.notebooks)}/schedule/{what}")

    async def _table(self) -> None:
        rows = "".join(f"{n},{self.dice.random()}\n" for n in range(self.dice.randrange(1, 4)))
        head = self.dice.choice(["a,b", "c,d"])
        file = {"file": ("t.csv", f"{head}\n{rows}".encode())}
        if len(self.datasets) < 2:
            made = await self.client.post("/dataset/csv", files=file)
            assert made.status_code == 201, made.text
            self.datasets.append(made.json()["datasetId"])
        else:
            await self.client.put(f"/dataset/{self.dice.choice(self.datasets)}/csv", files=file)

    async def _delete(self) -> None:
        if self.dice.random() < 0.5 and self.datasets:
            await self.client.delete(f"/dataset/{self.dice.choice(self.datasets)}")
        elif self.notebooks:
            await self.client.delete(f"/notebook/{self.dice.choice(self.notebooks)}?force=true")

    async def _follow(self) -> None:
        """What the scheduler keeps, as far as it has read: all of it."""
        while batch := await self.api.store.read_all(after_position=self._followed, limit=100):
            self._followed = batch[-1].position
            await self.follower.prepare(batch)
            async with self.api.pool.acquire() as connection, connection.transaction():
                known = {*READ, *NOTED}
                await self.follower.fold(connection, [each for each in batch if each.type in known])

    async def _read(self) -> None:
        position = await self.api.store.head_position()
        async with self.api.pool.acquire() as connection:
            at = await connection.fetchval("SELECT clock_timestamp()")
        some = list(self.executions.items())[-6:]
        for path in [
            *(f"/notebook/{each}" for each in self.notebooks),
            *(f"/notebook/{notebook}/execution/{each}" for each, notebook in some),
            *(f"/dataset/{each}" for each in self.datasets),
        ]:
            answer = await self.client.get(path)
            etag = answer.headers.get("etag")
            told = (answer.status_code, answer.content, etag)
            self.answers.append(Answer(path, position, f"{at:%Y-%m-%dT%H:%M:%S.%fZ}", *told))

    async def compare(self, answers: list[Answer]) -> int:
        """Ask for everything again as of then; returns how many were there."""
        there = 0
        for answer in answers:
            asof = self.dice.choice([str(answer.position), answer.at])
            again = await self.client.get(answer.path, params={"asOf": asof})
            assert again.status_code == answer.status, (answer, asof, again.text)
            if answer.status == 200:
                there += 1
                expected, etag = _without_queue(answer)
                assert again.content == expected, (answer.path, asof)
                assert again.headers["etag"] == etag, (answer.path, asof)
                assert again.headers["nbledger-position"] == str(answer.position)
            else:
                assert again.json()["code"] == "deleted_before", (answer, asof, again.text)
        return there


def _without_queue(answer: Answer) -> tuple[bytes, str | None]:
    """What was answered, but for the place in the queue, which no event tells."""
    body, etag = answer.body, answer.etag
    if b',"queue":{' in body:
        body = body[: body.index(b',"queue":{')] + b"}"
        assert etag is not None
        etag = f'{etag[: etag.index(".q")]}"'
    return body, etag


@pytest.fixture
async def world(api: Api) -> AsyncIterator[World]:
    yield World(api, await api.client(Role.ADMIN), random.Random(4711))


@pytest.mark.guarantee("G46")
@pytest.mark.guarantee("G47")
async def test_as_of_answers_what_the_get_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After random work: by position and by time, projected or not, with snapshots and without."""
    # A snapshot at nearly every event.
    monkeypatch.setattr(snapshots, "LEAST_BYTES", 3_000)
    monkeypatch.setattr(snapshots, "EVENT_BYTES", 60_000)
    for number in range(70):
        await world.step()
        if number in (20, 45):
            await catch_up(world.api.pool, batch=world.dice.randrange(1, 60))
    some = world.dice.sample(world.answers, 80)
    assert await world.compare(some) > 40
    await catch_up(world.api.pool)
    async with world.api.pool.acquire() as connection:
        for table in ("notebook_snapshot", "execution_snapshot", "dataset_snapshot"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}"), table
    assert await world.compare(world.answers) > 200
    async with world.api.pool.acquire() as connection:
        await connection.execute("TRUNCATE notebook_snapshot, execution_snapshot, dataset_snapshot")
    assert await world.compare(world.answers[::2]) > 100
