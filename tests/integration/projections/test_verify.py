"""Read models against what a rebuild makes of the events: after all kinds of work, and damaged."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from msgspec.structs import replace
from support import notices, schedules
from support.actions import SETTINGS, carry_out
from support.api import Api, new_notebook
from support.automation import automation
from support.event_store import METADATA
from support.read_models import catch_up, running, until_reached
from support.repetitions import end
from support.schedules import SetClock
from support.shared_api import ServerThread, api, api_server
from support.stories import Story, begin, record, step
from support.wheels import make_wheel

from nbledger import roles
from nbledger_domain.automation import Trigger
from nbledger_domain.errors import DomainError
from nbledger_domain.events import encode
from nbledger_domain.schedule import Firing
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore, NewEvent
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_projections.rebuild import ALL, rebuild_projections
from nbledger_projections.registry import READ_MODELS
from nbledger_projections.verify import verify, verify_projections

__all__ = ["api", "api_server"]

STEPS = 120


class Work:
    """Requests of all kinds and what the process managers make of them, at random."""

    def __init__(self, api: Api, client: httpx.AsyncClient, folder: Path) -> None:
        self.api, self.client, self.folder = api, client, folder
        self.dice = random.Random(7)
        self.notebooks: list[str] = []
        self.runs: list[tuple[str, str]] = []
        self.datasets: list[str] = []
        self.libraries: list[str] = []
        self.done: set[str] = set()
        now = SetClock()
        self.clock = now
        self.scheduler = schedules.scheduler(api.pool, api.store, now)
        self.automation = automation(api.pool, api.store, now)
        self.notices = notices.manager(api.pool, api.store, notices.Ahead())

    async def step(self) -> None:
        kinds = [
            *[self.create, self.edit, self.execute, self.execute, self.files, self.cancel] * 2,
            *[self.finish, self.manage, self.schedule, self.run_schedule, self.automate] * 3,
            *[self.repeat, self.act, self.dataset, self.library] * 2,
            self.delete,
        ]
        kind = self.create if len(self.notebooks) < 4 else self.dice.choice(kinds)
        await kind()
        self.done.add(kind.__name__)

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        answer = await self.client.request(method, path, **more)
        assert answer.status_code < 500, answer.text
        return answer

    @property
    def notebook(self) -> str:
        return self.dice.choice(self.notebooks)

    async def create(self) -> None:
        sources = [str(number) for number in range(self.dice.randrange(1, 4))]
        made = await new_notebook(self.client, *sources)
        self.notebooks.append(made["notebookId"])

    async def edit(self) -> None:
        change = self.dice.choice(
            [
                {"notebookName": f"N{self.dice.randrange(100)}"},
                {"description": "D"},
                {"integration": {"enrichmentMode": self.dice.random() < 0.5}},
                {"environment": {"packages": ["numpy"]}},
            ]
        )
        await self.ask("PUT", f"/notebook/{self.notebook}", json=change)

    async def files(self) -> None:
        form = {"file": ("a.csv", b"a\n%d\n" % self.dice.randrange(9))}
        data = {"replace": "true"}
        await self.ask("POST", f"/notebook/{self.notebook}/file", files=form, data=data)

    async def execute(self) -> None:
        notebook = self.notebook
        body = {"tags": self.dice.sample(["eu", "us", "nightly"], self.dice.randrange(3))}
        made = await self.ask("POST", f"/notebook/{notebook}/execute", json=body)
        if made.status_code == 202:
            self.runs.append((notebook, made.json()["executionId"]))

    async def finish(self) -> None:
        """End a run that waits, whoever has asked for it."""
        async with acquire(self.api.pool) as connection:
            rows = await connection.fetch("SELECT execution_id FROM execution_queue ORDER BY 1")
        for row in rows and [self.dice.choice(rows)]:
            fails = "cell-001" if self.dice.random() < 0.4 else None
            try:
                await end(
                    self.api.store, row[0], failing=fails, lost=self.dice.randrange(2), packages=[]
                )
            except DomainError:
                continue

    async def cancel(self) -> None:
        for notebook, run in self.runs and [self.dice.choice(self.runs)]:
            await self.ask("POST", f"/notebook/{notebook}/execution/{run}/cancel")

    async def repeat(self) -> None:
        for notebook, run in self.runs and [self.dice.choice(self.runs)]:
            kind = self.dice.choice(["rerun", "repair"])
            made = await self.ask("POST", f"/notebook/{notebook}/execution/{run}/{kind}", json={})
            if made.status_code == 202:
                self.runs.append((notebook, made.json()["executionId"]))

    async def act(self) -> None:
        wanted = self.dice.choice(["tag:eu", "status = Error", "phase = Queued"])
        body: dict[str, Any] = {"action": self.dice.choice(["cancel", "rerun"]), "filter": wanted}
        counted = await self.ask("POST", "/execution-actions", json={**body, "dryRun": True})
        if counted.status_code == 200 and (count := counted.json().get("count")):
            body["expectedCount"] = count
            await self.ask("POST", "/execution-actions", json=body)

    async def schedule(self) -> None:
        setting = self.dice.choice(
            [
                "*/5 * * * *",
                {"cron": "* * * * *"},
                {"cron": "*/2 * * * *", "pauseAfterFailures": 1},
                None,
            ]
        )
        body = {"integration": {"scheduleExecution": setting}}
        await self.ask("PUT", f"/notebook/{self.notebook}", json=body)

    async def run_schedule(self) -> None:
        kind = self.dice.choice(["run", "pause", "resume"])
        await self.ask("POST", f"/notebook/{self.notebook}/schedule/{kind}", json={})

    async def automate(self) -> None:
        integration: dict[str, Any] = {"autoExecution": {"quietSeconds": 0}}
        if self.datasets:
            integration["datasetBinding"] = self.dice.choice(self.datasets)
        await self.ask("PUT", f"/notebook/{self.notebook}", json={"integration": integration})

    async def dataset(self) -> None:
        file = {"file": ("d.csv", b"a\n%d\n" % self.dice.randrange(99))}
        if self.datasets and self.dice.random() < 0.6:
            path = f"/dataset/{self.dice.choice(self.datasets)}"
            if self.dice.random() < 0.3:
                await self.ask("DELETE", path)
            else:
                await self.ask("PUT", f"{path}/csv", files=file)
            return
        made = await self.ask("POST", "/dataset/csv", files=file)
        assert made.status_code == 201, made.text
        self.datasets.append(made.json()["datasetId"])

    async def library(self) -> None:
        if self.libraries and self.dice.random() < 0.5:
            await self.ask("DELETE", f"/library/{self.dice.choice(self.libraries)}")
            return
        name = f"rules{self.dice.randrange(5)}"
        file = {
            "file": (f"{name}-1.0-py3-none-any.whl", make_wheel(self.folder, name).read_bytes())
        }
        made = await self.ask("POST", "/library", files=file)
        if made.status_code == 201:
            self.libraries.append(made.json()["libraryId"])

    async def delete(self) -> None:
        notebook = self.notebook
        deleted = await self.ask("DELETE", f"/notebook/{notebook}")
        # Of one in three what is asked for later is refused.
        if deleted.status_code < 400 and self.dice.random() < 0.7:
            self.notebooks.remove(notebook)

    async def manage(self) -> None:
        """Let every process manager do what there is to do."""
        self.clock.step(self.dice.randrange(1, 4))
        await self.scheduler.tick()
        await self.automation.tick()
        await notices.tick(self.notices)
        await carry_out(self.api.pool, self.api.store, SETTINGS)


@pytest.mark.guarantee("G21", "G52")
async def test_what_lives_is_what_a_rebuild_makes_after_all_kinds_of_work(
    api: Api, api_server: ServerThread, tmp_path: Path
) -> None:
    """Digest by digest, with the reactors at work that delete and erase; in the middle as well."""
    client = await api.client(Role.ADMIN)
    work = Work(api, client, tmp_path)
    async with running(roles.projector, api_server.settings):
        for number in range(STEPS):
            await work.step()
            if number == STEPS // 2:
                for each in await verify(api_server.settings, [ALL]):
                    assert each.equal, each
        await work.manage()
        await until_reached(api.pool, await api.store.head_position())
        verified = await verify(api_server.settings, [ALL])
    assert [each.name for each in verified] == list(READ_MODELS)
    for each in verified:
        assert (each.equal, each.differing, each.differences) == (True, 0, [])
        for table in each.tables:
            assert (table.rows, table.digest) == (table.rebuilt_rows, table.rebuilt_digest)
    # It was no comparison of nothing.
    full = {table.table for each in verified for table in each.tables if table.rows}
    every = {table for model in READ_MODELS.values() for table in model.tables}
    # Snapshots are of long streams, and the work makes no notices and no webhooks.
    empty = {"notice_list", "webhook_details", "dataset_snapshot", "execution_snapshot"}
    assert full >= every - empty, every - full
    assert work.done >= {"delete", "act", "schedule", "automate", "repeat", "dataset", "library"}


@pytest.mark.guarantee("G52")
async def test_rows_that_differ_are_named_without_what_they_hold(
    pool: Pool, store: EventStore
) -> None:
    dice = random.Random(3)
    stories = [begin(dice, tenant_id=UUID(int=1), project_id=UUID(int=1)) for _ in range(4)]
    for story in stories:
        for _ in range(6):
            step(story, dice)
        await record(store, story)
    await catch_up(pool)
    gone, changed = (str(story.notebook.id) for story in stories[:2])
    async with acquire(pool) as connection:
        await connection.execute("DELETE FROM notebook_details WHERE notebook_id = $1", UUID(gone))
        await connection.execute(
            "UPDATE notebook_details SET running = running + 1, document = '{\"secret\": 1}' "
            "WHERE notebook_id = $1",
            UUID(changed),
        )
        await connection.execute("INSERT INTO notebook_duration VALUES (gen_random_uuid(), '{}')")

    found = {each.name: each for each in await verify_projections(pool, ["notebook_details"])}
    details = found["notebook_details"]
    assert (details.equal, details.differing, details.position) == (
        *(False, 2),
        await store.head_position(),
    )
    told = {(each.key["notebook_id"], each.how): each.columns for each in details.differences}
    assert told == {(gone, "missing"): [], (changed, "different"): ["running", "document"]}
    (table,) = (each for each in details.tables if each.table == "notebook_details")
    assert (table.rows, table.rebuilt_rows, table.differing) == (3, 4, 2)
    assert table.digest != table.rebuilt_digest

    (status,) = await verify_projections(pool, ["execution_status"])
    assert [(each.table, each.how) for each in status.differences] == [
        ("notebook_duration", "unexpected")
    ]
    # Nothing was replaced, and a rebuild mends it.
    async with acquire(pool) as connection:
        assert await connection.fetchval("SELECT count(*) FROM notebook_details") == 3
        assert await connection.fetchval("SELECT count(*) FROM projection_rebuild") == 0
    await rebuild_projections(pool, ["notebook_details"])
    (again,) = await verify_projections(pool, ["notebook_details"])
    assert again.equal


@pytest.mark.guarantee("G52")
async def test_a_projection_that_lags_is_compared_as_of_where_it_is(
    pool: Pool, store: EventStore
) -> None:
    dice = random.Random(4)
    story = begin(dice, tenant_id=UUID(int=1), project_id=UUID(int=1))
    await record(store, story)
    reached = await catch_up(pool, "notebook_list")
    for _ in range(20):
        step(story, dice)
    assert await record(store, story) > reached
    (verified,) = await verify_projections(pool, ["notebook_list"])
    assert (verified.equal, verified.position) == (True, reached)


async def test_what_comes_after_a_deletion_makes_no_row_in_whatever_batches(
    pool: Pool, store: EventStore
) -> None:
    """A notice or a firing may be recorded just after the notebook has gone."""
    dice = random.Random(5)
    story = begin(dice, tenant_id=UUID(int=1), project_id=UUID(int=1))
    await record(store, story)
    story.notebook.delete(at=story.at)
    await record(store, story)
    await told_late(store, story)
    for batch in (1, 100):
        async with acquire(pool) as connection:
            await connection.execute("UPDATE projection_checkpoint SET position = 0")
            await connection.execute("TRUNCATE schedule_list, schedule_firing, trigger_list")
        await catch_up(pool, batch=batch)
        for each in await verify_projections(pool, ["schedule_list", "trigger_list"]):
            assert (each.equal, [table.rows for table in each.tables]) == (
                *(True,),
                [0] * len(each.tables),
            )


async def told_late(store: EventStore, story: Story) -> None:
    """A firing and a trigger of the notebook."""
    told: dict[str, Any] = {"originator_version": 1, "timestamp": story.at}
    firing = Firing.Missed(
        originator_id=uuid4(),
        schedule_id=uuid4(),
        due_at=story.at,
        trigger="due",
        reason="catch_up",
        **told,
    )
    trigger = Trigger.Skipped(
        originator_id=uuid4(),
        kind="cells",
        changes=1,
        first_event_id=uuid4(),
        last_event_id=uuid4(),
        through=1,
        reason="switched_off",
        **told,
    )
    for event in (firing, trigger):
        stream = replace(story.stream, stream_id=event.originator_id)
        new = NewEvent(uuid4(), event.TYPE, encode(event), story.at)
        await store.append(stream, [new], expected_version=0, metadata=METADATA)
