"""Durations and sizes: stored as numbers, answered in words."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from support.event_store import open_pool, open_store
from support.read_models import assert_holds, catch_up, told_status
from support.stories import begin, complete, record, request

from nbledger_infrastructure.postgres import database
from nbledger_infrastructure.postgres.database import acquire
from nbledger_projections.read_models.executions import status

MIGRATION = Path(database.__file__).with_name("migrations") / "0016_quantities.sql"


def _told_for_people(document: Any) -> dict[str, Any]:
    names = {
        "executionTime",
        "totalDuration",
        "estimatedDuration",
        "peakMemoryUsage",
        "cpuTime",
        "diskUsage",
    }
    if isinstance(document, list):
        return {k: v for each in document for k, v in _told_for_people(each).items()}
    if not isinstance(document, dict):
        return {}
    found = {name: document[name] for name in names & document.keys() if document[name] is not None}
    return found | _told_for_people(list(document.values()))


async def test_rows_hold_numbers_and_answers_words(database_dsn: str) -> None:
    dice = random.Random(1)
    async with open_pool(database_dsn) as pool, open_store(pool) as store:
        story = begin(dice)
        for seconds in (900.0, 1_190.0):
            story.executions.append(request(story, dice))
            complete(story, story.executions[-1], seconds)
            await record(store, story)
        await catch_up(pool)
        scope = (story.stream.tenant_id, story.stream.project_id, story.notebook.id)
        async with acquire(pool) as connection:
            rows = await connection.fetch("SELECT execution_id, document FROM execution_status")
        for execution_id, document in rows:
            stored = _told_for_people(json.loads(document))
            view = await status.get(pool, *scope, execution_id)
            assert view is not None
            told = _told_for_people(json.loads(view.document))
            assert {"executionTime", "totalDuration", "cpuTime", "diskUsage"} <= stored.keys()
            assert stored.keys() == told.keys()
            assert all(isinstance(value, int | float | list) for value in stored.values()), stored
            assert all(isinstance(value, str) for value in told.values()), told
        page = await status.for_notebook(pool, *scope, page=1, page_size=1)
        listed = json.loads(page.items[0])
        whole = await status.get(pool, *scope, story.executions[-1].id)
        assert whole is not None
        members = json.loads(whole.document)
        del members["cellResults"], members["attemptHistory"]
        assert list(listed.items()) == list(members.items())
        assert listed["totalDuration"] == "19.8 minutes"


async def test_rows_of_before_are_folded_anew_and_reads_miss_nothing(database_dsn: str) -> None:
    dice = random.Random(2)
    async with open_pool(database_dsn) as pool, open_store(pool) as store:
        story = begin(dice)
        for _ in range(3):
            story.executions.append(request(story, dice))
            complete(story, story.executions[-1], 60.0)
            await record(store, story)
        await catch_up(pool)
        events = await store.read_all(after_position=0, limit=1000)
        expected = told_status(events)
        scope = (story.stream.tenant_id, story.stream.project_id, story.notebook.id)

        async def told() -> dict[Any, bytes]:
            views = [await status.get(pool, *scope, each.id) for each in story.executions]
            return {view.execution_id: view.document for view in views if view is not None}

        async with acquire(pool) as connection:
            await connection.execute(
                """ALTER TABLE execution_status ADD COLUMN phase text, DROP COLUMN request_warnings;
                UPDATE execution_status SET document = '{"totalDuration": "1 minute"}'"""
            )
            await connection.execute(MIGRATION.read_text())
        assert await told() == expected
        position = await catch_up(pool, status.NAME)
        assert position == events[-1].position
        await assert_holds(pool, status.NAME, events)
        assert await told() == expected
