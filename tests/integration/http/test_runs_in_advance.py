"""What is known of a run before it: its parameters, a dry run, and the tags that it gets."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from support.api import Api, new_notebook
from support.read_models import catch_up
from support.shared_api import api, api_server

from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]

CELLS = [
    {"cellType": "markdown", "content": "# T"},
    {"cellType": "code", "content": "n: int = 1  # how many\nname = 'a'", "tags": ["parameters"]},
    {"cellType": "code", "content": "print(n)"},
]


async def events_of(api: Api) -> int:
    count: int = await api.pool.fetchval(
        "SELECT count(*) FROM event WHERE tenant_id = $1", api.tenant_id
    )
    return count


async def test_parameters_are_known_in_advance(api: Api) -> None:
    client, reader = await api.client(), await api.client(Role.READER)
    made = await new_notebook(client, initialCells=CELLS)
    path = f"/notebook/{made['notebookId']}/parameters"
    found = await reader.get(path)
    assert found.status_code == 200
    assert found.json() == {
        "notebookId": made["notebookId"],
        "notebookVersion": "1.0.0",
        "kernelType": "python3",
        "language": "python",
        "cellId": "cell-002",
        "parameters": [
            {
                "name": "n",
                "types": ["integer"],
                "declaredType": "int",
                "required": False,
                "default": 1,
                "defaultSource": "1",
                "help": "how many",
            },
            {
                "name": "name",
                "types": ["string"],
                "declaredType": None,
                "required": False,
                "default": "a",
                "defaultSource": "'a'",
                "help": None,
            },
        ],
    }
    same = await reader.get(path, headers={"If-None-Match": found.headers["etag"]})
    assert same.status_code == 304
    await client.put(path.removesuffix("/parameters"), json={"cells": [CELLS[2]]})
    changed = await reader.get(path, headers={"If-None-Match": found.headers["etag"]})
    assert (changed.json()["cellId"], changed.json()["parameters"]) == (None, [])
    others = {"r": 'n <- "x" # who', "scala": "val n: Int = 1 // who"}
    for kernel_type, source in others.items():
        cell = {"cellType": "code", "content": source, "tags": ["parameters"]}
        other = await new_notebook(client, initialCells=[cell], kernelType=kernel_type)
        told = (await reader.get(f"/notebook/{other['notebookId']}/parameters")).json()
        assert told["language"] == kernel_type
        assert [(each["name"], each["help"]) for each in told["parameters"]] == [("n", "who")]
    foreign = await api.client(tenant_id=UUID(int=1), base=f"/api/{UUID(int=1)}/{api.project_id}")
    assert (await foreign.get(path)).status_code == 404


async def test_values_that_do_not_fit_are_warned_of_or_refused(api: Api) -> None:
    client = await api.client()
    made = await new_notebook(client, initialCells=CELLS)
    path = f"/notebook/{made['notebookId']}/execute"
    body: dict[str, Any] = {"parameters": {"n": "1", "name": "b"}}
    told = "is text, and the notebook takes a whole number (int)"
    warned = await client.post(path, json=body)
    assert (warned.status_code, warned.json()["warnings"][0]) == (202, f"/parameters/n: {told}")
    assert warned.json()["runWarnings"] == [f"/parameters/n: {told}"]
    refused = await client.post(path, json={**body, "strictParameters": True})
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"pointer": "/parameters/n", "reason": told}]
    good = await client.post(path, json={"parameters": {"n": 2}, "strictParameters": True})
    assert good.status_code == 202


async def test_a_dry_run_checks_all_and_runs_nothing(api: Api) -> None:
    client = await api.client()
    made = await new_notebook(client, initialCells=CELLS)
    path, before = f"/notebook/{made['notebookId']}/execute", await events_of(api)
    body: dict[str, Any] = {
        "dryRun": True,
        "cellRange": {"endCell": "cell-002"},
        "parameters": {"n": "1"},
        "priority": "High",
        "cellTimeout": 5,
        "tags": ["a"],
    }
    answer = await client.post(path, json=body, headers={"Idempotency-Key": '"dry"'})
    assert answer.status_code == 200
    found = answer.json()
    of_worker = found["warnings"].pop()
    assert "no live worker" in of_worker
    assert found == {
        "dryRun": True,
        "notebookId": made["notebookId"],
        "notebookVersion": "1.0.0",
        "kernel": {
            "kernelType": "python3",
            "offered": False,
            "language": None,
            "languageVersion": None,
        },
        "cellRange": {"startCell": "cell-001", "endCell": "cell-002"},
        "cells": [
            {"cellId": "cell-001", "cellType": "markdown"},
            {"cellId": "cell-002", "cellType": "code"},
        ],
        "parameters": {"n": "1"},
        "tags": ["a"],
        "priority": "High",
        "timeout": 1800.0,
        "cellTimeout": 5.0,
        "continueOnError": False,
        "warnings": ["/parameters/n: is text, and the notebook takes a whole number (int)"],
    }
    for wrong, pointer in (
        ({"parameters": {"a b": 1}}, "/parameters/a b"),
        ({"cellRange": {"startCell": "cell-009"}}, "/cellRange/startCell"),
        ({"strictParameters": True}, "/parameters/n"),
        ({"tags": [""]}, "/tags/0"),
        ({"dryRun": "yes"}, "/dryRun"),
    ):
        refused = await client.post(path, json={**body, **wrong})
        assert refused.status_code == 422
        assert pointer in {error["pointer"] for error in refused.json()["errors"]}
    empty = await new_notebook(client)
    nothing = await client.post(f"/notebook/{empty['notebookId']}/execute", json={"dryRun": True})
    assert nothing.json()["code"] == "nothing_to_execute"
    assert await events_of(api) == before + 1
    # A key that came with a dry run has made nothing.
    real = await client.post(path, json={}, headers={"Idempotency-Key": '"dry"'})
    assert real.status_code == 202


async def test_tags_are_told_again(api: Api) -> None:
    client = await api.client()
    made = await new_notebook(client, initialCells=CELLS)
    path = f"/notebook/{made['notebookId']}"
    tags = ["nightly", "customer 17", "größer", "x" * 64]
    run = await client.post(f"{path}/execute", json={"tags": [*tags, " nightly "]})
    assert run.json()["tags"] == tags
    plain = await client.post(f"{path}/execute", json={"tags": []})
    assert "tags" not in plain.json()
    status = await client.get(f"{path}/execution/{run.json()['executionId']}")
    assert status.json()["tags"] == tags
    await catch_up(api.pool)
    listed = (await client.get(f"{path}/executions")).json()["executions"]
    assert [each.get("tags") for each in listed] == [None, tags]
    for wrong, pointer in (
        (["x"] * 21, "/tags"),
        (["a", "x" * 65], "/tags/1"),
        (["  "], "/tags/0"),
        ([1], "/tags/0"),
        ("nightly", "/tags"),
    ):
        refused = await client.post(f"{path}/execute", json={"tags": wrong})
        assert [error["pointer"] for error in refused.json()["errors"]] == [pointer], wrong
    key = {"Idempotency-Key": '"tagged"'}
    await client.post(f"{path}/execute", json={"tags": ["a"]}, headers=key)
    other = await client.post(f"{path}/execute", json={"tags": ["b"]}, headers=key)
    assert other.json()["code"] == "idempotency_key_reused"
