"""What `asOf` answers: exactly what the GET answered then."""

from __future__ import annotations

import asyncio
import random
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest
from support import stories
from support.api import Api, new_notebook
from support.read_models import catch_up
from support.shared_api import api, api_server

from nbledger_application import repository
from nbledger_application.reactions import eraser
from nbledger_application.schedules.folding import NOTED, READ
from nbledger_application.schedules.following import ScheduleFollower
from nbledger_domain.execution import Execution, Phase
from nbledger_domain.execution.usual_durations import Usual
from nbledger_domain.notices import RunNotice
from nbledger_domain.schedule import Firing, Schedule, firing_id_of, schedule_id_of
from nbledger_infrastructure.aggregates import load
from nbledger_infrastructure.artifacts.store import ArtifactStore, open_store
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.postgres import database
from nbledger_infrastructure.postgres.database import PooledConnection
from nbledger_infrastructure.postgres.event_store import Metadata, Stream
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_projections.machinery import snapshots

__all__ = ["api", "api_server"]

MIGRATION = Path(database.__file__).with_name("migrations") / "0033_snapshot_formats.sql"
BY_TESTER = Metadata(actor="tester")
SETTINGS = (
    {"scheduleExecution": {"cron": "0 3 1 1 *", "maxRuns": 3}},
    {"scheduleExecution": "0 4 1 1 *"},
    {"scheduleExecution": None},
    {"autoExecution": True, "enrichmentMode": True},
    {"autoExecution": {"on": ["cells"], "quietSeconds": 5}},
    {"outputFormat": "csv", "maxConcurrentRuns": 2},
)
NAMES = ('Ünïcödé "x"', "A", "B \U0001f600", "line\nbreak")


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
        kinds += [self._make, self._table, self._table] + [self._slow, self._rerun, self._pause] * 3
        kinds += [self._complete] * 3
        kinds += [self._delete] * (self.dice.random() < 0.6)
        await self.dice.choice(kinds)()
        await self._follow()
        await self._read()

    async def _make(self) -> None:
        if len(self.notebooks) < 3:
            # The first one has a schedule whose runs are counted.
            integration = self.dice.choice(SETTINGS) if self.notebooks else SETTINGS[0]
            sources = [f"print({n})" for n in range(self.dice.randrange(1, 4))]
            made = await new_notebook(self.client, *sources, integration=integration)
            self.notebooks.append(made["notebookId"])

    async def _edit(self) -> None:
        if not self.notebooks:
            await self._make()
        path = f"/notebook/{self.dice.choice(self.notebooks)}"
        cells = (await self.client.get(path)).json()["cells"]
        self.dice.shuffle(cells)
        source = f"x = {self.dice.random()}"
        body = self.dice.choice(
            [
                {"notebookName": self.dice.choice(NAMES)},
                {"notebookDescription": self.dice.choice(NAMES)},
                {"integration": self.dice.choice(SETTINGS[1:])} if self.dice.random() < 0.3 else {},
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

    async def _complete(self) -> None:
        """A run that ends well, by which later ones are estimated."""
        for execution_id in self.executions:
            loaded = await load(self.api.store, Execution, UUID(execution_id))
            if loaded is not None and loaded.aggregate.phase == Phase.QUEUED:
                epoch = loaded.aggregate.claim("worker-1", at=now())
                loaded.aggregate.start(
                    epoch, language="python", language_version="3.11.7", at=now()
                )
                seconds = timedelta(seconds=self.dice.randrange(1, 300))
                loaded.aggregate.complete(epoch, resources=stories.RESOURCES, at=now() + seconds)
                await repository.save(self.api.store, loaded.aggregate, loaded.stream, BY_TESTER)
                return

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
            if answer.status_code == 404:
                self._forget(path.split("/")[2])
            self.answers.append(Answer(path, position, f"{at:%Y-%m-%dT%H:%M:%S.%fZ}", *told))

    def _forget(self, gone: str) -> None:
        self.notebooks = [each for each in self.notebooks if each != gone]
        self.datasets = [each for each in self.datasets if each != gone]
        self.executions = {
            key: notebook for key, notebook in self.executions.items() if notebook != gone
        }

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
async def world(api: Api) -> World:
    return World(api, await api.client(Role.ADMIN), random.Random(4711))


@pytest.mark.guarantee("G46")
@pytest.mark.guarantee("G47")
async def test_as_of_answers_what_the_get_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After random work: by position and time, projected or not, with snapshots or useless ones."""
    # A snapshot at nearly every event.
    monkeypatch.setattr(snapshots, "LEAST_BYTES", 3_000)
    monkeypatch.setattr(snapshots, "EVENT_BYTES", 60_000)
    for number in range(70):
        await world.step()
        if number in (20, 45):
            await catch_up(world.api.pool, batch=world.dice.randrange(1, 60))
    # What is made of other streams than its own has been there, too.
    bodies = b"".join(answer.body for answer in world.answers)
    for told in (
        *(b'"estimatedDuration":"', b'"repetitions":[', b'"durationWarning":{', b'"queue":{'),
        *(b'"state":"paused"', b'"automatic":{', b'"runWarnings":["'),
    ):
        assert told in bodies, told
    counts = {body.count(b"T03:00") for body in bodies.split(b'"nextFirings":[')[1:]}
    assert len(counts) > 1, "runs of a schedule are counted"
    some = world.dice.sample(world.answers, 80)
    assert await world.compare(some) > 40
    await catch_up(world.api.pool)
    async with world.api.pool.acquire() as connection:
        for table in ("notebook_snapshot", "execution_snapshot", "dataset_snapshot"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}"), table
        await from_before_formats(connection)
    assert await world.compare(world.answers) > 200
    async with world.api.pool.acquire() as connection:
        for table in ("notebook_snapshot", "execution_snapshot", "dataset_snapshot"):
            # As another version of this code may have left them.
            await connection.execute(f"UPDATE {table} SET format = 'other', state = '{{}}'")
    assert await world.compare(world.answers[::2]) > 100


async def from_before_formats(connection: PooledConnection) -> None:
    """Snapshots of before they had a column with their format are taken over by the migration."""
    transaction = connection.transaction()
    await transaction.start()
    for table in ("notebook_snapshot", "execution_snapshot", "dataset_snapshot"):
        await connection.execute(
            f"""
            CREATE TEMPORARY TABLE expected ON COMMIT DROP AS SELECT * FROM {table};
            UPDATE {table}
            SET state = ('{{"format":"' || format || '","row":' || state::text || '}}')::json;
            ALTER TABLE {table} DROP COLUMN format;
            ALTER TABLE expected RENAME TO expected_{table}
            """
        )
    await connection.execute(MIGRATION.read_text())
    for table in ("notebook_snapshot", "execution_snapshot", "dataset_snapshot"):
        others = f"""
            SELECT count(*) FROM (SELECT position, format, state::text FROM {table})
            FULL JOIN (SELECT position, format, state::text FROM expected_{table})
                USING (position, format, state)
        """
        found = await connection.fetchval(others)
        assert found == await connection.fetchval(f"SELECT count(*) FROM {table}") > 0, table
    await transaction.rollback()


async def changed(client: httpx.AsyncClient, path: str, **members: Any) -> None:
    assert (await client.put(path, json=members)).status_code == 200


@pytest.mark.guarantee("G46")
async def test_a_notebook_is_read_as_of_its_versions(api: Api) -> None:
    client = await api.client(Role.ADMIN)
    made = await new_notebook(client, "1")
    path = f"/notebook/{made['notebookId']}"
    bodies = {"1.0.0": (await client.get(path)).json()}
    await client.post(f"{path}/execute")  # what a run changes is no part of 1.0.0
    for name in ("A", "B", "C"):
        await changed(client, path, notebookName=name)
        body = (await client.get(path)).json()
        bodies[body["notebookVersion"]] = body
    await changed(client, path, cells=[{"cellType": "code", "content": "2"}])
    assert list(bodies) == ["1.0.0", "1.0.1", "1.0.2", "1.0.3"]
    for version, body in bodies.items():
        answer = await client.get(path, params={"asOf": version})
        assert answer.json() == body, version
        again = await client.get(path, params={"asOf": answer.headers["nbledger-position"]})
        assert again.content == answer.content
        tag = {"If-None-Match": answer.headers["etag"]}
        same = await client.get(path, params={"asOf": version}, headers=tag)
        assert (same.status_code, same.content) == (304, b"")
    unknown = await client.get(path, params={"asOf": "1.7.0"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "version_not_found")
    assert "1.7.0" in unknown.json()["detail"]
    assert "1.1.0" in unknown.json()["detail"]


async def test_an_upload_with_all_its_parts_is_the_first_version(api: Api) -> None:
    """What makes a notebook are several events; a version is what they make together."""
    client = await api.client(Role.ADMIN)
    notebook = b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    made = await client.post("/notebook/upload", files={"file": ("a.ipynb", notebook)})
    path = f"/notebook/{made.json()['notebookId']}"
    body = (await client.get(path)).content
    await changed(client, path, notebookName="Other")
    assert len(await api.store.read_stream(UUID(made.json()["notebookId"]))) == 4
    assert (await client.get(path, params={"asOf": "1.0.0"})).content == body


@pytest.mark.guarantee("G46")
async def test_an_append_is_seen_as_a_whole_or_not_at_all(api: Api) -> None:
    """A position within one stands for all of it: nobody was ever answered a part."""
    client = await api.client(Role.ADMIN)
    made = await new_notebook(client, "1")
    path = f"/notebook/{made['notebookId']}"
    first = (await client.get(path)).content
    change = {"notebookName": "Other", "cells": [{"cellType": "code", "content": "2"}]}
    await changed(client, path, **change)
    second = (await client.get(path)).content
    recorded = await api.store.read_stream(UUID(made["notebookId"]))
    whole = [each for each in recorded if each.recorded_at == recorded[-1].recorded_at]
    assert len(whole) > 2
    for each in recorded:
        answer = await client.get(path, params={"asOf": str(each.position)})
        assert answer.content == (second if each in whole else first)
        last = whole[-1] if each in whole else recorded[-len(whole) - 1]
        assert answer.headers["nbledger-position"] == str(last.position)
    # Appends that follow each other at once, by the same request or not, are several all the same.
    others = [(await new_notebook(client, name))["notebookId"] for name in "ab"]
    for other in others:
        (event,) = await api.store.read_stream(UUID(other))
        answer = await client.get(f"/notebook/{other}", params={"asOf": str(event.position)})
        assert answer.headers["nbledger-position"] == str(event.position)


async def test_moments_that_are_none_are_refused(api: Api) -> None:
    client = await api.client(Role.AUDITOR)
    made = await new_notebook(await api.client(Role.EDITOR), "1")
    path = f"/notebook/{made['notebookId']}"
    head = await api.store.head_position()
    for asof, reason in (
        (str(head + 1), f"is beyond the last event, which is at position {head}"),
        ("2999-01-01T00:00:00Z", "is later than now, which is"),
        ("0", "from 1"),
        ("yesterday", "must be a time with its zone"),
        ("2026-11-29", "must be a time with its zone"),
        ("2026-11-29T10:30:00", "must be a time with its zone"),
        ("2026-02-30T10:30:00Z", "is not a valid time"),
        ("1.2", "or a version, such as 1.2.0"),
        ("", "must not be empty"),
        ("1" * 65, "must have at most 64 characters"),
    ):
        answer = await client.get(path, params={"asOf": asof})
        assert answer.status_code == 422, (asof, answer.text)
        (error,) = answer.json()["errors"]
        assert error["pointer"] == "?asOf"
        assert reason in error["reason"], (asof, error)
    lost = await client.get(f"{path}?asOf=2026-11-29T10:30:00+01:00")
    assert "a + in an address is written %2B" in lost.json()["detail"]
    for other in (f"/dataset/{uuid.uuid4()}", f"{path}/execution/{uuid.uuid4()}"):
        answer = await client.get(other, params={"asOf": "1.0.0"})
        assert answer.status_code == 422
        assert "only notebooks are read as of a version" in answer.json()["detail"]


async def test_times_have_any_zone_and_any_precision(api: Api) -> None:
    client = await api.client(Role.ADMIN)
    made = await new_notebook(client, "1")
    path = f"/notebook/{made['notebookId']}"
    (first,) = await api.store.read_stream(UUID(made["notebookId"]))
    await changed(client, path, notebookName="Other")
    exact = f"{first.recorded_at:%Y-%m-%dT%H:%M:%S.%f}"
    before = f"{first.recorded_at - timedelta(microseconds=1):%Y-%m-%dT%H:%M:%S.%fZ}"
    berlin = first.recorded_at.astimezone(timezone(timedelta(hours=1)))
    for text in (f"{exact}Z", f"{exact}999z".replace("T", " "), berlin.isoformat()):
        answer = await client.get(path, params={"asOf": text})
        assert answer.status_code == 200, (text, answer.text)
        assert answer.json()["notebookName"] == "N"
        assert answer.headers["nbledger-position"] == str(first.position)
    early = await client.get(path, params={"asOf": before})
    assert (early.status_code, early.json()["code"]) == (404, "created_later")
    assert f"position {first.position}" in early.json()["detail"]


async def test_the_past_takes_the_right_to_history(api: Api) -> None:
    editor = await api.client(Role.EDITOR)
    made = await new_notebook(editor, "1")
    path = f"/notebook/{made['notebookId']}"
    for roles, status in (
        ([Role.READER], 403),
        ([Role.EDITOR], 403),
        ([Role.AUDITOR], 200),
        ([Role.ADMIN], 200),
    ):
        client = await api.client(*roles)
        assert (await client.get(path)).status_code == 200
        assert (await client.get(path, params={"asOf": "1.0.0"})).status_code == status
        compared = await client.get(f"{path}/diff", params={"from": "1.0.0"})
        assert compared.status_code == status
    stranger = await api.client(Role.AUDITOR, tenant_id=uuid.uuid4())
    assert (await stranger.get(path, params={"asOf": "1.0.0"})).status_code == 404
    other = f"/api/{api.tenant_id}/{uuid.uuid4()}"
    elsewhere = await api.client(Role.AUDITOR, base=other)
    for address in (path, f"{path}/execution/{uuid.uuid4()}", f"/dataset/{uuid.uuid4()}"):
        answer = await elsewhere.get(address, params={"asOf": str(await api.store.head_position())})
        assert answer.status_code == 404
        assert answer.json()["code"].endswith("_not_found")


@pytest.mark.guarantee("G46")
async def test_what_is_erased_is_told_with_when_and_by_whom(api: Api, tmp_path: Path) -> None:
    client = await api.client(Role.ADMIN)
    made = await new_notebook(client, "1")
    path = f"/notebook/{made['notebookId']}"
    run = (await client.post(f"{path}/execute")).json()["executionId"]
    dataset = await client.post("/dataset/csv", files={"file": ("a.csv", b"a\n1\n")})
    table = f"/dataset/{dataset.json()['datasetId']}"
    paths = [path, f"{path}/execution/{run}", table]
    bodies = {each: (await client.get(each)).content for each in paths}
    then = str(await api.store.head_position())
    await client.post(f"{path}/execution/{run}/cancel")
    assert (await client.delete(path)).status_code == 204
    assert (await client.delete(table)).status_code == 204
    deleted = str(await api.store.head_position())
    for each in paths:
        # Nothing is erased yet: what it was can still be told.
        known = await client.get(each, params={"asOf": then})
        assert known.status_code == 200
        if each != paths[1]:
            assert known.content == bodies[each]
        gone = await client.get(each, params={"asOf": deleted})
        assert (gone.status_code, gone.json()["code"]) == (404, "deleted_before")
    artifacts = ArtifactStore(open_store((tmp_path / "artifacts").as_uri()))
    events = await api.store.read_all(after_position=0, limit=1000)
    await eraser.react(api.store, api.pool, artifacts, events)
    for each in paths:
        answer = await client.get(each, params={"asOf": then})
        assert (answer.status_code, answer.json()["code"]) == (410, "erased"), each
        assert answer.json()["erasedBy"] == "tester"
        assert datetime.fromisoformat(answer.json()["erasedAt"]) <= now()
        gone = await client.get(each, params={"asOf": deleted})
        assert (gone.status_code, gone.json()["code"]) == (404, "deleted_before")
        first = await client.get(each, params={"asOf": "2020-01-01T00:00:00Z"})
        assert (first.status_code, first.json()["code"]) == (404, "created_later")
    for asof in ("1.0.0", "3.0.0"):
        answer = await client.get(path, params={"asOf": asof})
        assert (answer.status_code, answer.json()["code"]) == (410, "erased")


@pytest.mark.guarantee("G49")
async def test_what_is_told_of_what_is_not_there_is_recorded(api: Api) -> None:
    """When it was made or deleted, and who asked for that, is told by no read that leaves none."""
    editor = await api.client(Role.EDITOR)
    before = str(await api.store.head_position() or 1)
    notebooks = [(await new_notebook(editor, "1"))["notebookId"] for _ in range(4)]
    early, gone, unknown, erased = notebooks
    there = str(await api.store.head_position())
    dataset = await editor.post("/dataset/csv", files={"file": ("a.csv", b"a\n1\n")})
    table = dataset.json()["datasetId"]
    assert (await editor.delete(f"/notebook/{gone}")).status_code == 204
    await api.pool.execute(
        "INSERT INTO erasure (subject_id, position) VALUES ($1, 1)", UUID(erased)
    )
    deleted = str(await api.store.head_position())
    reader = await api.client(Role.AUDITOR)
    for path, moment, code in (
        (f"/notebook/{early}", "2020-01-01T00:00:00Z", "created_later"),
        (f"/notebook/{gone}", deleted, "deleted_before"),
        (f"/notebook/{unknown}", "9.0.0", "version_not_found"),
        (f"/notebook/{erased}", there, "erased"),
        (f"/dataset/{table}", before, "created_later"),
        (f"/notebook/{uuid.uuid4()}", there, "notebook_not_found"),
    ):
        answer = await reader.get(path, params={"asOf": moment})
        assert answer.json()["code"] == code
    found = (await reader.get("/history-reads")).json()["reads"]
    assert [each["subjectId"] for each in found] == [*notebooks, table]


async def test_an_erasure_without_a_deletion_is_told_as_such(api: Api) -> None:
    client = await api.client()
    made = await new_notebook(client, "1")
    path = f"/notebook/{made['notebookId']}"
    then = str(await api.store.head_position())
    await api.pool.execute(
        "INSERT INTO erasure (subject_id, position) VALUES ($1, 1)", UUID(made["notebookId"])
    )
    for address, query in (
        (path, {"asOf": then}),
        (path, {"asOf": "1.0.0"}),
        (f"{path}/diff", {"from": then}),
    ):
        answer = await client.get(address, params=query)
        body = answer.json()
        assert (answer.status_code, body["code"], body["erasedBy"]) == (410, "erased", None)
        assert datetime.fromisoformat(body["erasedAt"]) <= now()
        assert "no event deletes it" in body["detail"]


async def test_what_no_event_tells_is_left_out(api: Api) -> None:
    """The place in the queue, and what a run uses while it goes on."""
    client = await api.client(Role.ADMIN)
    made = await new_notebook(client, "1")
    path = f"/notebook/{made['notebookId']}"
    run = (await client.post(f"{path}/execute")).json()["executionId"]
    path = f"{path}/execution/{run}"
    now_ = (await client.get(path)).json()
    then = (await client.get(path, params={"asOf": str(await api.store.head_position())})).json()
    assert now_.pop("queue")["position"] >= 1
    assert then == now_
    loaded = await load(api.store, Execution, UUID(run))
    assert loaded is not None
    loaded.aggregate.claim("worker-1", at=now())
    await repository.save(api.store, loaded.aggregate, loaded.stream, BY_TESTER)
    async with api.pool.acquire() as connection:
        await connection.execute(
            """
            INSERT INTO execution_lease (execution_id, epoch, worker_id, expires_at, usage, used_at)
            VALUES ($1, 1, 'worker-1', now() + interval '1 hour', '{"cpuSeconds": 5}', now())
            """,
            UUID(run),
        )
    now_ = (await client.get(path)).json()
    then = (await client.get(path, params={"asOf": str(await api.store.head_position())})).json()
    assert now_.pop("resources")["cpuSeconds"] == 5
    assert then.pop("resources")["cpuSeconds"] is None
    assert then == now_


async def test_an_append_under_way_is_waited_for(api: Api) -> None:
    """Its recorded time is decided before others can see it."""
    client = await api.client(Role.ADMIN)
    made = await new_notebook(client, "1")
    path = f"/notebook/{made['notebookId']}"
    async with api.pool.acquire() as connection:
        await connection.execute("SELECT pg_advisory_lock(8242543731)")
        at = await connection.fetchval("SELECT clock_timestamp()")
        asking = asyncio.create_task(
            client.get(path, params={"asOf": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"})
        )
        waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
        async with asyncio.timeout(20):
            while not await connection.fetchval(waiting):  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.01)
        assert not asking.done()
        await connection.execute("SELECT pg_advisory_unlock(8242543731)")
    assert (await asking).status_code == 200
