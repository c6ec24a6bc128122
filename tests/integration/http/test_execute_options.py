"""What can be asked for with an execute, and when it is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.api import Api, new_notebook, running_api, settings_for
from support.shared_api import api, api_server

from nbledger_infrastructure import settings
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.worker_registry import WorkerOffer

__all__ = ["api", "api_server"]


async def test_a_kernel_type_that_nobody_offers_is_refused(
    database_dsn: str, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(
        settings_for(database_dsn, tmp_path), execution=settings.Executions()
    )
    async with running_api(config) as api:
        client = await api.client()
        notebook = await new_notebook(client, "x")
        path = f"/notebook/{notebook['notebookId']}/execute"
        refused = await client.post(path)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        problem = refused.json()
        assert (problem["code"], problem["offered"]) == ("kernel_unavailable", [])
        assert "python3" in problem["detail"]
        # What is wrong with the request is told all the same.
        assert (await client.post(path, json={"timeout": -1})).status_code == 422

        offer = WorkerOffer("python3", "python3", "python", "3.11.7")
        await worker_registry.heartbeat(api.pool, "w1", [offer], capacity=1)
        taken = await client.post(path)
        assert taken.status_code == 202
        assert taken.json()["warnings"] == []

        in_r = await new_notebook(client, "1", kernelType="r")
        assert any("no live worker offers 'r'" in each for each in in_r["warnings"])
        other = await client.post(f"/notebook/{in_r['notebookId']}/execute")
        assert other.status_code == 503
        assert other.json()["offered"] == ["python3"]

        await worker_registry.remove(api.pool, "w1")
        assert (await client.post(path)).status_code == 503
        listed = (await client.get(f"{path.removesuffix('/execute')}/executions")).json()
        assert listed["totalCount"] <= 1, "what is refused leaves nothing behind"


async def test_options_are_kept_and_told(api: Api) -> None:
    client = await api.client()
    notebook = await new_notebook(client, "a", "b", "c")
    path = f"/notebook/{notebook['notebookId']}/execute"
    body = {
        "priority": "High",
        "timeout": 60,
        "cellTimeout": 1.5,
        "continueOnError": True,
        "retryPolicy": {"maxAttempts": 5, "retryOn": ["cell_error", "worker_lost"]},
    }
    answer = (await client.post(path, json=body)).json()
    assert {name: answer[name] for name in body} == body
    assert answer["attemptHistory"] == []
    plain = (await client.post(path)).json()
    assert "retryPolicy" not in plain
    assert plain["continueOnError"] is False
    default = (await client.post(path, json={"retryPolicy": {}})).json()["retryPolicy"]
    assert default == {"maxAttempts": 3, "retryOn": ["worker_lost", "kernel_died"]}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"retryPolicy": {"maxAttempts": 0}}, "/retryPolicy/maxAttempts"),
        ({"retryPolicy": {"maxAttempts": 11}}, "/retryPolicy/maxAttempts"),
        ({"retryPolicy": {"retryOn": ["weather"]}}, "/retryPolicy/retryOn/0"),
        ({"retryPolicy": {"often": 1}}, "/retryPolicy/often"),
        ({"retryPolicy": 3}, "/retryPolicy"),
        ({"cellrange": {"startCell": "cell-002"}}, "/cellrange"),
        ({"cellRange": {"start": "cell-002"}}, "/cellRange/start"),
        ({"outputOptions": {"capture": False}}, "/outputOptions/capture"),
        ({"executionMode": "range"}, "/cellRange"),
        ({"cellRange": {"startCell": "cell-009"}}, "/cellRange/startCell"),
        ({"cellRange": {"endCell": "cell-009"}}, "/cellRange/endCell"),
        (
            {"cellRange": {"startCell": "cell-003", "endCell": "cell-002"}},
            "/cellRange/endCell",
        ),
        ({"parameters": {"x = 1; import os": 1}}, "/parameters/x = 1; import os"),
        ({"timeout": 1e9}, "/timeout"),
        ({"timeout": 0.9}, "/timeout"),
        ({"cellTimeout": 0.5}, "/cellTimeout"),
    ],
)
async def test_what_cannot_be_run_is_refused(api: Api, body: object, pointer: str) -> None:
    client = await api.client()
    notebook = await new_notebook(client, "a", "b", "c")
    answer = await client.post(f"/notebook/{notebook['notebookId']}/execute", json=body)
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_every_fault_of_an_execute_is_told_with_what_was_meant(api: Api) -> None:
    client = await api.client()
    notebook = await new_notebook(client, "a")
    body = {
        "cell_range": {"startCell": "cell-001"},
        "timeout": 0.5,
        "retryPolicy": {
            "maxAttempts": 99,
            "retryOn": ["weather", "worker_lost", 7],
            "retryon": ["kernel_died"],
        },
        "outputOptions": {"generateReports": True},
        "zzz": True,
    }
    answer = await client.post(f"/notebook/{notebook['notebookId']}/execute", json=body)
    assert answer.status_code == 422, answer.text
    told = {error["pointer"]: error["reason"] for error in answer.json()["errors"]}
    reasons = "worker_lost, kernel_died, cell_error, run_timeout, cell_timeout"
    assert told == {
        "/cell_range": "is an unknown member; did you mean cellRange?",
        "/timeout": "must be at least 1 second",
        "/retryPolicy/maxAttempts": "must be a whole number from 1 to 10",
        "/retryPolicy/retryOn/0": f"must be one of {reasons}",
        "/retryPolicy/retryOn/2": f"must be one of {reasons}",
        "/retryPolicy/retryon": "is an unknown member; did you mean retryOn?",
        "/outputOptions/generateReports": "is an unknown member; did you mean generateReport?",
        "/zzz": (
            "is an unknown member; there are executionMode, cellRange, parameters,"
            " strictParameters, outputOptions, timeout, cellTimeout, priority, continueOnError,"
            " retryPolicy, tags, dryRun"
        ),
    }
    listed = await client.get(f"/notebook/{notebook['notebookId']}/executions")
    assert listed.json()["totalCount"] == 0, "what is refused leaves nothing behind"


async def test_unknown_members_of_a_notebook_are_warned_of_at_every_level(api: Api) -> None:
    client = await api.client()
    extra = {
        "integration": {"enrichmentmode": True},
        "environment": {"package": ["pandas"]},
        "color": "red",
    }
    cell = {"cellType": "code", "content": "1", "tag": ["x"]}
    everywhere = [
        "/integration/enrichmentmode: unknown member, ignored; did you mean enrichmentMode?",
        "/environment/package: unknown member, ignored; did you mean packages?",
        "/color: unknown member, ignored",
    ]
    body = {"notebookName": "n", "initialCells": [cell], **extra}
    made = (await client.post("/notebook", json=body)).json()
    in_cell = "unknown member, ignored; did you mean tags?"
    assert set(made["warnings"]) >= {*everywhere, f"/initialCells/0/tag: {in_cell}"}
    path = f"/notebook/{made['notebookId']}"
    changed = await client.put(path, json={"cells": [cell], **extra})
    assert set(changed.json()["warnings"]) == {*everywhere, f"/cells/0/tag: {in_cell}"}
    # What was read may be sent back.
    again = await client.put(path, json=(await client.get(path)).json())
    assert again.json()["warnings"] == []


async def test_a_range_is_inclusive_and_may_be_open(api: Api) -> None:
    client = await api.client()
    notebook = await new_notebook(client, "a", "b", "c")
    path = f"/notebook/{notebook['notebookId']}/execute"
    for cell_range, cells in (
        ({"startCell": "cell-002", "endCell": "cell-002"}, ["cell-002"]),
        ({"startCell": "cell-002"}, ["cell-002", "cell-003"]),
        ({"endCell": "cell-002"}, ["cell-001", "cell-002"]),
        ({}, ["cell-001", "cell-002", "cell-003"]),
    ):
        body = {"executionMode": "range", "cellRange": cell_range}
        answer = (await client.post(path, json=body)).json()
        assert [cell["cellId"] for cell in answer["cellResults"]] == cells
    whole = {"executionMode": "all", "cellRange": {"startCell": "cell-002"}}
    answer = (await client.post(path, json=whole)).json()
    assert len(answer["cellResults"]) == 3
    assert any("/cellRange" in each for each in answer["warnings"])
