"""Automatic execution over HTTP: set with the notebook, shown, and told of."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from support.api import Api, new_notebook, unknown_id
from support.automation import automation
from support.read_models import catch_up
from support.schedules import SetClock, end_runs
from support.shared_api import api, api_server

from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]

DEFAULTS = {
    "on": ["dataset", "cells"],
    "quietSeconds": 5,
    "maxWaitSeconds": 60,
    "minIntervalSeconds": 0,
    "tags": [],
}


async def automatic(client: httpx.AsyncClient, setting: Any, **more: Any) -> dict[str, Any]:
    return await new_notebook(client, "1", integration={"autoExecution": setting, **more})


async def test_a_notebook_shows_what_its_setting_means(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    made = await automatic(client, True)
    assert made["integration"]["autoExecution"] is True
    assert made["automatic"] == DEFAULTS
    assert not [each for each in made["warnings"] if "auto" in each]
    path = f"/notebook/{made['notebookId']}"
    read = (await client.get(path)).json()
    assert read["automatic"] == DEFAULTS
    # What was read may be sent back whole.
    again = (await client.put(path, json=read)).json()
    assert (again["notebookVersion"], again["warnings"]) == ("1.0.0", [])
    assert (await client.get(f"{path}/automatic-execution")).json() == {
        "notebookId": made["notebookId"],
        "state": "idle",
        "automatic": DEFAULTS,
        "triggers": [],
    }

    setting = {
        "on": ["dataset"],
        "quietSeconds": 30,
        "minIntervalSeconds": 3600,
        "cellTimeout": 20,
        "retryPolicy": {"maxAttempts": 2, "retryOn": ["worker_lost"]},
        "tags": ["on-change"],
    }
    body = {"notebookName": "N", "integration": {"autoExecution": setting}}
    key = {"Idempotency-Key": '"automatic"'}
    once, twice = [await client.post("/notebook", json=body, headers=key) for _ in range(2)]
    assert (once.status_code, twice.headers["idempotency-replayed"]) == (201, "true")
    assert once.json()["notebookId"] == twice.json()["notebookId"]
    changed = await client.put(path, json={"integration": {"autoExecution": setting}})
    assert changed.json()["integration"]["autoExecution"] == setting
    assert changed.json()["automatic"] == {**DEFAULTS, **setting, "maxWaitSeconds": 300}
    assert "no dataset is bound" in changed.json()["warnings"][0]
    for empty in ({}, {"quietSeconds": None, "on": None}):
        changed = await client.put(path, json={"integration": {"autoExecution": empty}})
        assert changed.json()["automatic"] == DEFAULTS
        assert changed.json()["warnings"] == []
    # Null takes a setting away, as it does of those that have none by default.
    set_ = {"integration": {"enrichmentMode": True}, "environment": {"packages": ["pandas"]}}
    assert (await client.put(path, json=set_)).json()["integration"]["enrichmentMode"] is True
    nulls = {
        "integration": {"autoExecution": None, "enrichmentMode": None},
        "environment": {"packages": None, "customLibraries": None},
    }
    changed = (await client.put(path, json=nulls)).json()
    assert (changed["warnings"], changed["environment"]["packages"]) == ([], [])
    assert changed["integration"]["autoExecution"] is False
    assert changed["integration"]["enrichmentMode"] is False
    off = await client.put(path, json={"integration": {"autoExecution": False}})
    assert "automatic" not in off.json()
    assert (await client.get(f"{path}/automatic-execution")).json()["state"] == "off"
    unknown = await client.get(f"/notebook/{unknown_id()}/automatic-execution")
    assert unknown.json()["code"] == "notebook_not_found"


@pytest.mark.parametrize(
    ("setting", "pointer", "words"),
    [
        (1, "", "must be true or false or an object"),
        ("yes", "", "must be true or false"),
        ({"on": []}, "/on", "must name one of dataset, cells"),
        ({"on": ["dataset", "files"]}, "/on/1", "must be one of dataset, cells"),
        ({"on": "dataset"}, "/on", "must be an array"),
        ({"quietSeconds": -1}, "/quietSeconds", "a whole number from 0 to 86400"),
        ({"quietSeconds": 1.5}, "/quietSeconds", "a whole number"),
        ({"quietSeconds": 60, "maxWaitSeconds": 59}, "/maxWaitSeconds", "less than quietSeconds"),
        ({"minIntervalSeconds": 10**9}, "/minIntervalSeconds", "a whole number from 0"),
        ({"minInterval": 5}, "/minInterval", "did you mean minIntervalSeconds?"),
    ],
)
async def test_what_is_wrong_with_it_is_told(
    api: Api, setting: Any, pointer: str, words: str
) -> None:
    client = await api.client(Role.EDITOR)
    body = {"notebookName": "N", "integration": {"autoExecution": setting}}
    answer = await client.post("/notebook", json=body)
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == f"/integration/autoExecution{pointer}"
    assert words in fault["reason"]


async def test_an_upload_may_have_it(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    file = b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'

    async def upload(value: str, name: str = "autoExecution") -> httpx.Response:
        return await client.post(
            "/notebook/upload", files={"file": ("n.ipynb", file)}, data={name: value}
        )

    made = await upload("true")
    assert made.status_code == 201, made.text
    assert made.json()["automatic"] == DEFAULTS
    assert (await upload("false")).json()["integration"]["autoExecution"] is False
    assert (await upload("often")).json()["errors"][0]["pointer"] == "/autoExecution"
    # A field takes the object, too, as JSON.
    made = await upload(' {"quietSeconds": 2, "on": ["dataset"]}')
    assert made.json()["automatic"] == {
        **DEFAULTS,
        "on": ["dataset"],
        "quietSeconds": 2,
        "maxWaitSeconds": 60,
    }
    made = await upload('{"cron": "0 2 * * *", "timeZone": "Europe/Berlin"}', "scheduleExecution")
    assert made.status_code == 201, made.text
    assert made.json()["integration"]["scheduleExecution"]["timeZone"] == "Europe/Berlin"
    for wrong, pointer in (
        ('{"quietSeconds": "2"}', "/quietSeconds"),
        ('{"quiet": 2}', "/quiet"),
        ('{"quietSeconds": ', ""),
        ('{"on": ["dataset"], "on": ["cells"]}', "/on"),
    ):
        (fault,) = (await upload(wrong)).json()["errors"]
        assert fault["pointer"] == f"/autoExecution{pointer}"


async def test_what_becomes_of_a_change_is_told(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    made = await client.post("/dataset/csv", files={"file": ("d.csv", b"a\n1\n")})
    assert made.status_code == 201, made.text
    dataset = made.json()["datasetId"]
    notebook = await automatic(client, {"quietSeconds": 600}, datasetBinding=dataset)
    path = f"/notebook/{notebook['notebookId']}/automatic-execution"
    now = SetClock()
    running = automation(api.pool, api.store, now)
    await running.tick()
    again = await client.put(f"/dataset/{dataset}/csv", files={"file": ("d.csv", b"a\n2\n")})
    assert again.status_code == 200, again.text
    await running.tick()
    told = (await client.get(path)).json()
    assert (told["state"], told["setBy"], told["datasetId"]) == ("waiting", "tester", dataset)
    assert (told["gathering"]["changes"], told["gathering"]["waitsFor"]) == (1, "quiet")
    now.step(15)
    await running.tick()
    told = (await client.get(path)).json()
    assert told["state"] == "running"
    execution = f"/notebook/{notebook['notebookId']}/execution/{told['executionId']}"
    shown = (await client.get(execution)).json()
    position = await catch_up(api.pool)
    told = (
        await client.get(path, headers={"Nbledger-Position": str(position), "Prefer": "wait=5"})
    ).json()
    (trigger,) = told["triggers"]
    assert shown["cause"] == {
        "kind": "dataset",
        "datasetId": dataset,
        "datasetVersion": 2,
        "triggerId": trigger["triggerId"],
        "changes": 1,
    }
    assert (trigger["outcome"], trigger["execution"]["status"]) == ("started", "Running")
    assert trigger["executionId"] == told["executionId"]
    await end_runs(api.store, [UUID(told["executionId"])])
    await running.tick()
    assert (await client.get(path, params={"triggers": 0})).json()["state"] == "idle"
    auditor = await api.client(Role.AUDITOR)
    history = (
        await auditor.get(
            f"/notebook/{notebook['notebookId']}/history", params={"executions": "true"}
        )
    ).json()
    assert "trigger.started.v1" in {each["type"] for each in history["events"]}
    reader = await api.client(Role.READER)
    assert (await reader.get(path)).status_code == 200
    stranger = await api.client(Role.ADMIN, tenant_id=uuid4())
    assert (await stranger.get(path)).status_code == 404
