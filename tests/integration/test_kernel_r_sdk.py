"""What notebooks in R have at hand: datasets as files, results as files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import polars as pl
import pytest
from support.kernels import recorded
from support.languages import kernelspec

import nbledger_workers.kernel.environment as kernel_environment
from nbledger_infrastructure.datasets.column_types import columns
from nbledger_workers import results as described
from nbledger_workers.datasets import write_csv
from nbledger_workers.kernel.protocol import CellStatus

BOUND = "880e8400-e29b-41d4-a716-446655440000"


def _has_r() -> bool:
    rscript = shutil.which("Rscript")
    if rscript is None:
        return False
    asked = [rscript, "--vanilla", "-e", "loadNamespace('jsonlite')"]
    return subprocess.run(asked, capture_output=True, check=False, timeout=60).returncode == 0


pytestmark = pytest.mark.skipif(not _has_r(), reason="R or its jsonlite is not installed")


def run_r(folder: Path, code: str, *, served: bool = True) -> str:
    """Run it in R as a kernel starts, with the profile that every kernel of R reads."""
    environment = kernel_environment.kernel_environment(os.environ, folder)
    if not served:
        del environment[kernel_environment.RUN_FILE_VARIABLE]
    (folder / "code.R").write_text(code, "utf-8")
    done = subprocess.run(
        ["Rscript", "--no-environ", "--no-site-file", "code.R"],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tell(folder: Path, csv: str | None = None, **told: Any) -> Path:
    """Write the file that tells of a run; returns the folder of its results."""
    run_file = kernel_environment.run_file(folder)
    run_file.parent.mkdir()
    frame = pl.DataFrame({"case_id": ["007"], "n": [1]})
    frame.write_parquet(folder / "data.parquet")
    dataset: dict[str, Any] = {
        "path": str(folder / "data.parquet"),
        "name": "Orders",
        "version": 2,
        "rowCount": 1,
        "columns": [
            {"name": "case_id", "type": "string"},
            {"name": "n", "type": "integer"},
            {"name": "at", "type": "datetime"},
            {"name": "ok", "type": "boolean"},
        ],
    }
    if csv is not None:
        (folder / "data.csv").write_text(csv, "utf-8")
        dataset["csvPath"] = str(folder / "data.csv")
    run_file.write_text(json.dumps({"datasets": {BOUND: dataset}, **told}))
    return run_file.parent / "results"


CSV = '''case_id,n,at,ok
007,1,2024-03-31T12:00:00.250000+0200,true
"ä, ""b""",,,
c,3,2024-01-01T00:00:00.000000,false
'''


def test_a_dataset_is_enriched(tmp_path: Path) -> None:
    results = tell(tmp_path, CSV, datasetBinding=BOUND, parameters={"depth": 3})
    told = run_r(
        tmp_path,
        """
        log <- load_dataset()
        stopifnot(identical(log$case_id, c("007", 'ä, "b"', "c")), identical(log$n, c(1L, NA, 3L)),
                  identical(log$ok, c(TRUE, NA, FALSE)), inherits(log$at, "POSIXct"),
                  abs(as.numeric(log$at[1]) - 1711879200.25) < 1e-6, is.na(log$at[2]))
        log$score <- c(0.5, NA, 2)
        rm(list = setdiff(ls(), "log"))
        save_enriched_dataset(log)
        cat(dataset_id(), run_parameters()$depth)
        """,
    )
    assert told == f"{BOUND} 3"
    found = described.decode((results / "000001.json").read_bytes())
    assert isinstance(found, described.EnrichedDataset)
    assert found.name == "Orders_enriched"
    assert found.attributes.new_columns == ["score"]
    assert (found.attributes.record_count, found.attributes.source_version) == (3, 2)
    assert [column.type for column in found.attributes.columns] == [
        "string",
        "integer",
        "datetime",
        "boolean",
        "number",
    ]
    back = pl.read_csv(results / found.files[0].path, try_parse_dates=True)
    assert back["case_id"].to_list() == ["007", 'ä, "b"', "c"]
    assert back["ok"].to_list() == [True, None, False]
    assert back["score"].to_list() == [0.5, None, 2.0]
    assert str(back["at"][0]) == "2024-03-31 10:00:00.250000+00:00"


async def test_columns_of_every_kind_reach_r(tmp_path: Path) -> None:
    results = tell(tmp_path, "", datasetBinding=BOUND)
    noon = datetime(2024, 3, 31, 12, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "case_id": ["007", None, "a,b"],
            "at": [noon.astimezone(ZoneInfo("Europe/Berlin")), None, noon],
            "naive": [noon.replace(tzinfo=None), None, None],
            "day": [noon.date(), None, None],
            "lasted": [timedelta(minutes=1.5), None, None],
            "huge": [2**40, None, 1],
            "many": [[1, 2], None, []],
            "raw": [b"ab", None, b""],
        }
    )
    (tmp_path / "data.csv").unlink()
    frame.write_parquet(tmp_path / "data.parquet")
    assert await write_csv(tmp_path / "data.parquet", tmp_path / "data.csv")
    run_file = results.parent / "run.json"
    told = json.loads(run_file.read_text())
    told["datasets"][BOUND]["columns"] = msgspec.to_builtins(columns(frame.schema))
    run_file.write_text(json.dumps(told))
    run_r(
        tmp_path,
        """
        log <- load_dataset()
        stopifnot(identical(log$case_id, c("007", NA, "a,b")),
                  as.numeric(log$at)[c(1, 3)] == 1711886400, is.na(log$at[2]),
                  as.numeric(log$naive[1]) == 1711886400, log$day[1] == as.Date("2024-03-31"),
                  identical(log$lasted, c(90, NA, NA)), identical(log$huge, c(2^40, NA, 1)),
                  log$many[1] == "[1, 2]", log$raw[1] == "6162")
        """,
    )
    assert not await write_csv(tmp_path / "none.parquet", tmp_path / "none.csv")


def test_models_reports_and_metrics(tmp_path: Path) -> None:
    results = tell(tmp_path)
    run_r(
        tmp_path,
        """
        model <- lm(mpg ~ wt + hp, mtcars)
        save_model(model, "fuel", metrics = list(r2 = summary(model)$r.squared), target = "mpg")
        save_report("<h1>Fuel <b>used</b></h1>")
        save_report(c("# Notes", "", "None."))
        for (step in 1:3) log_metric("loss", 1 / step)
        """,
    )
    assert sorted(path.name for path in results.iterdir()) == [
        "000001-model.rds",
        "000001.json",
        "000002-report.html",
        "000002.json",
        "000003-report.md",
        "000003.json",
        "000004.json",
    ]
    found = [described.decode(path.read_bytes()) for path in sorted(results.glob("*.json"))]
    assert [each.name for each in found] == ["fuel", "Fuel used", "Notes", "loss"]
    model, metric = found[0], found[3]
    assert isinstance(model, described.Model)
    assert model.attributes.model_type == "lm"
    assert model.attributes.features == ["wt", "hp"]
    assert model.attributes.metrics == {"r2": pytest.approx(0.8267855)}
    assert isinstance(metric, described.Metric)
    assert metric.attributes.value == pytest.approx(1 / 3)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    tell(tmp_path, datasetBinding="elsewhere")
    said = run_r(
        tmp_path,
        f"""
        say <- function(expression) cat(tryCatch(expression, error = conditionMessage), "\\n")
        say(load_dataset())
        say(log_metric("loss", NaN))
        say(save_report(""))
        if (!requireNamespace("nanoparquet", quietly = TRUE) &&
            !requireNamespace("arrow", quietly = TRUE)) say(load_dataset("{BOUND}")) else
            stopifnot(load_dataset("{BOUND}")$case_id == "007")
        """,
    )
    assert "The service holds no dataset 'elsewhere'." in said
    assert "'loss' must be one finite number." in said
    assert "A report is HTML, text or the path of a file." in said


def test_outside_a_run_files_of_the_folder_are_used(tmp_path: Path) -> None:
    (tmp_path / "loans.csv").write_text("case_id,n\na,1\n")
    said = run_r(
        tmp_path,
        """
        frame <- load_dataset("loans")
        cat(frame$n, tryCatch(load_dataset(), error = conditionMessage))
        save_enriched_dataset(frame, "loans")
        """,
        served=False,
    )
    assert said.startswith("1 Outside a run of the service no dataset is bound")
    assert (tmp_path / "results" / "000001-data.csv").read_text() == '"case_id","n"\n"a",1\n'


async def test_the_kernel_of_r_has_it_at_hand(tmp_path: Path) -> None:
    run = await recorded(
        tmp_path,
        "rm(list = ls())\nlog_metric('loss', 0.5)",
        "load_dataset()",
        kernel_name=kernelspec("r"),
        continue_on_error=True,
        context=b'{"datasetBinding": "elsewhere"}',
    )
    assert run.statuses == [CellStatus.SUCCESS, CellStatus.ERROR]
    assert "holds no dataset 'elsewhere'" in (run.cell(1).error_value or "")
    results = kernel_environment.run_file(tmp_path).parent / "results"
    found = described.decode((results / "000001.json").read_bytes())
    assert isinstance(found, described.Metric)
