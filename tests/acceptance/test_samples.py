"""The two sample programs of the API's description, as they stand but for host, ids and token.

The Python one runs twice: as it is, and on a dataset, when what it prints can be had and opened.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import polars as pl
import pytest
from support.browser import needs_browser, rendered
from support.local_server import LocalServer
from support.node import node

SAMPLES = Path(__file__).with_name("samples")
SECONDS = 110.0
RECORDS = 15_420
_ACTIVITIES = ("Submit", "Review", "Request Documents", "Manager Approval", "Pay")
_BEGIN = datetime(2024, 1, 1, 8, tzinfo=UTC)

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.stalls("the sample programs ask every 15 seconds, within a bound"),
]


def records() -> Iterator[list[str]]:
    """Events of cases of three to five steps, some of which wait long."""
    number = 0
    for case in range(RECORDS):
        at = _BEGIN + timedelta(minutes=37 * case)
        for step in range(3 + case % 3):
            at += timedelta(hours=1 + (case * 7 + step * 3) % 11 * (9 if case % 4 == 0 else 1))
            yield [
                f"C-{case:05d}",
                _ACTIVITIES[step],
                at.isoformat(),
                f"employee {case % 9}",
                f"{case * 13 % 997}.50",
            ]
            number += 1
            if number == RECORDS:
                return


@pytest.fixture(scope="module")
def dataset(server: LocalServer) -> dict[str, Any]:
    """What a program is bound to."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["case_id", "activity", "timestamp", "resource", "cost"])
    table.writerows(records())
    made = httpx.post(
        f"{server.base}/dataset/csv",
        files={"file": ("claims.csv", text.getvalue().encode(), "text/csv")},
        data={"datasetName": "Claims"},
        headers=server.headers,
        timeout=60,
    )
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


def written(server: LocalServer, dataset_id: str = "dataset-guid") -> str:
    """The Python program with its placeholders filled in."""
    text = (SAMPLES / "workflow.py").read_text()
    for placeholder, value in {
        "https://your-mindzie-instance.com": server.info.url,
        "tenant-guid": server.info.tenant_id,
        "project-guid": server.info.project_id,
        "your-auth-token": server.info.token,
    }.items():
        assert text.count(placeholder) == 1
        text = text.replace(placeholder, value)
    return text.replace("dataset-guid", dataset_id)


@pytest.fixture(scope="module")
def programs(
    server: LocalServer, dataset: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """All programs, started at once: most of their time they wait."""
    folder = tmp_path_factory.mktemp("samples")
    script = (SAMPLES / "workflow.js").read_text()
    assert script.count("/api/{tenantId}/{projectId}") == 4
    script = script.replace("/api/{tenantId}/{projectId}", server.base)
    sources = {
        "workflow.py": written(server),
        "bound.py": written(server, dataset["datasetId"]),
        "workflow.js": f"const token = {json.dumps(server.info.token)};\n{script}",
    }
    started = {}
    for name, source in sources.items():
        program = folder / name
        program.write_text(source)
        started[name] = subprocess.Popen(
            [node() if program.suffix == ".js" else sys.executable, str(program)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


def printed_by(process: subprocess.Popen[str]) -> str:
    """What a program has printed until its end, which must be a good one."""
    printed, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    return printed


def test_python(programs: dict[str, subprocess.Popen[str]]) -> None:
    printed = printed_by(programs["workflow.py"])
    assert "Error in notebook workflow" not in printed
    assert "Notebook execution completed successfully!" in printed, printed
    outputs = next(line for line in printed.splitlines() if "Generated outputs" in line)
    assert int(outputs.rpartition(":")[2]) >= 5


def test_javascript(programs: dict[str, subprocess.Popen[str]]) -> None:
    program = programs["workflow.js"]
    printed, errors = program.communicate(timeout=SECONDS)
    assert (program.returncode, errors) == (0, "")
    assert "Created notebook:" in printed
    assert "Notebook execution completed!" in printed, printed
    assert "Execution Results:" in printed


@pytest.fixture(scope="module")
def results(
    server: LocalServer, dataset: dict[str, Any], programs: dict[str, subprocess.Popen[str]]
) -> dict[str, Any]:
    """What the program on a dataset leaves, and under ``printed`` what it says."""
    printed = printed_by(programs["bound.py"])
    words = dict(line.split(": ", 1) for line in printed.splitlines() if ": " in line)
    path = f"/notebook/{words['Created notebook']}/execution/{words['Started execution']}/results"
    with httpx.Client(base_url=server.base, headers=server.headers, timeout=60) as client:
        found = client.get(path, params={"format": "detailed"}).json()
        archive = client.get(path, params={"format": "download"}).content
    return {**found, "printed": printed, "dataset": dataset, "archive": archive}


def fetched(url: str, **params: str) -> httpx.Response:
    """A file by its link alone."""
    answer = httpx.get(url, params=httpx.QueryParams(httpx.URL(url).params).merge(params))
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    return answer


def test_the_sample_prints_outputs_datasets_and_models(results: dict[str, Any]) -> None:
    assert results["dataset"]["rowCount"] == RECORDS
    printed = results["printed"]
    assert "Notebook execution completed successfully!" in printed, printed
    for name, kind in (
        ("Generated outputs", "outputs"),
        ("Enriched datasets", "enrichedDatasets"),
        ("ML models created", "models"),
    ):
        assert f"{name}: {len(results[kind])}" in printed
        assert results[kind], name
    for each in (*results["enrichedDatasets"], *results["models"]):
        # The link is signed anew for every answer.
        assert each["downloadUrl"].partition("?")[0] in printed


def test_the_enriched_dataset_reads_back_with_its_new_columns(results: dict[str, Any]) -> None:
    (told,) = results["enrichedDatasets"]
    assert told["recordCount"] == RECORDS
    assert set(told["newColumns"]) == {"customer_segment", "journey_score", "anomaly_flag"}
    assert told["format"] == "pandas_dataframe"
    (typed,) = told["alternatives"]
    assert (told["contentType"], typed["role"]) == ("text/csv", "table")
    for table in (
        pl.read_csv(fetched(told["downloadUrl"]).content),
        pl.read_parquet(fetched(typed["downloadUrl"]).content),
    ):
        assert table.height == RECORDS
        assert set(told["newColumns"]) < set(table.columns)
        assert table["case_id"].to_list() == [record[0] for record in records()]
    assert told["lineage"]["sourceDatasetId"] == results["dataset"]["datasetId"]


def test_the_model_loads_and_predicts(results: dict[str, Any]) -> None:
    for told in results["models"]:
        model = pickle.loads(fetched(told["downloadUrl"]).content)  # noqa: S301 - our own notebook's
        assert type(model).__name__ == told["modelType"]
        assert 0 <= told["accuracy"] <= 1
        row = dict.fromkeys(told["features"], 1.0)
        assert len(model.predict(pd.DataFrame([row]))) == 1


def test_every_output_and_report_opens(results: dict[str, Any]) -> None:
    assert results["outputs"]
    assert results["reports"]
    for told in (*results["outputs"], *results["reports"], *results["files"]):
        answer = fetched(told["downloadUrl"])
        assert answer.headers["Content-Type"].split(";")[0] == told["contentType"].split(";")[0]
        if told["contentType"] == "application/json":
            json.loads(answer.content)
        elif told["contentType"] == "image/png":
            assert answer.content.startswith(b"\x89PNG")


@needs_browser
def test_pages_are_rendered_by_a_browser_and_run_nothing(
    results: dict[str, Any], tmp_path: Path
) -> None:
    pages = [
        each
        for each in (*results["outputs"], *results["reports"])
        if each["contentType"].startswith("text/html")
    ]
    assert pages
    for number, told in enumerate(pages):
        shown = asyncio.run(rendered(tmp_path / str(number), f"{told['downloadUrl']}&inline=1"))
        assert "<table" in shown
        policy = fetched(told["downloadUrl"], inline="1").headers["Content-Security-Policy"]
        assert policy.startswith("sandbox; default-src 'none'")


def test_the_archive_holds_all_of_it(results: dict[str, Any]) -> None:
    archive = zipfile.ZipFile(io.BytesIO(results["archive"]))
    assert archive.testzip() is None
    manifest = json.loads(archive.read("manifest.json"))
    assert {file["path"] for file in manifest["files"]} | {"manifest.json"} == set(
        archive.namelist()
    )
    kinds = [file["kind"] for file in manifest["files"]]
    assert {"notebook", "output", "dataset", "model", "report"} <= set(kinds)
