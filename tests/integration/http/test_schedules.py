"""Schedules over HTTP: set with the notebook, shown, paused, run, and made up for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from support.api import Api, new_notebook, unknown_id
from support.read_models import catch_up
from support.schedules import SetClock, end_runs, outcomes, scheduler
from support.shared_api import api, api_server

from nbledger_domain.schedule import schedule_id_of
from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]

NIGHTLY = "CRON_TZ=Europe/Berlin 0 2 * * *"


async def scheduled(client: httpx.AsyncClient, setting: Any) -> dict[str, Any]:
    return await new_notebook(client, "1", integration={"scheduleExecution": setting})


def moments(texts: list[str]) -> list[datetime]:
    return [datetime.fromisoformat(text) for text in texts]


async def test_a_notebook_shows_its_schedule(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    made = await scheduled(client, NIGHTLY)
    assert made["integration"]["scheduleExecution"] == NIGHTLY
    schedule = made["schedule"]
    assert (schedule["cron"], schedule["timeZone"]) == ("0 2 * * *", "Europe/Berlin")
    assert schedule["description"] == "At 02:00 every day (Europe/Berlin)"
    assert schedule["state"] == "active"
    following = moments(schedule["nextFirings"])
    assert len(following) == 5
    assert following == sorted(set(following))
    assert timedelta(0) < following[0] - datetime.now(UTC) <= timedelta(days=1, hours=1)
    assert not [each for each in made["warnings"] if "schedule" in each]

    path = f"/notebook/{made['notebookId']}"
    read = (await client.get(path)).json()
    assert read["schedule"] == schedule
    # What was read may be sent back whole.
    again = await client.put(path, json=read)
    assert again.json()["schedule"] == schedule
    assert again.json()["notebookVersion"] == "1.0.0"
    assert again.json()["warnings"] == []

    setting = {
        "cron": "*/5 8-18 * * MON-FRI",
        "timeZone": "America/New_York",
        "end": "2099-12-31T00:00:00+01:00",
        "overlap": "queueOne",
        "parameters": {"days": 7},
        "pauseAfterFailures": 3,
    }
    changed = (await client.put(path, json={"integration": {"scheduleExecution": setting}})).json()
    assert changed["integration"]["scheduleExecution"] == {
        **setting,
        "end": "2099-12-30T23:00:00Z",
    }
    assert "America/New_York" in changed["schedule"]["description"]
    whole = (await client.get(f"{path}/schedule")).json()
    assert (whole["overlap"], whole["catchUpSeconds"]) == ("queueOne", 3600)
    assert (whole["parameters"], whole["firings"]) == ({"days": 7}, [])
    for gone in (None, ""):
        left = await client.put(path, json={"integration": {"scheduleExecution": gone}})
        assert "schedule" not in left.json()
    assert (await client.get(f"{path}/schedule")).json()["code"] == "schedule_not_found"


@pytest.mark.parametrize(
    ("setting", "pointer", "words"),
    [
        ("at noon", "", "has 2 fields"),
        ("0 25 * * *", "", "hour: '25' is not possible; it takes 0 to 23"),
        ("CRON_TZ=Europe/Berln 0 2 * * *", "", "did you mean Europe/Berlin?"),
        (7, "", "must be text or an object"),
        ({}, "/cron", "is required"),
        ({"cron": "@fortnightly"}, "/cron", "there is no '@fortnightly'"),
        ({"cron": "@daily", "timeZone": "Mars"}, "/timeZone", "is no time zone"),
        ({"cron": "@daily", "overlap": "sometimes"}, "/overlap", "must be one of skip"),
        ({"cron": "@daily", "catchUpSeconds": 5}, "/catchUpSeconds", "from 60 to"),
        ({"cron": "@daily", "start": "2026-01-01T00:00:00"}, "/start", "must be a time such as"),
        (
            {"cron": "@daily", "start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"},
            "/end",
            "is before start",
        ),
        ({"cron": "@daily", "parameters": {"1x": 1}}, "/parameters/1x", ""),
        ({"cron": "@daily", "timezone": "UTC"}, "/timezone", "did you mean timeZone?"),
        ({"cron": "@daily", "timeout": 0.5}, "/timeout", "must be at least 1 second"),
        ({"cron": "@daily", "timeout": 1e9}, "/timeout", "must be at most"),
        ({"cron": "@daily", "priority": "soon"}, "/priority", "must be one of"),
        ({"cron": "@daily", "cellTimeout": 0}, "/cellTimeout", "must be at least 1 second"),
        ({"cron": "@daily", "retryPolicy": {"maxAttempts": 11}}, "/retryPolicy/maxAttempts", "10"),
        ({"cron": "@daily", "tags": ["a", " "]}, "/tags/1", "must not be blank"),
    ],
)
async def test_what_is_wrong_with_it_is_told(
    api: Api, setting: Any, pointer: str, words: str
) -> None:
    client = await api.client(Role.EDITOR)
    body = {"notebookName": "N", "integration": {"scheduleExecution": setting}}
    answer = await client.post("/notebook", json=body)
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == f"/integration/scheduleExecution{pointer}"
    assert words in fault["reason"]


async def test_an_upload_may_have_one(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    file = b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    cells = file.replace(
        b"[]",
        b'[{"cell_type":"code","source":"1","id":"a","metadata":{},'
        b'"outputs":[],"execution_count":null}]',
    )
    made = await client.post(
        "/notebook/upload",
        files={"file": ("n.ipynb", cells)},
        data={"scheduleExecution": "@hourly"},
    )
    assert made.status_code == 201, made.text
    assert made.json()["schedule"]["cron"] == "@hourly"


async def test_it_is_paused_run_and_made_up_for(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    now = SetClock()
    firing = scheduler(api.pool, api.store, now)
    made = await scheduled(client, {"cron": "* * * * *", "overlap": "allow"})
    path = f"/notebook/{made['notebookId']}/schedule"
    # At once, whether the scheduler has come to it or not.
    paused = await client.post(f"{path}/pause", json={"note": "why not"})
    assert paused.status_code == 200
    shown = paused.json()
    assert (shown["state"], shown["pauseReason"], shown["note"]) == (
        *("paused", "requested", "why not"),
    )
    assert shown["nextFirings"] == []
    assert (await client.get(path.removesuffix("/schedule"))).json()["schedule"][
        "state"
    ] == "paused"
    assert (await client.post(f"{path}/pause")).status_code == 200

    key = {"Idempotency-Key": '"once"'}
    asked = await client.post(f"{path}/run", headers=key)
    assert asked.status_code == 202
    run = asked.json()
    again = await client.post(f"{path}/run", headers=key)
    assert (again.status_code, again.json()) == (202, run)
    assert again.headers["Idempotency-Replayed"] == "true"
    since = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=3)
    body = {"from": since.isoformat(), "to": (since + timedelta(minutes=2)).isoformat()}
    firings: list[dict[str, Any]] = []
    for _ in range(2):
        filled = await client.post(f"{path}/backfill", json=body)
        assert filled.status_code == 202
        firings = filled.json()["firings"]
        assert moments([each["dueAt"] for each in firings]) == [
            since + timedelta(minutes=each) for each in range(3)
        ]
        await firing.tick()
    resumed = await client.post(f"{path}/resume")
    assert resumed.json()["state"] == "active"
    assert "pauseReason" not in resumed.json()

    runs = [run["executionId"], *(each["executionId"] for each in firings)]
    listed = f"/notebook/{made['notebookId']}/execution"
    for execution_id, trigger in zip(runs, ["manual", *["backfill"] * 3], strict=True):
        execution = (await client.get(f"{listed}/{execution_id}")).json()
        assert execution["cause"]["kind"] == "schedule"
        assert execution["cause"]["trigger"] == trigger
        assert execution["requestedBy"] == "tester"
    await end_runs(api.store, [UUID(run["executionId"])])
    await catch_up(api.pool, "execution_status")
    await catch_up(api.pool, "schedule_list")
    told = (await client.get(path, params={"firings": 100})).json()["firings"]
    assert [(each["trigger"], each["outcome"]) for each in told] == [
        *[("backfill", "started")] * 3,
        ("manual", "started"),
    ]
    assert told[-1]["execution"] == {"status": "Completed", "terminationCode": "success"}
    assert len((await client.get(path, params={"firings": 2})).json()["firings"]) == 2
    page = (await client.get("/schedules")).json()
    assert page["totalCount"] == 1
    assert page["schedules"][0]["scheduleId"] == str(schedule_id_of(UUID(made["notebookId"])))
    assert page["schedules"][0]["state"] == "active"


async def test_the_next_firings_are_those_that_its_bound_leaves(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    now = SetClock()
    firing = scheduler(api.pool, api.store, now)
    made = await scheduled(client, {"cron": "* * * * *", "maxRuns": 3, "overlap": "allow"})
    assert len(made["schedule"]["nextFirings"]) == 3
    notebook_id = UUID(made["notebookId"])
    path = f"/notebook/{notebook_id}"
    for left in (2, 1, 0):
        await firing.tick()
        while len(await outcomes(api.store, notebook_id)) < 3 - left:
            now.step(1)
            await firing.tick()
        # What has ended is told by the next one.
        await firing.tick()
        assert await outcomes(api.store, notebook_id) == ["started"] * (3 - left)
        await catch_up(api.pool, "schedule_list")
        shown = [
            (await client.get(path)).json()["schedule"],
            (await client.get(f"{path}/schedule")).json(),
            (await client.get("/schedules")).json()["schedules"][0],
        ]
        assert [len(each["nextFirings"]) for each in shown] == [left] * 3
        assert {each["state"] for each in shown} == {"active" if left else "ended"}


async def test_what_its_runs_are_given_is_checked_and_told(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    setting = {
        "cron": "@daily",
        "parameters": {"dayz": 7},
        "timeout": 90,
        "cellTimeout": 20,
        "priority": "High",
        "retryPolicy": {"maxAttempts": 2, "retryOn": ["worker_lost"]},
        "tags": [" nightly ", "nightly", "eu"],
    }
    cells = [{"cellType": "code", "content": "days = 1", "tags": ["parameters"]}]
    body = {
        "notebookName": "N",
        "initialCells": cells,
        "integration": {"scheduleExecution": setting},
    }
    answer = await client.post("/notebook", json=body)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    path = f"/notebook/{made['notebookId']}"
    mistyped = "/parameters/dayz: the cell tagged 'parameters' does not set it; did you mean days?"
    told = f"/integration/scheduleExecution{mistyped}"
    assert told in made["warnings"]
    whole = (await client.get(f"{path}/schedule")).json()
    assert (whole["timeout"], whole["priority"], whole["warnings"]) == (90, "High", [mistyped])
    assert (whole["cellTimeout"], whole["tags"]) == (20, ["nightly", "eu"])
    assert whole["retryPolicy"] == setting["retryPolicy"]
    # What is read may be sent back, and says so again; what does not concern it says nothing.
    read = (await client.get(path)).json()
    assert read["integration"]["scheduleExecution"]["timeout"] == 90
    assert told in (await client.put(path, json=read)).json()["warnings"]
    renamed = await client.put(path, json={"notebookName": "other"})
    assert renamed.json()["warnings"] == []
    # Nor does it once the notebook takes it.
    renamed_too = [{"cellType": "code", "content": "dayz = 1", "tags": ["parameters"]}]
    changed = await client.put(path, json={"cells": renamed_too})
    assert changed.json()["warnings"] == []
    whole = (await client.get(f"{path}/schedule")).json()
    assert whole["warnings"] == []

    plain = (await scheduled(client, "@daily"))["notebookId"]
    whole = (await client.get(f"/notebook/{plain}/schedule")).json()
    assert ("timeout" in whole, whole["priority"], whole["warnings"]) == (False, "Normal", [])


async def test_a_backfill_is_of_what_is_over_and_not_too_much(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    made = await scheduled(client, "* * * * *")
    path = f"/notebook/{made['notebookId']}/schedule/backfill"
    now = datetime.now(UTC)
    day = timedelta(days=1)
    for since, to, pointer in (
        (now - 2 * day, now, "/from"),
        (now - day, now + day, "/to"),
        (now, now - day, "/to"),
        (now - day, "yesterday", "/to"),
        (None, now, "/from"),
    ):
        body = {
            "from": since and since.isoformat(),
            "to": to if isinstance(to, str) else to.isoformat(),
        }
        answer = await client.post(path, json=body)
        assert answer.status_code == 422, body
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


async def test_who_may_not_or_has_none_is_told_so(api: Api) -> None:
    editor, reader = await api.client(Role.EDITOR), await api.client(Role.READER)
    plain = await new_notebook(editor, "1")
    made = await scheduled(editor, NIGHTLY)
    for name in ("pause", "resume", "run", "backfill"):
        body = {"from": "2020-01-01T00:00:00Z", "to": "2020-01-01T00:00:00Z"}
        json = body if name == "backfill" else {}
        answer = await editor.post(f"/notebook/{plain['notebookId']}/schedule/{name}", json=json)
        assert (answer.status_code, answer.json()["code"]) == (404, "schedule_not_found")
        answer = await editor.post(f"/notebook/{unknown_id()}/schedule/{name}", json=json)
        assert (answer.status_code, answer.json()["code"]) == (404, "notebook_not_found")
        answer = await reader.post(f"/notebook/{made['notebookId']}/schedule/{name}", json=json)
        assert answer.status_code == 403
    assert (await reader.get(f"/notebook/{made['notebookId']}/schedule")).status_code == 200
    mistyped = await editor.post(
        f"/notebook/{made['notebookId']}/schedule/pause", json={"reason": "x"}
    )
    assert mistyped.status_code == 422
