"""Executions, their results and downloads over HTTP; a stand-in records what a worker would."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from datetime import UTC, datetime
from uuid import UUID

import httpx
import nbformat
import pytest
from support.api import Api, new_notebook, unknown_id
from support.runs import run
from support.shared_api import ServerThread, api, api_server

from nbledger_application import repository
from nbledger_application.reactions import deletions
from nbledger_domain.execution import Execution, Resources, TerminationCode
from nbledger_domain.vocabulary.media_types import WIDGET_STATE
from nbledger_http.description import execution_examples
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope, open_store
from nbledger_infrastructure.postgres.event_store import Metadata

__all__ = ["api", "api_server"]

PNG = b"\x89PNG\r\n\x1a\n"
OUTPUTS = {
    "cell-001": [
        ("stream", [("text/plain", b"hello")]),
        ("display_data", [("text/html", b"<table class='dataframe'>"), ("text/plain", b"t")]),
    ],
    "cell-002": [("display_data", [("image/png", PNG), ("text/plain", b"<Figure>")])],
    "cell-003": [("execute_result", [("application/json", b'{"a": [1.50]}')])],
}


@pytest.fixture
def artifacts(api_server: ServerThread) -> ArtifactStore:
    return ArtifactStore(open_store(api_server.settings.artifacts.url))


async def started(client: httpx.AsyncClient, *sources: str) -> tuple[str, str]:
    """Paths of a notebook and of an execution of it."""
    notebook = await new_notebook(client, *sources)
    path = f"/notebook/{notebook['notebookId']}"
    answer = await client.post(f"{path}/execute")
    assert answer.status_code == 202, answer.text
    return path, f"{path}/execution/{answer.json()['executionId']}"


async def finish(
    api: Api,
    artifacts: ArtifactStore,
    execution: str,
    *,
    end: bool = True,
    widgets: bytes | None = None,
) -> None:
    notebook_id, execution_id = (
        UUID(execution.split("/")[2]),
        UUID(execution[-36:]),
    )
    scope = Scope(api.tenant_id, api.project_id, notebook_id)
    await run(api.store, artifacts, scope, execution_id, OUTPUTS, end=end, widgets=widgets)


async def test_execute_with_an_empty_body_and_with_that_of_the_contract(api: Api) -> None:
    client = await api.client()
    notebook = await new_notebook(client, *["x"] * 10)
    path = f"/notebook/{notebook['notebookId']}"
    first = await client.post(f"{path}/execute")
    assert first.status_code == 202
    body = first.json()
    assert (body["status"], body["phase"]) == ("Running", "Queued")
    assert body["progress"]["totalCells"] == 10
    assert "no live worker" in body["warnings"][0]
    assert first.headers["location"] == f"{api.base}{path}/execution/{body['executionId']}"
    second = (await client.post(f"{path}/execute", json=execution_examples.EXECUTE_NOTEBOOK)).json()
    assert second["parameters"] == execution_examples.EXECUTE_NOTEBOOK["parameters"]
    assert second["timeout"] == 1800
    body = {"cellRange": {"startCell": "cell-004", "endCell": "cell-005"}}
    third = (await client.post(f"{path}/execute", json=body)).json()
    assert [cell["cellId"] for cell in third["cellResults"]] == ["cell-004", "cell-005"]
    assert (await client.get(path)).json()["status"] == "Running"


async def test_every_fault_of_an_execute_is_told(api: Api) -> None:
    client = await api.client()
    path = f"/notebook/{(await new_notebook(client, 'x'))['notebookId']}/execute"
    body = {
        "executionMode": "some",
        "parameters": {"a b": 1, "ok": 2, "class": 3},
        "timeout": -1,
        "cellTimeout": 1e9,
        "priority": "Urgent",
        "continueOnError": "yes",
        "outputOptions": {"captureOutputs": 1},
    }
    answer = await client.post(path, json=body)
    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == {
        "/executionMode",
        "/parameters/a b",
        "/parameters/class",
        "/timeout",
        "/cellTimeout",
        "/priority",
        "/continueOnError",
        "/outputOptions/captureOutputs",
    }
    for wrong in ('{"executionMode": "range"}', '{"cellRange": {"startCell": "cell-009"}}'):
        assert (await client.post(path, json=json.loads(wrong))).status_code == 422
    empty = await new_notebook(client)
    answer = await client.post(f"/notebook/{empty['notebookId']}/execute")
    assert answer.status_code == 409
    assert answer.json()["code"] == "nothing_to_execute"


async def test_status_list_and_cancel(api: Api) -> None:
    client = await api.client()
    notebook, execution = await started(client, "x")
    status = await client.get(execution)
    assert status.status_code == 200
    again = await client.get(execution, headers={"If-None-Match": status.headers["etag"]})
    assert again.status_code == 304
    cancelled = await client.post(f"{execution}/cancel")
    assert cancelled.status_code == 202
    assert cancelled.json()["status"] == "Cancelled"
    late = await client.post(f"{execution}/cancel")
    assert late.status_code == 409
    assert late.json()["code"] == "execution_ended"
    listed = await client.get(f"{notebook}/executions?page=1&pageSize=3")
    assert listed.status_code == 200
    assert listed.json()["page"] == 1
    assert (await client.get(f"{notebook}/executions?page=x")).status_code == 422
    other = await new_notebook(client, "x")
    for path in (
        f"{notebook}/execution/{unknown_id()}",
        f"/notebook/{other['notebookId']}/execution/{execution.split('/')[-1]}",
        f"{notebook}/execution/{notebook.split('/')[-1]}",
    ):
        for method, end in (
            ("GET", ""),
            ("POST", "/cancel"),
            ("GET", "/results"),
            ("GET", "/history"),
        ):
            answer = await client.request(method, path + end)
            assert answer.status_code == 404, (method, path, end)
            assert answer.json()["code"] == "execution_not_found"


async def test_results_follow_the_contract(api: Api, artifacts: ArtifactStore) -> None:
    client = await api.client()
    _, execution = await started(client, "a", "b", "c")
    empty = (await client.get(f"{execution}/results")).json()
    assert (empty["status"], empty["outputs"]) == ("Running", [])
    await finish(api, artifacts, execution)
    results = (await client.get(f"{execution}/results?format=detailed")).json()
    told = [
        (o["cellId"], o["outputType"], o["contentType"], o.get("content"))
        for o in results["outputs"]
    ]
    assert told == [
        ("cell-001", "stream", "text/plain", "hello"),
        ("cell-001", "display_data", "text/html", "<table class='dataframe'>"),
        ("cell-002", "image/png", "image/png", None),
        ("cell-003", "application/json", "application/json", {"a": [1.5]}),
    ]
    assert results["outputs"][2]["dimensions"] == {"width": 8, "height": 6}
    assert results["enrichedDatasets"][0]["newColumns"] == ["a"]
    assert results["reports"][0]["format"] == "html"
    summary = (await client.get(f"{execution}/results")).json()
    assert all("content" not in output for output in summary["outputs"])


async def test_results_are_filtered(api: Api, artifacts: ArtifactStore) -> None:
    client = await api.client()
    _, execution = await started(client, "a", "b", "c")
    await finish(api, artifacts, execution)

    async def found(query: str) -> tuple[list[str], int, int]:
        body = (await client.get(f"{execution}/results?{query}")).json()
        cells = [output["cellId"] for output in body["outputs"]]
        return cells, len(body["enrichedDatasets"]), len(body["reports"])

    assert await found("outputType=plots") == (["cell-002"], 0, 0)
    assert await found("outputType=data") == (["cell-003"], 1, 0)
    assert await found("outputType=reports") == ([], 0, 1)
    assert await found("outputType=models") == ([], 0, 0)
    assert await found("cellId=cell-002&outputType=all&format=detailed") == (["cell-002"], 0, 0)
    unknown = await client.get(f"{execution}/results?cellId=cell-099")
    assert unknown.status_code == 404
    assert unknown.json()["code"] == "cell_not_found"
    wrong = await client.get(f"{execution}/results?outputType=x&format=y")
    assert len(wrong.json()["errors"]) == 2


async def test_links_work_without_a_token_until_altered(api: Api, artifacts: ArtifactStore) -> None:
    client, anybody = await api.client(), api.anonymous()
    _, execution = await started(client, "a", "b", "c")
    await finish(api, artifacts, execution)
    results = (await client.get(f"{execution}/results")).json()
    url = results["outputs"][1]["downloadUrl"]
    assert url.startswith(api.url)
    page = await anybody.get(url)
    assert page.status_code == 200
    assert page.content == b"<table class='dataframe'>"
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in page.headers["content-security-policy"]
    assert page.headers["content-disposition"].startswith("attachment")
    data = await anybody.get(results["enrichedDatasets"][0]["downloadUrl"])
    assert data.headers["content-disposition"] == 'attachment; filename="enriched.csv"'
    for altered in (
        url.replace("text%2Fhtml", "text%2Fplain"),
        url.replace("expires=", "expires=9"),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        url.split("?")[0],
        url.replace(str(api.project_id), str(api.tenant_id)),
    ):
        assert altered != url
        answer = await anybody.get(altered)
        assert answer.status_code == 403, altered
        assert answer.json()["code"] == "link_invalid"
    await artifacts.delete_all(Scope(api.tenant_id, api.project_id, UUID(execution.split("/")[2])))
    assert (await anybody.get(url)).status_code == 404


async def test_the_archive_and_the_executed_notebook(api: Api, artifacts: ArtifactStore) -> None:
    client = await api.client()
    notebook, execution = await started(client, "a", "b", "c")
    model = {"model_name": "M", "model_module": "m", "model_module_version": "1", "state": {}}
    shown = {"state": {"id": model}, "version_major": 2, "version_minor": 0}
    await finish(api, artifacts, execution, widgets=json.dumps(shown).encode())
    # The run was of the cells as they were.
    await client.put(notebook, json={"cells": []})
    answer = await client.get(f"{execution}/results?format=download")
    assert answer.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    names = archive.namelist()
    assert {"datasets/enriched.csv", "reports/report.html", "manifest.json"} <= set(names)
    assert sum(name.endswith(".png") for name in names) == 1
    (ipynb,) = [name for name in names if name.endswith(".ipynb")]
    executed = json.loads(archive.read(ipynb))
    nbformat.validate(executed)
    assert [cell["source"] for cell in executed["cells"]] == [["a"], ["b"], ["c"]]
    assert executed["cells"][1]["outputs"][0]["data"]["image/png"] == "iVBORw0KGgo="
    assert executed["metadata"]["widgets"] == {WIDGET_STATE: shown}
    same = await client.get(f"{notebook}/download?executionId={execution.split('/')[-1]}")
    assert same.json() == executed
    wrong = await client.get(f"{notebook}/download?executionId=nonsense")
    assert wrong.status_code == 404


async def test_the_executed_notebook_shows_its_parameters(api: Api) -> None:
    client = await api.client()
    cells = [
        {"cellType": "code", "content": "year = 2023", "tags": ["parameters"]},
        {"cellType": "code", "content": "print(year)"},
    ]
    created = await client.post("/notebook", json={"notebookName": "n", "initialCells": cells})
    notebook = f"/notebook/{created.json()['notebookId']}"
    run = await client.post(f"{notebook}/execute", json={"parameters": {"year": 2024}})
    answer = await client.get(f"{notebook}/download?executionId={run.json()['executionId']}")
    executed = answer.json()
    nbformat.validate(executed)
    assert [cell["metadata"].get("tags") for cell in executed["cells"]] == [
        ["parameters"],
        ["injected-parameters"],
        None,
    ]
    assert "year = 2024" in "".join(executed["cells"][1]["source"])


async def test_history_of_an_execution(api: Api, artifacts: ArtifactStore) -> None:
    client = await api.client()
    notebook, execution = await started(client, "a")
    await finish(api, artifacts, execution)
    events = (await client.get(f"{execution}/history")).json()["events"]
    assert events[0]["type"] == "execution.requested.v1"
    assert events[-1]["type"] == "execution.completed.v1"
    assert [event["version"] for event in events] == list(range(1, len(events) + 1))
    everything = (await client.get(f"{notebook}/history?executions=true")).json()["events"]
    assert len(everything) == len(events) + 1


async def test_delete_waits_for_executions_only_by_force(api: Api) -> None:
    client = await api.client()
    notebook, execution = await started(client, "a")
    refused = await client.delete(notebook)
    assert refused.status_code == 409
    assert refused.json()["code"] == "notebook_executing"
    assert (await client.delete(f"{notebook}?force=maybe")).status_code == 422
    # What waits for a worker ends at once, and the notebook with it.
    assert (await client.delete(f"{notebook}?force=true")).status_code == 204
    for path in (notebook, execution, f"{execution}/results", f"{notebook}/executions"):
        assert (await client.get(path)).status_code == 404, path


async def test_a_forced_deletion_ends_with_the_last_execution(
    api: Api, artifacts: ArtifactStore
) -> None:
    client = await api.client()
    notebook, execution = await started(client, "a")
    await finish(api, artifacts, execution, end=False)
    answer = await client.delete(f"{notebook}?force=true")
    assert answer.status_code == 202
    assert answer.json()["status"] == "Deleting"
    for path in (notebook, execution, f"{execution}/results"):
        assert (await client.get(path)).status_code == 404, path
    assert (await client.delete(f"{notebook}?force=true")).status_code == 404
    execution_id = UUID(execution.split("/")[-1])
    loaded = await aggregates.load(api.store, Execution, execution_id)
    assert loaded is not None
    assert loaded.aggregate.cancel_reason is TerminationCode.NOTEBOOK_DELETED
    loaded.aggregate.cancel(1, resources=Resources(), at=datetime.now(UTC))
    await repository.save(api.store, loaded.aggregate, loaded.stream, Metadata(actor="w"))
    head = await api.store.head_position()
    events = await api.store.read_all(after_position=0, limit=1000)
    # Repeating all of it changes nothing more.
    for _ in range(2):
        await deletions.react(api.store, api.pool, events)
    assert await api.store.head_position() == head + 1
    history = (await client.get(f"{notebook}/history")).json()["events"]
    assert history[-1]["type"] == "notebook.deleted.v1"


async def test_an_execution_that_slipped_in_after_a_deletion_is_ended(api: Api) -> None:
    client = await api.client()
    notebook, execution = await started(client, "a")
    execution_id, notebook_id = UUID(execution.split("/")[-1]), UUID(notebook.split("/")[-1])
    requested = await aggregates.load(api.store, Execution, execution_id)
    assert requested is not None
    assert (await client.delete(f"{notebook}?force=true")).status_code == 204
    first = (await api.store.read_stream(execution_id))[0]
    late = aggregates.replay(Execution, [first])
    assert late is not None
    late_id = UUID(unknown_id())
    slipped = Execution.request(
        late_id,
        notebook_id=notebook_id,
        notebook_version="1.0.0",
        notebook_stream_version=1,
        kernel_type="python3",
        cells=late.cells,
        parameters={},
        options=late.options,
        requested_by="x",
        at=datetime.now(UTC),
    )
    stream = type(requested.stream)(late_id, notebook_id, api.tenant_id, api.project_id)
    await repository.save(api.store, slipped, stream, Metadata(actor="x"))
    await deletions.react(api.store, api.pool, await api.store.read_stream(late_id))
    ended = await aggregates.load(api.store, Execution, late_id)
    assert ended is not None
    assert ended.aggregate.ended


async def test_deletions_and_executions_race_to_one_of_two_ends(api: Api) -> None:
    client = await api.client()
    for _ in range(5):
        notebook = f"/notebook/{(await new_notebook(client, 'a'))['notebookId']}"
        executed, deleted = await asyncio.gather(
            client.post(f"{notebook}/execute"), client.delete(notebook)
        )
        assert (executed.status_code, deleted.status_code) in {(202, 409), (404, 204)}
