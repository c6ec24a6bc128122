"""Results over HTTP: what outputs are, which are told, page by page, and the archive of them."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import nbformat
import pytest
from support.api import Api
from support.outcomes import Left, Outcome, Shown, alternative, ended
from support.paths import ROOT, SOURCE_ROOTS
from support.shared_api import ServerThread, api, api_server

from nbledger_infrastructure.artifacts.store import ArtifactStore, open_store

__all__ = ["api", "api_server"]


PNG = b"\x89PNG\r\n\x1a\n"
PLOTLY = ("application/vnd.plotly.v1+json", b'{"data": [], "layout": {}}')
WIDGET = ("application/vnd.jupyter.widget-view+json", b'{"model_id": "1"}')
TEXT = ("text/plain", b"text")
TABLE = {"metadata": {"dataFrame": True}, "rows": 5, "columns": 2, "title": "Top customers"}

CELLS = [
    [
        Shown([TEXT], "stream", {"stream": "stdout"}),
        Shown([("text/html", b"<table>"), TEXT], "execute_result", TABLE),
        Shown([("text/html", b"<script>draw()</script>"), PLOTLY]),
        Shown([("image/png", PNG), TEXT], told={"width": 800, "height": 600, "title": "Flow"}),
    ],
    [
        Shown([("image/svg+xml", b"<svg/>")]),
        Shown([("image/png", PNG), ("text/latex", b"$x$"), TEXT], "execute_result"),
        Shown([("application/json", b'{"fitness": 0.50}'), TEXT]),
        Shown([("text/markdown", b"*m*"), TEXT]),
        Shown([WIDGET, TEXT]),
        Shown([("text/html", b"<b>b</b>"), TEXT]),
        Shown([TEXT], "error"),
    ],
]
KINDS = [
    *("stream", "table", "chart", "image"),
    *("image", "latex", "json", "markdown", "widget", "html", "error"),
]
PLOTS, DATA = ("chart", "image"), ("table", "json")


@pytest.fixture
def artifacts(api_server: ServerThread) -> ArtifactStore:
    return ArtifactStore(open_store(api_server.settings.artifacts.url))


async def mixed(api: Api, artifacts: ArtifactStore) -> Outcome:
    """One execution with results of every kind."""
    return await ended(
        api,
        artifacts,
        CELLS,
        [
            Left("dataset", "d.csv", b"a\n1\n", "text/csv", "d"),
            Left("model", "m.pkl", b"m", name="m", attributes={"cellId": "cell-002"}),
            Left("report", "r.html", b"<p>r</p>", "text/html", "r"),
            Left("file", "f.txt", b"f", "text/plain", "f"),
        ],
    )


def read(content: bytes) -> tuple[zipfile.ZipFile, dict[str, Any]]:
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.testzip() is None
    return archive, json.loads(archive.read("manifest.json"))


async def test_outputs_are_told_by_what_they_show(api: Api, artifacts: ArtifactStore) -> None:
    outcome = await mixed(api, artifacts)
    results = await outcome.results("format=detailed")
    outputs = results["outputs"]
    assert [output["kind"] for output in outputs] == KINDS
    table, chart, image = outputs[1:4]
    assert (table["rows"], table["columns"], table["title"]) == (5, 2, "Top customers")
    assert (table["outputType"], table["contentType"]) == ("execute_result", "text/html")
    assert chart["outputType"] == chart["contentType"] == PLOTLY[0]
    assert chart["content"] == {"data": [], "layout": {}}
    assert [form["contentType"] for form in chart["alternatives"]] == ["text/html"]
    assert (image["dimensions"], image["title"]) == ({"width": 800, "height": 600}, "Flow")
    assert outputs[4]["title"] == "Output 1 of cell-002"
    status = (await outcome.client.get(outcome.execution)).json()
    expected = {"dataFrames": 1, "plots": 3, "models": 1, "reports": 1, "files": 1}
    assert {name: status["outputs"][name] for name in expected} == expected
    assert [cell["plots"] for cell in status["cellResults"]] == [2, 1]
    file = f"{outcome.notebook}/download?executionId={results['executionId']}"
    notebook = (await outcome.client.get(file)).json()
    nbformat.validate(notebook)


@pytest.mark.parametrize("output_type", ["all", "data", "plots", "models", "reports"])
async def test_type_format_and_cell_combine(
    api: Api, artifacts: ArtifactStore, output_type: str
) -> None:
    outcome = await mixed(api, artifacts)
    wanted = {"all": set(KINDS), "data": set(DATA), "plots": set(PLOTS)}.get(output_type, set())
    kept = {"data": "dataset", "models": "model", "reports": "report"}.get(output_type)
    for cell_id in (None, "cell-001", "cell-002"):
        query = f"outputType={output_type}" + (f"&cellId={cell_id}" if cell_id else "")
        kinds = KINDS if cell_id is None else KINDS[:4] if cell_id == "cell-001" else KINDS[4:]
        expected = [kind for kind in kinds if kind in wanted]
        files = [
            kind
            for kind in ("dataset", "model", "report", "file")
            if (output_type == "all" or kind == kept)
            and (cell_id is None or (cell_id == "cell-002" and kind == "model"))
        ]
        for form in ("summary", "detailed"):
            results = await outcome.results(f"{query}&format={form}")
            assert [output["kind"] for output in results["outputs"]] == expected
            assert results["totalCount"] == len(expected)
            told = [
                kind
                for kind, member in (
                    ("dataset", "enrichedDatasets"),
                    ("model", "models"),
                    ("report", "reports"),
                    ("file", "files"),
                )
                if results[member]
            ]
            assert told == files
            contents = ["content" in output for output in results["outputs"]]
            assert any(contents) == (form == "detailed" and set(expected) - {"image"} != set())
        answer = await outcome.client.get(f"{outcome.execution}/results?{query}&format=download")
        archive, manifest = read(answer.content)
        places = {(f["cellId"], f["output"]) for f in manifest["files"] if f["kind"] == "output"}
        assert len(places) == len(expected)
        others = [f["kind"] for f in manifest["files"] if f["kind"] not in ("output", "notebook")]
        assert others == files
        for file in manifest["files"]:
            assert hashlib.sha256(archive.read(file["path"])).hexdigest() == file["sha256"]


async def test_results_are_told_page_by_page(api: Api, artifacts: ArtifactStore) -> None:
    many = [Shown([("text/plain", b"%d" % number)]) for number in range(130)]
    outcome = await ended(api, artifacts, [many, many[:120]])
    seen: list[tuple[str, str]] = []
    for page, more in ((1, True), (2, True), (3, True), (4, True), (5, False)):
        results = await outcome.results(f"page={page}&format=detailed")
        assert (results["totalCount"], results["pageSize"]) == (250, 50)
        assert results["hasNextPage"] is more
        seen += [(output["cellId"], output["content"]) for output in results["outputs"]]
    assert seen == [
        (cell, str(number))
        for cell, count in (("cell-001", 130), ("cell-002", 120))
        for number in range(count)
    ]
    assert (await outcome.results("page=6"))["outputs"] == []
    assert len((await outcome.results("pageSize=1000"))["outputs"]) == 250
    last = await outcome.results("cellId=cell-002&pageSize=50&page=3")
    assert len(last["outputs"]) == 20
    for wrong in ("page=0", "pageSize=1001", "pageSize=x"):
        answer = await outcome.client.get(f"{outcome.execution}/results?{wrong}")
        assert answer.status_code == 422


async def test_what_is_too_large_to_be_told_is_said_to_be(
    api: Api, artifacts: ArtifactStore
) -> None:
    large = [Shown([("text/plain", b"%02d" % n + b"x" * 1_048_000)]) for n in range(18)]
    over = Shown([("text/plain", b"y" * (1_048_576 + 1))])
    outcome = await ended(api, artifacts, [[over, *large, Shown([TEXT])]])
    outputs = (await outcome.results("format=detailed"))["outputs"]
    told = ["content" in output for output in outputs]
    assert told == [False, *[True] * 16, False, False, True]
    assert [output.get("contentOmitted", False) for output in outputs] == [not t for t in told]
    assert "contentOmitted" not in str((await outcome.results())["outputs"])


async def test_datasets_tell_their_columns_and_where_they_come_from(
    api: Api, artifacts: ArtifactStore
) -> None:
    columns = [{"name": "case", "type": "string"}, {"name": "segment", "type": "integer"}]
    attributes = {
        "recordCount": 15420,
        "newColumns": ["segment"],
        "columns": columns,
        "format": "csv",
        "datasetId": "990e8400-e29b-41d4-a716-446655440000",
        "datasetVersion": 3,
        "sourceDatasetId": "880e8400-e29b-41d4-a716-446655440000",
        "sourceVersion": 2,
    }
    csv = b"case,segment\n" + b"c1,4\n" * 15420
    outcome = await ended(
        api,
        artifacts,
        [[]],
        [
            Left("dataset", "Kunden \u00e9.csv", csv, "text/csv", "customers", attributes),
            # What a worker of another version may have recorded.
            Left("dataset", "odd.csv", b"a\n", "text/csv", "odd", {"columns": 7, "newColumns": 1}),
        ],
    )
    results = await outcome.results("outputType=data")
    dataset, odd = results["enrichedDatasets"]
    assert {name: dataset[name] for name in ("recordCount", "newColumns", "format")} == {
        "recordCount": 15420,
        "newColumns": ["segment"],
        "format": "csv",
    }
    assert (dataset["datasetId"], dataset["version"]) == (attributes["datasetId"], 3)
    assert dataset["columns"] == columns
    assert dataset["lineage"] == {
        "sourceDatasetId": attributes["sourceDatasetId"],
        "sourceVersion": 2,
        "notebookId": results["notebookId"],
        "notebookVersion": "1.0.0",
        "executionId": results["executionId"],
    }
    assert (odd["recordCount"], odd["columns"], odd["datasetId"]) == (None, [], None)
    answer = await api.anonymous().get(dataset["downloadUrl"])
    assert answer.content == csv
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"Kunden e.csv\"; filename*=UTF-8''Kunden%20%C3%A9.csv"
    )


async def test_a_mistyped_parameter_is_none_that_was_left_out(
    api: Api, artifacts: ArtifactStore
) -> None:
    outcome = await mixed(api, artifacts)
    execution_id = outcome.execution.rpartition("/")[-1]
    for path, meant in (
        (f"{outcome.execution}/results?OutputType=plots", "outputType"),
        (f"{outcome.execution}/results?cell_id=cell-001", "cellId"),
        (f"{outcome.notebook}/executions?pagesize=1", "pageSize"),
        (f"{outcome.notebook}/history?execution=true", "executions"),
        (f"{outcome.notebook}/download?executionid={execution_id}", "executionId"),
        ("/notebooks?kerneltype=python3", "kernelType"),
        ("/dataset?Page=2", "page"),
    ):
        answer = await outcome.client.get(path)
        assert answer.status_code == 422, path
        (fault,) = answer.json()["errors"]
        assert fault["reason"] == f"is an unknown parameter; did you mean {meant}?"


async def test_metrics_are_told_for_the_run_and_for_each_cell(
    api: Api, artifacts: ArtifactStore
) -> None:
    logged = [
        ("cell-001", {"fitness": 0.5, "cases": 3.0}),
        ("cell-001", {"cases": 4.0}),
        ("cell-002", {"fitness": 0.9}),
    ]
    outcome = await ended(api, artifacts, [[], [], []], metrics=logged)
    for query, expected in (
        ("", {"fitness": 0.9, "cases": 4}),
        ("cellId=cell-001", {"fitness": 0.5, "cases": 4}),
        ("cellId=cell-002", {"fitness": 0.9}),
        ("cellId=cell-003", {}),
    ):
        assert (await outcome.results(query))["metrics"] == expected
        answer = await outcome.client.get(f"{outcome.execution}/results?{query}&format=download")
        assert read(answer.content)[1]["metrics"] == expected


async def test_the_report_of_a_run_is_one_in_two_forms(api: Api, artifacts: ArtifactStore) -> None:
    def own(form: str, content: bytes, media_type: str) -> Left:
        told = {"format": form, "code": "shown"}
        return Left("report", f"Report of N.{form}", content, media_type, "Report of N", told)

    outcome = await ended(
        api,
        artifacts,
        [[]],
        [
            Left("report", "r.html", b"<p>r</p>", "text/html", "r", {"format": "html"}),
            own("html", b"<p>own</p>", "text/html"),
            Left("report", "r.pdf", b"%PDF-r", "application/pdf", "r", {"format": "pdf"}),
            own("pdf", b"%PDF-own", "application/pdf"),
        ],
    )
    reports = (await outcome.results("outputType=reports"))["reports"]
    told = [(report["name"], report["format"], len(report["alternatives"])) for report in reports]
    assert told == [("r", "html", 0), ("Report of N", "html", 1), ("r", "pdf", 0)]
    (pdf,) = reports[1]["alternatives"]
    assert (pdf["role"], pdf["contentType"]) == ("pdf", "application/pdf")
    assert (await api.anonymous().get(pdf["downloadUrl"])).content == b"%PDF-own"
    status = (await outcome.client.get(outcome.execution)).json()
    assert status["outputs"]["reports"] == 3
    answer = await outcome.client.get(f"{outcome.execution}/results?format=download")
    archive, manifest = read(answer.content)
    assert archive.read("reports/Report of N.pdf") == b"%PDF-own"
    assert [file.get("role") for file in manifest["files"][2:4]] == [None, "pdf"]


async def test_files_of_an_archive_are_called_as_they_were(
    api: Api, artifacts: ArtifactStore
) -> None:
    long = "n" * 230 + ".csv"
    paths = ["a?b", "a b", "a-b", "sub/.h", "sub/h", "业务/é.csv", long]
    left = [
        Left("file", path.rsplit("/", 1)[-1], path.encode(), name=path, attributes={"path": path})
        for path in paths
    ]
    outcome = await ended(api, artifacts, [[]], left)
    answer = await outcome.client.get(f"{outcome.execution}/results?format=download")
    archive, manifest = read(answer.content)
    for file in manifest["files"][1:]:
        assert archive.read(file["path"]) == file["name"].encode()
    told = {file["name"]: file["path"] for file in manifest["files"][1:]}
    assert told == {path: f"files/{path}" for path in paths} | {"a?b": "files/a-b-2"}
    for file in (await outcome.results())["files"]:
        assert (await api.anonymous().get(file["downloadUrl"])).content == file["name"].encode()


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


async def test_models_are_told_and_never_loaded(
    api: Api, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    from sklearn.linear_model import LogisticRegression  # long to import

    fitted = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    plain, bomb = pickle.dumps(fitted), pickle.dumps(Bomb(tmp_path / "loaded"))
    first = await ended(api, artifacts, [[]])
    attributes = {
        "modelType": "LogisticRegression",
        "features": ["journey_score"],
        "target": "churned",
        "metrics": {"accuracy": 0.87, "f1": 0.81},
        "libraries": {"scikit-learn": "1.7.2"},
        "alternatives": [await alternative(artifacts, first.scope, "skops", "m.skops", b"skops")],
    }
    outcome = await ended(
        api,
        artifacts,
        [[]],
        [
            Left("model", "m.pkl", plain, name="churn", attributes=attributes),
            Left("model", "m.pkl", bomb, name="bomb"),
        ],
    )
    # The further file lies with the notebook that has the model.
    await artifacts.put(outcome.scope, b"skops")
    results = await outcome.results("outputType=models&format=detailed")
    model, other = results["models"]
    assert (model["modelType"], model["accuracy"], model["features"], model["target"]) == (
        "LogisticRegression",
        0.87,
        ["journey_score"],
        "churned",
    )
    assert model["metrics"] == {"accuracy": 0.87, "f1": 0.81}
    assert (other["modelType"], other["accuracy"], other["features"]) == (None, None, [])
    anybody = api.anonymous()
    (skops,) = model["alternatives"]
    assert (await anybody.get(skops["downloadUrl"])).content == b"skops"
    loaded = pickle.loads((await anybody.get(model["downloadUrl"])).content)  # noqa: S301 (ours)
    assert loaded.predict([[0.0], [3.0]]).tolist() == [0, 1]
    assert (await anybody.get(other["downloadUrl"])).content == bomb
    answer = await outcome.client.get(f"{outcome.execution}/results?format=download")
    archive, manifest = read(answer.content)
    assert archive.read("models/m.pkl") == plain
    assert archive.read("models/m.skops") == b"skops"
    assert archive.read("models/m-2.pkl") == bomb
    assert manifest["files"][1]["attributes"]["modelType"] == "LogisticRegression"
    assert not (tmp_path / "loaded").exists()


def test_nothing_in_the_service_can_load_a_pickle() -> None:
    able = {"pickle", "_pickle", "joblib", "cloudpickle", "dill", "shelve", "skops", "sklearn"}
    files = [
        file
        # Workers run notebooks and the SDK runs inside them: they are no part of the service here.
        for root in set(SOURCE_ROOTS) - {"workers", "sdk"}
        for file in (ROOT / root).rglob("*.py")
    ]
    assert len(files) > 80
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not able & {name.partition(".")[0] for name in names}, file


async def test_an_archive_tells_what_is_not_kept_any_more(
    api: Api, artifacts: ArtifactStore
) -> None:
    outcome = await mixed(api, artifacts)
    await artifacts.delete_all(outcome.scope)
    answer = await outcome.client.get(f"{outcome.execution}/results?format=download")
    archive, manifest = read(answer.content)
    assert len(archive.namelist()) == 2
    missing = [file.get("missing", False) for file in manifest["files"]]
    assert missing == [False, *[True] * (len(missing) - 1)]
    assert answer.headers["content-disposition"].startswith('attachment; filename="N-')
    known = await outcome.client.get(
        f"{outcome.execution}/results?format=download",
        headers={"If-None-Match": answer.headers["etag"]},
    )
    assert (known.status_code, known.content) == (304, b"")
    head = await outcome.client.head(f"{outcome.execution}/results?format=download")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("depth", [150, 900, 5000])
async def test_json_that_is_nested_deeply_is_kept_as_text(
    api: Api, artifacts: ArtifactStore, depth: int
) -> None:
    deep = b"[" * depth + b"]" * depth
    outcome = await ended(api, artifacts, [[Shown([("application/json", deep), TEXT])]])
    answer = await outcome.client.get(f"{outcome.execution}/results?format=download")
    archive, manifest = read(answer.content)
    assert manifest["files"][0]["kind"] == "notebook"
    notebook = json.loads(archive.read(manifest["files"][0]["path"]))
    assert notebook["cells"][0]["outputs"][0]["data"]["application/json"] == deep.decode()
    path = f"{outcome.notebook}/download?executionId={outcome.execution.split('/')[-1]}"
    assert (await outcome.client.get(path)).status_code == 200


async def test_results_that_were_read_before_are_as_fresh_as_others(
    api: Api, artifacts: ArtifactStore
) -> None:
    outcome = await ended(api, artifacts, [[Shown([TEXT])] * 3])
    first = await outcome.results()
    second = await outcome.results()
    names = ("executionId", "status", "cells", "totalCount", "metrics")
    assert [first[name] for name in names] == [second[name] for name in names]
    # Neither another notebook's address nor another tenant's token gets at it, nor anybody
    # once it is deleted.
    other = await ended(api, artifacts, [[]])
    execution_id = outcome.execution.split("/")[-1]
    stranger = await api.client(tenant_id=uuid4(), base="")
    for client, path in (
        (outcome.client, f"{other.notebook}/execution/{execution_id}/results"),
        (stranger, f"{api.base}{outcome.execution}/results"),
    ):
        assert (await client.get(path)).status_code == 404
    assert (await outcome.client.delete(outcome.notebook)).status_code == 204
    assert (await outcome.client.get(f"{outcome.execution}/results")).status_code == 404
