"""Executions of a project by a filter, and what is done to many of them, over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from support.actions import SETTINGS, carry_out
from support.api import Api, new_notebook, unknown_id
from support.read_models import catch_up
from support.schedules import end_runs
from support.shared_api import api, api_server

from nbledger_application.caller import Caller
from nbledger_application.commands.act_on_executions import request_action
from nbledger_domain.execution import Execution
from nbledger_domain.filtering import parse
from nbledger_http.endpoints.many import acting
from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]


async def runs(client: httpx.AsyncClient, count: int, *tags: str) -> list[str]:
    notebook = (await new_notebook(client, "1"))["notebookId"]
    made = [
        await client.post(f"/notebook/{notebook}/execute", json={"tags": list(tags)})
        for _ in range(count)
    ]
    return [each.json()["executionId"] for each in made]


async def listed(client: httpx.AsyncClient, **query: Any) -> list[str]:
    """Page after page."""
    found: list[str] = []
    while True:
        answer = await client.get("/executions", params=query)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        found += [each["executionId"] for each in body["executions"]]
        if body["next"] is None:
            return found
        query["cursor"] = body["next"]


async def test_executions_are_listed_by_a_filter(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    nightly, other = await runs(client, 3, "nightly", "eu"), await runs(client, 2, "eu")
    await end_runs(api.store, [UUID(nightly[0])], failed=True)
    position = await catch_up(api.pool)
    newest_first = [*reversed(other), *reversed(nightly)]
    assert await listed(client, pageSize=2) == newest_first
    assert await listed(client, pageSize=2, sort="requested") == newest_first[::-1]
    for text, expected in (
        ("tag:nightly", nightly),
        ("tag:eu AND NOT tag:nightly", other),
        ("status = Error OR tag:nightly AND terminationCode = cell_error", [nightly[0]]),
        ("phase = Queued AND tag:nightly", nightly[1:]),
        ('requestedBy = "tester" AND cause = request AND ended:*', [nightly[0]]),
        ("requested > 2099-01-01T00:00:00Z", []),
    ):
        assert await listed(client, filter=text, sort="requested") == expected, text
    answer = await client.get("/executions", params={"filter": "status = Error"})
    assert int(answer.headers["nbledger-position"]) == position
    (run,) = answer.json()["executions"]
    assert (run["status"], run["tags"]) == ("Error", ["nightly", "eu"])
    assert "cellResults" not in run
    reader = await api.client(Role.READER)
    assert len(await listed(reader)) == 5
    stranger = await api.client(tenant_id=uuid4())
    assert (await stranger.get("/executions")).json()["code"] == "project_not_found"


@pytest.mark.parametrize(
    ("query", "pointer", "words"),
    [
        ({"filter": "stauts = Error"}, "?filter", "at character 1 (stauts): is an unknown field"),
        ({"filter": "status = Eror"}, "?filter", "did you mean Error?"),
        ({"filter": "tag:a tag:b"}, "?filter", "at character 7 (tag:b): AND or OR is expected"),
        ({"filter": "'; DROP TABLE event; --"}, "?filter", "at character 1"),
        ({"cursor": "yesterday"}, "?cursor", "must be what a page of this list had in next"),
        ({"cursor": f"1-{'9' * 19}"}, "?cursor", "must be what a page"),
        ({"sort": "ended"}, "?sort", "must be one of -requested, requested"),
        ({"pageSize": "1000"}, "?pageSize", "from 1 to 100"),
        ({"filtre": "tag:a"}, "?filtre", "did you mean filter?"),
    ],
)
async def test_what_is_wrong_with_a_query_is_told(
    api: Api, query: dict[str, str], pointer: str, words: str
) -> None:
    answer = await (await api.client()).get("/executions", params=query)
    assert answer.status_code == 422
    fault = answer.json()["errors"][0]
    assert fault["pointer"] == pointer
    assert words in fault["reason"]


async def test_more_than_an_action_takes_are_not_counted(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "MAX_FOUND", 2)
    client = await api.client(Role.EDITOR)
    await runs(client, 5, "nightly")
    await catch_up(api.pool)
    asked = {"action": "cancel", "filter": "tag:nightly"}
    counted = await client.post("/execution-actions", json={**asked, "dryRun": True})
    assert counted.json() == {"action": "cancel", "count": 3, "tooMany": True}
    refused = await client.post("/execution-actions", json={**asked, "expectedCount": 5})
    assert (refused.status_code, refused.json()["count"]) == (409, 3)
    assert refused.json()["detail"] == (
        "The filter finds more than 2 executions, not the 5 that are expected."
    )


async def test_many_are_cancelled(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    nightly, other = await runs(client, 3, "nightly"), await runs(client, 1)
    await catch_up(api.pool)
    asked = {"action": "cancel", "filter": "phase = Queued AND tag:nightly"}
    counted = await client.post("/execution-actions", json={**asked, "dryRun": True})
    assert (counted.status_code, counted.json()) == (200, {"action": "cancel", "count": 3})
    refused = await client.post("/execution-actions", json={**asked, "expectedCount": 2})
    assert refused.status_code == 409
    assert refused.json()["code"] == "count_mismatch"
    assert refused.json()["count"] == 3

    key = {"Idempotency-Key": f'"{uuid4()}"'}
    body = {**asked, "expectedCount": 3}
    made = await client.post("/execution-actions", json=body, headers=key)
    assert made.status_code == 202
    action = made.json()
    assert (action["status"], action["total"], action["requestedBy"]) == ("Running", 3, "tester")
    path = made.headers["location"].removeprefix(api.base)
    assert path == f"/execution-actions/{action['actionId']}"
    await carry_out(api.pool, api.store, SETTINGS)
    done = await client.get(path, headers={"Prefer": "wait=10"})
    assert (done.json()["status"], done.json()["done"]) == ("Completed", 3)
    assert done.headers["preference-applied"] == "wait=10"
    unchanged = await client.get(path, headers={"If-None-Match": done.headers["etag"]})
    assert unchanged.status_code == 304
    # By now the filter finds none; the same request is answered with what it has made.
    again = await client.post("/execution-actions", json=body, headers=key)
    assert (again.status_code, again.json()) == (202, done.json())
    assert again.headers["idempotency-replayed"] == "true"
    reused = await client.post("/execution-actions", json={**body, "action": "rerun"}, headers=key)
    assert reused.json()["code"] == "idempotency_key_reused"
    auditor = await api.client(Role.AUDITOR)
    told = (await auditor.get(f"{path}/history")).json()["events"]
    assert [each["type"].split(".")[1] for each in told] == [
        *("requested", "selected", "progressed", "ended")
    ]
    assert (await client.get(f"{path}/history")).json()["code"] == "forbidden"
    ended = await client.post(f"{path}/cancel")
    assert (ended.status_code, ended.json()["code"]) == (409, "action_ended")

    await catch_up(api.pool)
    assert set(await listed(client, filter="status = Cancelled")) == set(nightly)
    assert await listed(client, filter="phase:*") == other

    rerun = await client.post("/execution-actions", json={"action": "rerun", "ids": nightly})
    stopped = await client.post(f"/execution-actions/{rerun.json()['actionId']}/cancel")
    assert (stopped.status_code, stopped.json()["cancelRequested"]) == (202, True)
    await carry_out(api.pool, api.store, SETTINGS)
    await catch_up(api.pool)
    page = (await client.get("/execution-actions")).json()
    assert [(each["action"], each["status"]) for each in page["actions"]] == [
        ("rerun", "Cancelled"),
        ("cancel", "Completed"),
    ]
    assert "passedOver" not in page["actions"][0]


async def test_a_recorded_filter_can_be_read(api: Api) -> None:
    """As it is asked for by names and recorded by ids, or else it is refused."""
    client = await api.client(Role.EDITOR)
    (run,) = await runs(client, 1, "a", "c")
    await catch_up(api.pool)
    text = "tag:a"
    for _ in range(11):
        text = f"(tag:b OR {text} AND tag:c)"
    asked = {"action": "cancel", "filter": f'{text} AND requestedBy = "tester"'}
    made = await client.post("/execution-actions", json={**asked, "expectedCount": 1})
    assert made.status_code == 202, made.text
    assert parse(made.json()["filter"]) == parse(asked["filter"])
    await carry_out(api.pool, api.store, SETTINGS)
    done = (await client.get(f"/execution-actions/{made.json()['actionId']}")).json()
    assert (done["done"], done["total"]) == (1, 1)
    await catch_up(api.pool)
    assert await listed(client, filter="status = Cancelled") == [run]

    asked["filter"] = " AND ".join(
        f"(requestedBy:tester OR tag:{number} OR requestedBy!=tester)" for number in range(33)
    )
    for more in ({"expectedCount": 0}, {"dryRun": True}):
        refused = await client.post("/execution-actions", json={**asked, **more})
        assert refused.status_code == 422, refused.text
        (fault,) = refused.json()["errors"]
        assert fault["pointer"] == "/filter"
        assert "is beyond the limits of a filter once it has ids" in fault["reason"]
    assert len((await client.get("/execution-actions")).json()["actions"]) == 1


async def test_who_is_nobody_is_not_recorded(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    nobody = "tag:a OR requestedBy:'Zelda Quux' AND requestedBy != worker:w1"
    for more in ({"expectedCount": 0}, {"dryRun": True}):
        refused = await client.post(
            "/execution-actions", json={"action": "rerun", "filter": nobody, **more}
        )
        assert refused.status_code == 422, refused.text
        told = [
            (each["pointer"], each["reason"].split(":")[0]) for each in refused.json()["errors"]
        ]
        assert told == [
            ("/filter", "at character 22 ('Zelda Quux')"),
            ("/filter", "at character 54 (worker"),
        ]
    assert await listed(client, filter=nobody) == []
    known = f"requestedBy:tester OR requestedBy:scheduler OR requestedBy:{uuid4()}"
    made = await client.post(
        "/execution-actions", json={"action": "rerun", "filter": known, "expectedCount": 0}
    )
    assert made.status_code == 202, made.text
    assert parse(made.json()["filter"]) == parse(known)


async def test_a_filter_that_cannot_be_read_is_shown_and_lets_nothing_through(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    (run,) = await runs(client, 1)
    of_another_version = "colour = red AND requestedBy:*"
    caller = Caller("ann", frozenset({Role.EDITOR}), api.tenant_id, api.project_id, "request-1")
    action_id = await request_action(
        api.store, caller, "cancel", [UUID(run)], wanted=of_another_version
    )
    await carry_out(api.pool, api.store, SETTINGS)
    await catch_up(api.pool)
    (shown,) = (await client.get("/execution-actions")).json()["actions"]
    assert shown["filter"] == of_another_version
    action = (await client.get(f"/execution-actions/{action_id}")).json()
    assert (action["done"], action["failed"]) == (0, 1)
    (passed,) = action["passedOver"]
    assert (passed["outcome"], passed["reason"]) == ("failed", "filter_not_usable")
    events = [each.type for each in await api.store.read_stream(UUID(run))]
    assert Execution.CancelRequested.TYPE not in events


async def test_who_may(api: Api) -> None:
    reader = await api.client(Role.READER)
    body = {"action": "cancel", "ids": [str(uuid4())]}
    assert (await reader.post("/execution-actions", json=body)).json()["code"] == "forbidden"
    editor = await api.client(Role.EDITOR)
    made = (await editor.post("/execution-actions", json=body)).json()
    path = f"/execution-actions/{made['actionId']}"
    assert (await reader.get(path)).json()["total"] == 1
    assert (await reader.post(f"{path}/cancel")).json()["code"] == "forbidden"
    for address in (f"/execution-actions/{unknown_id()}", "/execution-actions/7"):
        assert (await editor.get(address)).json()["code"] == "action_not_found"
    elsewhere = await api.client(Role.EDITOR, base=f"/api/{api.tenant_id}/{uuid4()}")
    assert (await elsewhere.get(path)).json()["code"] == "action_not_found"


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({}, "/action", "is required"),
        ({"action": "cancle", "ids": [str(uuid4())]}, "/action", "must be one of cancel, rerun"),
        ({"action": "cancel"}, "/filter", "is required, unless there are ids"),
        ({"action": "cancel", "ids": []}, "/ids", "at least one item"),
        ({"action": "cancel", "ids": ["7"]}, "/ids/0", "a GUID"),
        ({"action": "cancel", "ids": [7]}, "/ids/0", "must be text"),
        ({"action": "cancel", "ids": ["x"] * 10_001}, "/ids", "at most 10,000 items"),
        ({"action": "cancel", "ids": ["x"], "filter": "tag:x"}, "/ids", "does not go with filter"),
        ({"action": "cancel", "filter": "tag:x"}, "/expectedCount", "is required with filter"),
        (
            {"action": "cancel", "filter": "tag:x", "expectedCount": 50_001},
            "/expectedCount",
            "from 0 to 50000",
        ),
        ({"action": "cancel", "filter": " ", "dryRun": True}, "/filter", "must not be empty"),
        (
            {"action": "cancel", "filter": "status = Eror", "expectedCount": 1},
            "/filter",
            "at character 10 (Eror)",
        ),
        (
            {"action": "cancel", "ids": [str(uuid4())], "expectedcount": 1},
            "/expectedcount",
            "did you mean expectedCount?",
        ),
    ],
)
async def test_what_is_wrong_with_a_request_is_told(
    api: Api, body: dict[str, Any], pointer: str, words: str
) -> None:
    answer = await (await api.client()).post("/execution-actions", json=body)
    assert answer.status_code == 422, answer.text
    faults = {each["pointer"]: each["reason"] for each in answer.json()["errors"]}
    assert words in faults[pointer]
