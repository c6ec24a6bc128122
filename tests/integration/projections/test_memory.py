"""What projections keep in memory between batches: little of what ended, and never too much."""

from __future__ import annotations

import random
from typing import Any

import pytest
from support.event_store import open_pool, open_store
from support.read_models import assert_holds, begin
from support.stories import begin as begin_story
from support.stories import complete, record, request

from nbledger_domain.cells import Cell
from nbledger_domain.notebook import NotebookChanges
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_projections.machinery import quantities, runner
from nbledger_projections.machinery.rows import Rows
from nbledger_projections.read_models.notebooks import listing
from nbledger_projections.registry import READ_MODELS

CELLS, RUNS = 100, 6


async def _record_runs(store: EventStore) -> None:
    """Large notebooks, each run several times to its end, but for one run that goes on."""
    dice = random.Random(1)
    for story in (begin_story(dice), begin_story(dice)):
        cells = [
            Cell(cell_id=f"cell-{number:03d}", cell_type="code", source="x" * 300)
            for number in range(CELLS)
        ]
        story.notebook.update(NotebookChanges(cells=cells), at=story.at)
        await record(store, story)
        for _ in range(RUNS):
            execution = request(story, dice)
            story.executions.append(execution)
            complete(story, execution, 1.0)
            await record(store, story)
    last = begin_story(dice)
    last.executions.append(request(last, dice))
    await record(store, last)


@pytest.mark.guarantee("G28")
@pytest.mark.parametrize("room", [8_000_000, 50_000, 0])
async def test_what_is_kept_fits_and_runs_that_ended_are_let_go(
    database_dsn: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rows.__init__, "__defaults__", (room,))
    monkeypatch.setattr(listing, "CACHED_BYTES", room)
    async with open_pool(database_dsn) as pool, open_store(pool) as store:
        await _record_runs(store)
        events = await store.read_all(after_position=0, limit=10_000)
        kept: dict[str, list[Any]] = {}
        for name, model in READ_MODELS.items():
            projection = model.projection()
            checkpoint = await begin(pool, name)
            for start in range(0, len(events), 150):
                batch = events[start : start + 150]
                checkpoint = await runner.advance(pool, projection, batch, checkpoint)
                rows: Rows[Any] = projection._rows
                size = sum(len(quantities.encode(state)) for _, state in rows.states())
                assert 2 * size <= rows.bytes <= room
            await assert_holds(pool, name, events)
            rows = projection._rows
            kept[name] = [key for key, _ in rows.states()]
    if room > 1_000_000:
        going_on = events[-1].stream_id
        assert kept["execution_status"] == kept["execution_results"] == [going_on]
        assert len(kept["notebook_details"]) == 3
