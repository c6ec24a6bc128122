"""Reruns and repairs over HTTP; a stand-in records what a worker would."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from support.api import Api, new_notebook, running_api, settings_for, unknown_id
from support.read_models import catch_up
from support.repetitions import end
from support.shared_api import api, api_server

from nbledger_application import repository
from nbledger_domain.execution import Cause, Execution, PlannedCell, RunOptions
from nbledger_infrastructure import aggregates, clock, settings
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.event_store import Metadata, Stream
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_infrastructure.postgres.worker_registry import WorkerOffer
from nbledger_projections.read_models.executions import status as execution_status

__all__ = ["api", "api_server"]

CELLS = [
    {"cellType": "code", "content": "n: int = 1\nlog = ''", "tags": ["parameters"]},
    {"cellType": "code", "content": "n / 0"},
]
TABLE = b"case_id,hours\na,1\n"


class Scene:
    """A notebook, and a client that executes it."""

    def __init__(self, api: Api, client: httpx.AsyncClient, notebook: dict[str, Any]) -> None:
        self.api, self.client = api, client
        self.path = f"/notebook/{notebook['notebookId']}"

    async def execute(self, **body: Any) -> str:
        answer = await self.client.post(f"{self.path}/execute", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["executionId"])

    async def post(self, run: str, what: str, **body: Any) -> httpx.Response:
        return await self.client.post(f"{self.path}/execution/{run}/{what}", json=body)

    async def again(self, run: str, what: str = "rerun", **body: Any) -> dict[str, Any]:
        answer = await self.post(run, what, **body)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def refused(self, run: str, what: str, **body: Any) -> tuple[int, str]:
        answer = await self.post(run, what, **body)
        return answer.status_code, answer.json()["code"]

    async def get(self, run: str, what: str = "", **query: str) -> dict[str, Any]:
        answer = await self.client.get(f"{self.path}/execution/{run}{what}", params=query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def failed(self, **body: Any) -> str:
        run = await self.execute(**body)
        await end(self.api.store, UUID(run), failing="cell-002")
        return run


async def scene_of(api: Api, **members: Any) -> Scene:
    client = await api.client()
    return Scene(api, client, await new_notebook(client, initialCells=CELLS, **members))


async def new_dataset(client: httpx.AsyncClient) -> str:
    file = {"file": ("log.csv", TABLE, "text/csv")}
    answer = await client.post("/dataset/csv", files=file)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["datasetId"])


async def new_version(client: httpx.AsyncClient, dataset: str) -> None:
    file = {"file": ("log.csv", TABLE + b"b,2\n", "text/csv")}
    answer = await client.put(f"/dataset/{dataset}/csv", files=file)
    assert answer.status_code == 200, answer.text


async def test_only_what_has_ended_and_failed_is_repaired(api: Api) -> None:
    scene = await scene_of(api)
    run = await scene.execute()
    for what in ("rerun", "repair"):
        assert await scene.refused(run, what) == (409, "execution_running")
    await end(api.store, UUID(run))
    assert await scene.refused(run, "repair") == (409, "nothing_to_repair")
    assert (await scene.again(run))["cause"] == {"kind": "rerun", "executionId": run}
    # A run whose errors were passed over has completed, and has a cell to repair.
    passed = await scene.failed(continueOnError=True)
    assert (await scene.get(passed))["status"] == "Completed"
    made = await scene.again(passed, "repair")
    assert (made["cause"], made["continueOnError"]) == (
        {"kind": "repair", "executionId": passed},
        True,
    )
    waiting = await scene.execute()
    await scene.client.post(f"{scene.path}/execution/{waiting}/cancel")
    assert (await scene.again(waiting, "repair"))["status"] == "Running"


async def test_links_chain_and_etag_follow_at_once(api: Api) -> None:
    scene = await scene_of(api)
    run = await scene.failed(tags=["x"])
    address = f"{scene.path}/execution/{run}"
    before = await scene.client.get(address)
    repair = await scene.again(run, "repair", parameters={"n": 2})
    assert repair["tags"] == ["x"]
    after = await scene.client.get(address, headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    link = {"executionId": repair["executionId"], "kind": "repair"}
    assert after.json()["repetitions"] == [link]
    # Nothing has happened to the run itself, whose time is told.
    modified = {"If-Modified-Since": before.headers["last-modified"]}
    assert (await scene.client.get(address, headers=modified)).status_code == 200
    again = await scene.client.get(address, headers={"If-None-Match": after.headers["etag"]})
    assert again.status_code == 304
    chain = await scene.get(repair["executionId"], "/chain")
    assert chain == await scene.get(run, "/chain")
    assert [each["executionId"] for each in chain["executions"]] == [run, repair["executionId"]]
    assert [each["cause"]["kind"] for each in chain["executions"]] == ["request", "repair"]
    assert chain["executions"][0]["repetitions"] == [link]
    assert chain["executions"][0]["attemptHistory"][0]["outcome"] == "cell_error"
    told = await scene.get(repair["executionId"], "/changes", against=run)
    assert told["changes"]["differs"] == ["parameters"]
    assert told["changes"]["parameters"]["added"] == {"n": 2}
    await catch_up(api.pool, execution_status.NAME)
    listed = (await scene.client.get(f"{scene.path}/executions")).json()["executions"]
    assert [each["cause"]["kind"] for each in listed] == ["repair", "request"]
    assert await scene.get(run, "/chain") == chain


async def test_what_is_left_out_is_as_it_was(api: Api) -> None:
    scene = await scene_of(api)
    options = {
        "timeout": 100,
        "cellTimeout": 10,
        "priority": "High",
        "retryPolicy": {"maxAttempts": 2},
        "continueOnError": True,
        "outputOptions": {"generateReport": True},
    }
    run = await scene.failed(parameters={"n": 3, "log": "a"}, tags=["a", "b"], **options)
    same = await scene.again(run)
    first = await scene.get(run)
    for name in ("parameters", "tags", "timeout", "cellTimeout", "priority", "retryPolicy"):
        assert same[name] == first[name]
    body: dict[str, Any] = {
        "parameters": {"log": "b"},
        "cellTimeout": None,
        "retryPolicy": None,
        "timeout": None,
        "priority": "Low",
        "tags": [" c ", "c"],
    }
    merged = await scene.again(run, **body)
    assert merged["parameters"] == {"n": 3, "log": "b"}
    assert (merged["timeout"], merged["priority"], merged["tags"]) == (1800, "Low", ["c"])
    assert not {"cellTimeout", "retryPolicy"} & merged.keys()
    replaced = await scene.again(run, parameterMode="replace", **{**body, "tags": None})
    assert replaced["parameters"] == {"log": "b"}
    assert "tags" not in replaced
    loaded = await aggregates.load(api.store, Execution, UUID(replaced["executionId"]))
    assert loaded is not None
    assert loaded.aggregate.options.output_options.generate_report
    assert loaded.aggregate.options.continue_on_error


async def test_every_fault_is_told_and_a_dry_run_records_nothing(api: Api) -> None:
    scene = await scene_of(api)
    run = await scene.failed()
    wrong = await scene.post(
        run,
        "rerun",
        version="old",
        cellRange={"startCell": "cell-002"},
        timeout=0,
        parameters={"a b": 1},
        priority="Urgent",
    )
    assert wrong.status_code == 422
    assert {error["pointer"] for error in wrong.json()["errors"]} == {
        "/version",
        "/cellRange",
        "/timeout",
        "/parameters/a b",
        "/priority",
    }
    # Only a repair may begin in the middle.
    assert (await scene.post(run, "rerun", cells="fromFailed")).status_code == 422
    strict = {"parameters": {"n": "x"}, "strictParameters": True}
    refused = await scene.post(run, "repair", **strict)
    assert refused.json()["errors"][0]["pointer"] == "/parameters/n"
    dry = await scene.post(run, "repair", dryRun=True, cells="fromFailed", parameters={"n": "x"})
    assert dry.status_code == 200
    plan = dry.json()
    assert plan["cause"] == {"kind": "repair", "executionId": run}
    assert [each["cellId"] for each in plan["cells"]] == ["cell-002"]
    assert [each.split(":")[0] for each in plan["warnings"][:2]] == ["/cells", "/parameters/n"]
    assert "repetitions" not in await scene.get(run)
    assert (
        await scene.client.get(f"{scene.path}/execution/{run}/changes?against=x")
    ).status_code == 404


async def test_a_repetition_with_a_key_is_made_once(api: Api) -> None:
    scene = await scene_of(api)
    run = await scene.failed()
    key = {"Idempotency-Key": f'"{uuid4()}"'}
    address = f"{scene.path}/execution/{run}/repair"
    answers = await asyncio.gather(
        *(
            scene.client.post(address, json={"parameters": {"n": "x"}}, headers=key)
            for _ in range(4)
        )
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["executionId"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 3
    assert len({str(answer.json()["warnings"]) for answer in answers}) == 1
    assert len((await scene.get(run))["repetitions"]) == 1
    body = {"version": "newest", "parameters": {"n": "x"}, "cells": "all"}
    defaults = await scene.client.post(address, json=body, headers=key)
    assert defaults.headers["idempotency-replayed"] == "true"
    other = await scene.client.post(address, json={}, headers=key)
    assert other.json()["code"] == "idempotency_key_reused"
    # Another operation, and another execution, have keys of their own.
    rerun = await scene.client.post(f"{scene.path}/execution/{run}/rerun", headers=key)
    assert rerun.status_code == 202
    elsewhere = await scene.client.post(
        f"{scene.path}/execution/{await scene.failed()}/repair",
        json={"parameters": {"n": "x"}},
        headers=key,
    )
    assert elsewhere.json()["code"] == "idempotency_key_reused"


async def pinned(api: Api, made: dict[str, Any]) -> dict[str, int]:
    loaded = await aggregates.load(api.store, Execution, UUID(made["executionId"]))
    assert loaded is not None
    return {str(key): version for key, version in loaded.aggregate.pinned.items()}


@pytest.mark.guarantee("G35")
async def test_the_same_datasets_are_the_same_versions(api: Api) -> None:
    client = await api.client()
    log, extra = await new_dataset(client), await new_dataset(client)
    scene = await scene_of(api, integration={"datasetBinding": log})
    run = await scene.execute()
    await end(api.store, UUID(run), failing="cell-002", datasets={UUID(log): 1})
    await new_version(client, log)
    assert await pinned(api, await scene.again(run)) == {log: 1}
    assert await pinned(api, await scene.again(run, "repair")) == {}
    # What only the new run names comes as it is now.
    named = await scene.again(run, parameters={"log": extra})
    assert await pinned(api, named) == {log: 1}
    assert not [each for each in named["warnings"] if each.startswith("/datasets")]
    dry = (await scene.post(run, "rerun", dryRun=True)).json()
    assert dry["datasets"] == [{"datasetId": log, "version": 1}]

    # A run of before that was recorded: it follows from when the cells started.
    older = await scene.failed()
    await new_version(client, log)
    assert await pinned(api, await scene.again(older)) == {log: 2}
    told = await scene.get(older, "/changes", against=run)
    assert told["changes"]["datasets"] == [
        {"datasetId": log, "before": 1, "after": 2, "changed": True}
    ]
    # A version that came just as it began may or may not be the one.
    unclear = UUID(await scene.execute())
    loaded = await aggregates.load(api.store, Execution, unclear)
    assert loaded is not None
    by = Metadata(actor="worker:w1")
    epoch = loaded.aggregate.claim("w1", at=clock.now())
    await repository.save(api.store, loaded.aggregate, loaded.stream, by)
    await new_version(client, log)
    loaded = await aggregates.load(api.store, Execution, unclear)
    assert loaded is not None
    loaded.aggregate.start(epoch, language="python", language_version="3", at=clock.now())
    loaded.aggregate.start_cell(epoch, "cell-001", at=clock.now())
    loaded.aggregate.lose_attempt(epoch, "gone", at=clock.now())
    await repository.save(api.store, loaded.aggregate, loaded.stream, by)
    refused = await scene.post(str(unclear), "rerun")
    assert (refused.status_code, refused.json()["code"]) == (409, "inputs_unavailable")
    assert "is not recorded" in refused.json()["detail"]
    told = await scene.get(str(unclear), "/changes", against=run)
    assert "datasets" in told["changes"]["unknown"]
    assert (await scene.again(str(unclear), datasets="newest"))["warnings"]

    # One that came to nothing was given nothing; one that is to be given a version passes it on.
    waiting = await scene.execute()
    await client.post(f"{scene.path}/execution/{waiting}/cancel")
    made = await scene.again(waiting)
    assert await pinned(api, made) == {}
    assert any(each.startswith("/datasets: the run before ended") for each in made["warnings"])
    of_first = (await scene.again(run))["executionId"]
    await client.post(f"{scene.path}/execution/{of_first}/cancel")
    assert await pinned(api, await scene.again(of_first)) == {log: 1}
    assert (await client.delete(f"/dataset/{log}")).status_code in (200, 204)
    assert await scene.refused(run, "rerun") == (409, "inputs_unavailable")
    assert (await scene.again(run, datasets="newest"))["status"] == "Running"


async def test_a_run_of_a_schedule_and_of_other_limits_is_repeated(api: Api) -> None:
    scene = await scene_of(api)
    notebook_id = UUID(scene.path.rpartition("/")[2])
    cause = Cause(
        kind="schedule",
        schedule_id=uuid4(),
        firing_id=uuid4(),
        due_at=clock.now(),
        trigger="due",
    )
    execution = Execution.request(
        uuid4(),
        notebook_id=notebook_id,
        notebook_version="1.0.0",
        notebook_stream_version=1,
        kernel_type="python3",
        cells=[PlannedCell("cell-001", "code"), PlannedCell("cell-002", "code")],
        parameters={"n": 2**70},
        options=RunOptions(timeout=200_000),
        requested_by="ann",
        at=clock.now(),
        cause=cause,
    )
    execution.request_cancel(requested_by="ann", at=clock.now())
    stream = Stream(execution.id, notebook_id, api.tenant_id, api.project_id)
    await repository.save(api.store, execution, stream, Metadata(actor="ann"))
    run = str(execution.id)
    made = await scene.again(run)
    assert (made["parameters"], made["timeout"]) == ({"n": 2**70}, 86400)
    assert any(each.startswith("/timeout: 200000 seconds") for each in made["warnings"])
    shorter = await scene.again(run, timeout=5)
    assert shorter["timeout"] == 5
    assert not any(each.startswith("/timeout") for each in shorter["warnings"])
    first, *others = (await scene.get(run, "/chain"))["executions"]
    assert first["cause"]["firingId"] == str(cause.firing_id)
    assert [each["cause"]["kind"] for each in others] == ["rerun", "rerun"]


async def test_who_may_and_what_is_gone(api: Api) -> None:
    scene = await scene_of(api)
    run = await scene.failed()
    reader = Scene(api, await api.client(Role.READER), {"notebookId": scene.path[10:]})
    for what in ("rerun", "repair"):
        assert await reader.refused(run, what) == (403, "forbidden")
        for other in (unknown_id(), "x"):
            assert await scene.refused(other, what) == (404, "execution_not_found")
    assert (await reader.get(run, "/chain"))["firstExecutionId"] == run
    assert (await reader.get(run, "/changes"))["against"] is None
    neighbour = await scene_of(api)
    foreign = await neighbour.failed()
    for what in ("chain", "changes"):
        answer = await scene.client.get(f"{scene.path}/execution/{foreign}/{what}")
        assert answer.status_code == 404
    for unknown in (foreign, unknown_id(), "x"):
        answer = await scene.client.get(
            f"{scene.path}/execution/{run}/changes", params={"against": unknown}
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "execution_not_found")
        told = {"pointer": "?against", "reason": f"the notebook has no execution {unknown!r}"}
        assert answer.json()["errors"] == [told]
    assert (await scene.client.delete(scene.path)).status_code in (200, 204)
    for what in ("rerun", "repair"):
        assert await scene.refused(run, what) == (404, "execution_not_found")
    for what in ("chain", "changes"):
        answer = await scene.client.get(f"{scene.path}/execution/{run}/{what}")
        assert answer.json()["code"] == "execution_not_found"


async def test_the_limits_of_an_execute_hold(database_dsn: str, tmp_path: Path) -> None:
    config = msgspec.structs.replace(
        settings_for(database_dsn, tmp_path),
        execution=settings.Executions(),
        queue=settings.Queue(max_waiting_per_project=1),
    )
    async with running_api(config) as api:
        offer = WorkerOffer("python3", "python3", "python", "3.11.7")
        await worker_registry.heartbeat(api.pool, "w1", [offer], capacity=2)
        scene = await scene_of(api)
        run = await scene.failed()
        await scene.again(run, "repair")
        full = await scene.post(run, "rerun")
        assert (full.status_code, full.json()["code"]) == (429, "queue_full")
        assert full.json()["limit"] == "maxWaitingPerProject"
        assert "retry-after" in full.headers
        assert (await scene.post(run, "rerun", dryRun=True)).status_code == 200
        await worker_registry.remove(api.pool, "w1")
        for body in ({}, {"dryRun": True}):
            assert await scene.refused(run, "rerun", **body) == (503, "kernel_unavailable")
