"""What notebooks in R have at hand: datasets as files, results as files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import msgspec
import polars as pl
import pytest
from support.executions import AS_TESTER, Stage, make_settings, stage
from support.kernels import recorded
from support.languages import kernelspec

import nbledger_workers.kernel.processes.environment as kernel_environment
from nbledger_application import repository
from nbledger_domain.dataset import Dataset, Source
from nbledger_domain.execution import Execution, ExecutionStatus, Representation
from nbledger_domain.vocabulary.media_types import PARQUET
from nbledger_infrastructure import aggregates, clock
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope, open_store
from nbledger_infrastructure.datasets.column_types import columns
from nbledger_infrastructure.datasets.ingest import ingest_csv
from nbledger_infrastructure.postgres.event_store import Stream
from nbledger_workers.kernel.protocol import CellStatus
from nbledger_workers.results import descriptions
from nbledger_workers.results.datasets import write_csv

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
    found = descriptions.decode((results / "000001.json").read_bytes())
    assert isinstance(found, descriptions.EnrichedDataset)
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


HUGE = """n,below
9007199254740993,9000000000000001
,
-9223372036854775808,1000000000000000
9223372036854775807,-1
"""


async def test_whole_numbers_of_64_bits_stay_what_they_are(tmp_path: Path) -> None:
    results = tell(tmp_path, HUGE, datasetBinding=BOUND)
    run_file = results.parent / "run.json"
    told = json.loads(run_file.read_text())
    told["datasets"][BOUND]["columns"] = [
        {"name": "n", "type": "integer"},
        {"name": "below", "type": "integer"},
    ]
    run_file.write_text(json.dumps(told))
    said = run_r(
        tmp_path,
        """
        log <- tryCatch(load_dataset(), warning = function(w) { cat(conditionMessage(w)); NULL })
        log <- suppressWarnings(load_dataset())
        stopifnot(is.character(log$n), is.na(log$n[2]), is.numeric(log$below))
        log$real <- c(0.1 + 0.2, NA, 1e300, -0)
        log$zero <- c("0", "", NA, "a,b")
        save_enriched_dataset(log, "log")
        """,
    )
    assert said.endswith("so these columns are texts: n")
    made = await ingest_csv(results / "000001-data.csv", tmp_path)
    back = pl.read_parquet(made.path)
    assert back.to_dict(as_series=False) == {
        "n": [9007199254740993, None, -(2**63), 2**63 - 1],
        "below": [9000000000000001, None, 10**15, -1],
        "real": [0.1 + 0.2, None, 1e300, 0.0],
        "zero": ["0", "", None, "a,b"],
    }


async def test_empty_and_missing_texts_are_told_apart(tmp_path: Path) -> None:
    results = tell(tmp_path, "", datasetBinding=BOUND)
    (tmp_path / "data.csv").unlink()
    texts = ["", None, 'a,"",b', '"', "ä\n\n", "<empty>", "NA"]
    run_file = results.parent / "run.json"
    told = json.loads(run_file.read_text())
    code = """
        log <- load_dataset()
        wanted <- c("", NA, 'a,"",b', '"', "ä\\n\\n", "<empty>", "NA")
        stopifnot(identical(log$text, wanted), nrow(log) == 7)
    """
    for frame, more in (
        (pl.DataFrame({"text": texts}), ""),
        (
            pl.DataFrame({"": texts, "text": texts, "n": range(7)}),
            'stopifnot(names(log) == c("", "text", "n"), identical(log[[1]], wanted))',
        ),
    ):
        frame.write_parquet(tmp_path / "data.parquet")
        assert await write_csv(tmp_path / "data.parquet", tmp_path / "data.csv")
        told["datasets"][BOUND]["columns"] = msgspec.to_builtins(columns(frame.schema))
        run_file.write_text(json.dumps(told))
        run_r(tmp_path, code + more)
        (tmp_path / "data.csv").unlink()


def test_names_that_begin_alike_are_not_confused(tmp_path: Path) -> None:
    results = tell(
        tmp_path, CSV, datasetBinding=BOUND, parameters={"dataset_id_reference": "another"}
    )
    said = run_r(
        tmp_path,
        """
        cat(dataset_id(), nrow(load_dataset()))
        save_model(lm(mpg ~ wt, mtcars), "fuel", metrics = list(accuracy_train = 0.99))
        say <- function(expression) cat(tryCatch(expression, error = conditionMessage), "\n")
        say(save_model(1, "unnamed", metrics = list(0.5)))
        say(save_enriched_dataset(setNames(data.frame(1, 2), c("n", "n"))))
        """,
    )
    assert said.startswith(f"{BOUND} 3")
    assert "needs a name" in said
    assert "Two columns are called 'n'" in said
    (path,) = results.glob("*.json")
    model = descriptions.decode(path.read_bytes())
    assert isinstance(model, descriptions.Model)
    assert model.attributes.accuracy is None
    assert model.attributes.metrics == {"accuracy_train": 0.99}


@pytest.mark.parametrize(
    ("output_format", "times"), [("parquet", 1), ("csv", 0), ("enriched_dataframe", 0), (None, 0)]
)
def test_that_r_writes_no_parquet_is_said_once(
    tmp_path: Path, output_format: str | None, times: int
) -> None:
    results = tell(tmp_path, CSV, datasetBinding=BOUND, outputFormat=output_format)
    said = run_r(
        tmp_path,
        """
        log <- load_dataset()
        said <- character()
        withCallingHandlers(
            for (name in c("one", "two")) save_enriched_dataset(log, name),
            message = function(m) {
                said <<- c(said, conditionMessage(m))
                invokeRestart("muffleMessage")
            }
        )
        cat(said)
        """,
    )
    assert said.count("as CSV, and not as Parquet") == times
    assert len(list(results.glob("*.csv"))) == 2


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
    found = [descriptions.decode(path.read_bytes()) for path in sorted(results.glob("*.json"))]
    assert [each.name for each in found] == ["fuel", "Fuel used", "Notes", "loss"]
    model, metric = found[0], found[3]
    assert isinstance(model, descriptions.Model)
    assert model.attributes.model_type == "lm"
    assert model.attributes.features == ["wt", "hp"]
    assert model.attributes.metrics == {"r2": pytest.approx(0.8267855)}
    assert isinstance(metric, descriptions.Metric)
    assert metric.attributes.value == pytest.approx(1 / 3)


def test_space_around_a_name_is_no_part_of_it(tmp_path: Path) -> None:
    results = tell(tmp_path)
    run_r(
        tmp_path,
        r"""
        save_enriched_dataset(data.frame(a = 1), " log\n")
        save_enriched_dataset(data.frame(a = 1), 5)
        save_report("text", "\tReport ")
        """,
    )
    log, five, report = (
        descriptions.decode(path.read_bytes()) for path in sorted(results.glob("*.json"))
    )
    assert isinstance(log, descriptions.EnrichedDataset)
    assert log.name == log.attributes.dataset_name == "log"
    assert five.name == "5"
    assert isinstance(report, descriptions.Report)
    assert report.name == report.attributes.title == "Report"


def test_reports_that_are_files(tmp_path: Path) -> None:
    results = tell(tmp_path)
    (tmp_path / "page.HTML").write_text("<h1>Page</h1>")
    (tmp_path / "of two words.md").write_text("# Two")
    said = run_r(
        tmp_path,
        """
        for (path in c("page.HTML", "of two words.md", file.path(getwd(), "page.HTML"),
                       "See report.html", "Done.", "slow/fast", "// none", "a\nb/report.md"))
            save_report(path)
        say <- function(expression) cat(tryCatch(expression, error = conditionMessage), "\n")
        for (path in c("missing.html", "./no report.txt", "/etc/passwd", "code.R"))
            say(save_report(path))
        """,
    )
    refused = "is no report: its name must end in one of .html, .htm, .md, .markdown, .pdf, .txt. "
    assert said.splitlines() == [
        "There is no file 'missing.html'. ",
        "There is no file './no report.txt'. ",
        f"passwd {refused}",
        f"code.R {refused}",
    ]
    found = [descriptions.decode(path.read_bytes()) for path in sorted(results.glob("*.json"))]
    assert [each.attributes.format for each in found if isinstance(each, descriptions.Report)] == [
        *("html", "markdown", "html"),
        *["text"] * 5,
    ]
    assert [each.name for each in found[:3]] == ["Page", "Two", "Page"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, "as one text, and is 5."),
        (["a", "b"], 'as one text, and is ["a","b"].'),
        (None, BOUND),
        ("", BOUND),
        ("elsewhere", "elsewhere"),
    ],
)
def test_a_dataset_is_named_by_one_text(tmp_path: Path, given: object, said: str) -> None:
    tell(tmp_path, datasetBinding=BOUND, parameters={"dataset_id": given})
    told = run_r(tmp_path, "cat(tryCatch(dataset_id(), error = conditionMessage))")
    assert told.endswith(said)


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
    found = descriptions.decode((results / "000001.json").read_bytes())
    assert isinstance(found, descriptions.Metric)


async def add_dataset(scene: Stage, frame: pl.DataFrame) -> UUID:
    """A dataset of one version."""
    content = BytesIO()
    frame.write_parquet(content)
    dataset_id = uuid4()
    digest = await ArtifactStore(open_store(scene.settings.artifacts.url)).put(
        Scope(scene.tenant_id, scene.project_id, dataset_id), content.getvalue()
    )
    dataset = Dataset.create(dataset_id, name="log", at=clock.now())
    dataset.add_version(
        content=Representation(PARQUET, digest, len(content.getvalue())),
        rows=frame.height,
        columns=columns(frame.schema),
        source=Source(kind="upload", file_name="log.csv"),
        at=clock.now(),
    )
    stream = Stream(dataset_id, dataset_id, scene.tenant_id, scene.project_id)
    await repository.save(scene.store, dataset, stream, AS_TESTER)
    return dataset_id


@pytest.mark.timeout(240)
async def test_a_notebook_in_r_enriches_its_dataset(
    database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    kernelspec("r")
    log = pl.DataFrame({"case_id": ["007", "", None], "hours": [0.5, 1.5, None]})
    async with stage(make_settings(database_dsn, kafka, topic_prefix, tmp_path)) as scene:
        dataset_id = await add_dataset(scene, log)
        execution_id = await scene.request(
            "log <- load_dataset()\n"
            'stopifnot(identical(log$case_id, c("007", "", NA)))\n'
            "stopifnot(identical(log$hours, c(0.5, 1.5, NA)))",
            'log$slow <- log$hours > 1\nsave_enriched_dataset(log, "slow cases")\n'
            'log_metric("cases", nrow(log))',
            kernel_type="r",
            binding=str(dataset_id),
            timeout=180.0,
        )
        async with scene.worker():
            await scene.command(execution_id)
            execution = await scene.until(execution_id, seconds=200)
        cells = await scene.events(execution_id, Execution.CellExecuted)
        assert [cell.error for cell in cells] == [None, None]
        assert execution.status is ExecutionStatus.COMPLETED
        assert await scene.events(execution_id, Execution.Warned) == []
        (stored,) = await scene.events(execution_id, Execution.ArtifactStored)
        assert (stored.kind, stored.name) == ("dataset", "slow cases")
        assert (stored.attributes["recordCount"], stored.attributes["newColumns"]) == (3, ["slow"])
        assert stored.attributes["sourceDatasetId"] == str(dataset_id)
        (logged,) = await scene.events(execution_id, Execution.MetricsLogged)
        assert logged.metrics == {"cases": 3.0}
        made = await aggregates.load(scene.store, Dataset, UUID(stored.attributes["datasetId"]))
        assert made is not None
        (version,) = made.aggregate.versions
        assert version.source.from_dataset_id == dataset_id
        scope = Scope(scene.tenant_id, scene.project_id, made.aggregate.id)
        content = await ArtifactStore(open_store(scene.settings.artifacts.url)).get(
            scope, version.content.digest
        )
    assert pl.read_parquet(BytesIO(content)).to_dict(as_series=False) == {
        "case_id": ["007", "", None],
        "hours": [0.5, 1.5, None],
        "slow": [False, True, None],
    }
