"""Every template on a real kernel, with the log that it brings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from support.kernels import Recorded, code, recorded

from mindzie_sdk import sample_event_log
from nbledger_infrastructure.notebooks import templates
from nbledger_workers.kernel.processes.environment import run_file
from nbledger_workers.kernel.protocol import CellStatus, Outcome

RESULTS = {
    "conformance": {"enriched_dataset": 1, "metric": 2, "report": 1},
    "enrichment": {"enriched_dataset": 1, "metric": 2},
    "prediction": {"enriched_dataset": 1, "metric": 3, "model": 1},
    "process_mining_starter": {"enriched_dataset": 1, "metric": 2, "model": 1},
}
IDENTIFIER = "880e8400-e29b-41d4-a716-446655440000"
XES = {
    "case_id": "case:concept:name",
    "activity": "concept:name",
    "timestamp": "time:timestamp",
}


@pytest.mark.parametrize("name", templates.names())
async def test_it_runs_green_and_hands_results_back(name: str, tmp_path: Path) -> None:
    context = {"executionId": "e", "notebookId": "n", "parameters": {}, "datasets": {}}
    cells = [code(cell.source) for cell in templates.load(name).cells if cell.cell_type == "code"]
    run = await recorded(tmp_path, *cells, context=msgspec.json.encode(context), timeout=110.0)
    assert run.finished is not None
    assert run.finished.outcome is Outcome.COMPLETED, run.finished.detail
    assert set(run.statuses) == {CellStatus.SUCCESS}
    results = handed_back(tmp_path)
    assert Counter(each["kind"] for each in results) == RESULTS[name]
    (enriched,) = [each for each in results if each["kind"] == "enriched_dataset"]
    attributes = enriched["attributes"]
    assert attributes["recordCount"] > 2000
    assert len(attributes["newColumns"]) >= 2
    kinds = {
        kind
        for index in range(len(cells))
        for output in run.outputs(index)
        for kind in output.get("data", ())
    }
    assert {"text/html", "image/png"} <= kinds
    warned = [run.text(index, "stderr") for index in range(len(cells))]
    assert warned == [""] * len(cells)


async def test_the_starter_works_on_what_it_is_given(tmp_path: Path) -> None:
    """Another log, with XES's names for its columns, and parameters that leave little."""
    log = sample_event_log(cases=60).rename(columns=XES)
    log["case:concept:name"] = log["case:concept:name"].str.removeprefix("case-").astype(int)
    file = tmp_path / "log.parquet"
    pl.DataFrame({name: log[name].to_list() for name in log.columns}).write_parquet(file)
    held = {
        "path": str(file),
        "name": "loans",
        "version": 3,
        "rowCount": len(log),
        "columns": [{"name": name, "type": "other"} for name in log.columns],
    }
    run = await starter(
        tmp_path, "analysis_period = '2024-01'; include_weekends = False", {IDENTIFIER: held}
    )
    assert set(run.statuses) == {CellStatus.SUCCESS}
    times = log["time:timestamp"]
    seen = (times.dt.month == 1) & (times.dt.day_of_week < 5)
    assert f"{seen.sum():,} events of" in run.text(2)
    results = handed_back(tmp_path)
    (enriched,) = [each for each in results if each["kind"] == "enriched_dataset"]
    attributes = enriched["attributes"]
    assert attributes["recordCount"] == len(log)
    assert attributes["newColumns"] == ["customer_segment", "journey_score", "anomaly_flag"]
    assert attributes["sourceVersion"] == 3
    (model,) = [each for each in results if each["kind"] == "model"]
    assert model["attributes"]["features"] == ["weekday", "hour", "first_wait_hours", "amount"]


async def test_the_starter_says_of_everything_that_it_is_made_up(tmp_path: Path) -> None:
    """Samples of the API bind what no service holds, and expect the run to go well."""
    run = await starter(tmp_path, "sample_cases = 60", {})
    assert set(run.statuses) == {CellStatus.SUCCESS}
    assert [run.outputs(index) for index in (0, 1)] == [[], []]
    shown = run.outputs(2)[0]["data"]["text/html"]
    assert "Nothing here tells of your data" in shown
    assert IDENTIFIER in shown
    results = handed_back(tmp_path)
    assert Counter(each["kind"] for each in results) == RESULTS["process_mining_starter"]
    assert all(each["name"].endswith(" (made up)") for each in results)


async def starter(working_dir: Path, setting: str, datasets: dict[str, Any]) -> Recorded:
    """A run of the starter that is bound to a dataset; ``setting`` stands after its parameters."""
    context = {
        "executionId": "e",
        "notebookId": "n",
        "datasetBinding": IDENTIFIER,
        "parameters": {},
        "datasets": datasets,
    }
    sources = [
        cell.source
        for cell in templates.load("process_mining_starter").cells
        if cell.cell_type == "code"
    ]
    sources.insert(1, setting)
    return await recorded(
        working_dir, *sources, context=msgspec.json.encode(context), timeout=110.0
    )


def handed_back(folder: Path) -> list[dict[str, Any]]:
    """What the notebook says that it hands back."""
    return [
        msgspec.json.decode(path.read_bytes())
        for path in sorted((run_file(folder).parent / "results").glob("[0-9]*.json"))
    ]
