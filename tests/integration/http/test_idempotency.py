"""Requests that are repeated with their idempotency key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from support.api import Api, new_notebook
from support.read_models import catch_up
from support.shared_api import ServerThread, api, api_server
from support.wheels import make_wheel

from nbledger_application import idempotency
from nbledger_application.caller import Caller
from nbledger_application.commands.execute_notebook import execute_notebook
from nbledger_application.reactions import eraser
from nbledger_application.reactions.sweep import Sweep
from nbledger_http.representations.idempotency import beyond_defaults
from nbledger_http.requests.runs import asked_of, run_request
from nbledger_infrastructure.artifacts.store import ArtifactStore, open_store
from nbledger_infrastructure.postgres import tokens
from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]

pytestmark = pytest.mark.guarantee("G31")


def keyed(key: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": f'"{key or uuid4()}"'}


async def executions_of(api: Api, notebook_id: str) -> list[str]:
    rows = await api.pool.fetch(
        "SELECT stream_id FROM event WHERE subject_id = $1 AND type = 'execution.requested.v1'",
        UUID(notebook_id),
    )
    return [str(row[0]) for row in rows]


async def streams_made(api: Api) -> int:
    count: int = await api.pool.fetchval(
        "SELECT count(*) FROM event WHERE tenant_id = $1 AND version = 1", api.tenant_id
    )
    return count


def same(first: httpx.Response, again: httpx.Response) -> None:
    """Both tell of one thing in the same words, the second as a repetition."""
    assert (again.status_code, again.text) == (first.status_code, first.text)
    assert again.headers["location"] == first.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"


async def test_a_repeated_execute_makes_one_run(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    notebook = (await new_notebook(client, "x = 1"))["notebookId"]
    path, headers = f"/notebook/{notebook}/execute", keyed()
    body = {"parameters": {"x": 2, "y": 3}, "cellRange": {"startCell": "cell-001"}}
    first = await client.post(path, json=body, headers=headers)
    assert first.status_code == 202
    assert len(first.json()["warnings"]) == 2
    same(first, await client.post(path, json=body, headers=headers))
    reordered = (
        '{"priority": "Normal", "cellRange": {"endCell": null, "startCell": "cell-001"},'
        ' "parameters": {"y": 3, "x": 2}, "executionMode": "range"}'
    )
    raw = {**headers, "Content-Type": "application/json"}
    same(first, await client.post(path, content=reordered, headers=raw))
    bare = {"Idempotency-Key": headers["Idempotency-Key"].strip('"')}
    same(first, await client.post(path, json=body, headers=bare))
    # What is asked for anew, or of another notebook, is another request.
    other = (await new_notebook(client, "x = 1"))["notebookId"]
    for where, what in (
        (path, {**body, "parameters": {"x": 2, "y": 4}}),
        (path, {**body, "parameters": {"x": 2.0, "y": 3}}),
        (path, {}),
        (f"/notebook/{other}/execute", body),
    ):
        refused = await client.post(where, json=what, headers=headers)
        assert refused.status_code == 422
        assert refused.json()["code"] == "idempotency_key_reused"
        assert "Idempotency-Key" in refused.json()["detail"]
    assert await executions_of(api, notebook) == [first.json()["executionId"]]
    assert await executions_of(api, other) == []
    # The state is that of now, and a changed notebook changes nothing.
    await client.post(f"/notebook/{notebook}/execution/{first.json()['executionId']}/cancel")
    await client.put(f"/notebook/{notebook}", json={"cells": []})
    late = await client.post(path, json=body, headers=headers)
    assert (late.status_code, late.json()["status"]) == (202, "Cancelled")
    assert late.json()["executionId"] == first.json()["executionId"]
    assert late.json()["warnings"] == first.json()["warnings"]


async def test_concurrent_repetitions_make_one_thing_each(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    notebook = (await new_notebook(client, "x"))["notebookId"]
    keys = [f"key-{number}" for number in range(10)]
    answers = await asyncio.gather(
        *(
            client.post(
                f"/notebook/{notebook}/execute",
                json={"parameters": {"n": number % 10}},
                headers=keyed(keys[number % 10]),
            )
            for number in range(100)
        )
    )
    assert {answer.status_code for answer in answers} == {202}
    made = {(answer.json()["executionId"], answer.json()["parameters"]["n"]) for answer in answers}
    assert len(made) == 10
    assert sorted(n for _, n in made) == list(range(10))
    assert {each for each, _ in made} == set(await executions_of(api, notebook))
    first = [answer for answer in answers if "idempotency-replayed" not in answer.headers]
    assert len(first) == 10


async def test_what_was_recorded_and_never_answered_is_told(
    api: Api, api_server: ServerThread
) -> None:
    """As after a kill between the append and the answer: the row is there, whoever wrote it."""
    secret, token = await tokens.create(
        api.pool, name="t", tenant_id=api.tenant_id, project_ids=None, roles=[Role.EDITOR]
    )
    client = api.anonymous(base=api.base, headers={"Authorization": f"Bearer {secret}"})
    notebook = UUID((await new_notebook(client, "x"))["notebookId"])
    body, limits = {"priority": "High"}, api_server.settings.execution
    caller = Caller(
        "t",
        frozenset(token.roles),
        api.tenant_id,
        api.project_id,
        "request",
        token_id=token.token_id,
    )
    key = idempotency.RequestKey(
        token.token_id,
        "executeNotebook",
        "k",
        lambda: [api.project_id, [notebook, beyond_defaults(asked_of(body, limits))]],
    )
    execution_id, _, warnings = await execute_notebook(
        api.store,
        api.pool,
        caller,
        notebook,
        run_request(body, limits),
        queue_without_worker=True,
        key=key,
    )
    answer = await client.post(f"/notebook/{notebook}/execute", json=body, headers=keyed("k"))
    assert (answer.status_code, answer.headers["idempotency-replayed"]) == (202, "true")
    assert answer.json()["executionId"] == str(execution_id)
    assert answer.json()["warnings"] == warnings
    assert await executions_of(api, str(notebook)) == [str(execution_id)]


async def test_a_key_is_good_for_one_tenant_token_and_operation(api: Api) -> None:
    client, headers = await api.client(Role.EDITOR), keyed("the key")
    body = {"notebookName": "N", "initialCells": [{"cellType": "code", "content": "x"}]}
    first = await client.post("/notebook", json=body, headers=headers)
    same(first, await client.post("/notebook", json=body, headers=headers))
    other_token = await api.client(Role.EDITOR)
    tenant_id = uuid4()
    other_tenant = await api.client(
        Role.EDITOR, tenant_id=tenant_id, base=f"/api/{tenant_id}/{api.project_id}"
    )
    made = [first.json()["notebookId"]]
    for each in (other_token, other_tenant):
        answer = await each.post("/notebook", json=body, headers=headers)
        assert answer.status_code == 201
        assert "idempotency-replayed" not in answer.headers
        made.append(answer.json()["notebookId"])
    assert len(set(made)) == 3
    run = await client.post(f"/notebook/{made[0]}/execute", headers=headers)
    assert run.status_code == 202
    assert "idempotency-replayed" not in run.headers
    # Of another project is another request: the key is the token's, whatever it covers.
    elsewhere = await client.post(
        f"{client.base_url}".replace(str(api.project_id), str(uuid4())) + "notebook",
        json=body,
        headers=headers,
    )
    assert elsewhere.json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("value", ["", '""', "a b", "x" * 256, '"a'])
async def test_a_bad_key_is_named(api: Api, value: str) -> None:
    client = await api.client(Role.EDITOR)
    answer = await client.post(
        "/notebook", json={"notebookName": "N"}, headers={"Idempotency-Key": value}
    )
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == ["Idempotency-Key"]
    assert await streams_made(api) == 0


async def test_what_was_refused_is_not_remembered(api: Api) -> None:
    client, headers = await api.client(Role.EDITOR), keyed()
    empty = (await new_notebook(client))["notebookId"]
    path = f"/notebook/{empty}/execute"
    refused = await client.post(path, headers=headers)
    assert refused.json()["code"] == "nothing_to_execute"
    wrong = await client.post(path, json={"parameters": {"a b": 1}, "x": 1}, headers=headers)
    assert {error["pointer"] for error in wrong.json()["errors"]} == {"/parameters/a b", "/x"}
    cells = [{"cellType": "code", "content": "x"}]
    assert (await client.put(f"/notebook/{empty}", json={"cells": cells})).status_code == 200
    made = await client.post(path, headers=headers)
    assert made.status_code == 202
    same(made, await client.post(path, headers=headers))


IPYNB = json.dumps(
    {
        "cells": [
            {
                "cell_type": "code",
                "id": "one",
                "metadata": {},
                "source": "x = 1",
                "outputs": [],
                "execution_count": None,
            }
        ],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
).encode()


async def test_every_upload_can_be_repeated(api: Api, tmp_path: Path) -> None:
    client = await api.client(Role.EDITOR)
    notebook = (await new_notebook(client, "x"))["notebookId"]
    wheel = make_wheel(tmp_path, "rules", "1.0")
    table = b"a,b\n1,2\n"
    uploads: list[tuple[str, list[Any], dict[str, str]]] = [
        ("/notebook/upload", [("file", ("n.ipynb", IPYNB))], {"notebookName": "U", "odd": "1"}),
        (
            "/notebook/upload",
            [("file", ("n.ipynb", IPYNB)), ("file", ("data/a.csv", table))],
            {},
        ),
        ("/dataset/csv", [("file", ("t.csv", table))], {"datasetName": "T", "odd": "1"}),
        ("/library", [("file", (wheel.name, await asyncio.to_thread(wheel.read_bytes)))], {}),
        (f"/notebook/{notebook}/file", [("file", ("a.txt", b"a")), ("file", ("b.txt", b"b"))], {}),
        (f"/notebook/{notebook}/file", [("file", ("a.txt", b"other"))], {"replace": "true"}),
    ]
    for path, files, fields in uploads:
        headers, before = keyed(), await streams_made(api)
        first = await client.post(path, files=files, data=fields, headers=headers)
        assert first.status_code in {200, 201}, first.text
        told = {"location": first.headers.get("location")}
        again = await client.post(path, files=files, data=fields, headers=headers)
        assert (again.status_code, again.json()) == (first.status_code, first.json())
        assert {"location": again.headers.get("location")} == told
        assert again.headers["idempotency-replayed"] == "true"
        assert "idempotency-replayed" not in first.headers
        assert await streams_made(api) == before + (0 if path.endswith("/file") else 1)
        # A byte more is another request.
        (name, (file_name, content)), *rest = files
        changed = [(name, (file_name, content + b"\n")), *rest]
        refused = await client.post(path, files=changed, data=fields, headers=headers)
        assert refused.json()["code"] == "idempotency_key_reused", (path, refused.text)


async def test_concurrent_uploads_make_one_thing_and_leave_no_file(
    api: Api, api_server: ServerThread, tmp_path: Path
) -> None:
    client = await api.client(Role.EDITOR)
    wheel = make_wheel(tmp_path, "rules", "1.0")
    notebook = (await new_notebook(client, "x"))["notebookId"]
    uploads: Mapping[str, tuple[str, bytes]] = {
        "/notebook/upload": ("n.ipynb", IPYNB),
        "/dataset/csv": ("t.csv", b"a,b\n1,2\n"),
        "/library": (wheel.name, await asyncio.to_thread(wheel.read_bytes)),
        f"/notebook/{notebook}/file": ("a.txt", b"a"),
    }
    headers = keyed()
    answers = await asyncio.gather(
        *(
            client.post(path, files={"file": file}, headers=headers)
            for path, file in uploads.items()
            for _ in range(5)
        )
    )
    for start in range(0, 20, 5):
        ours = answers[start : start + 5]
        assert [answer.status_code for answer in ours] == [201] * 5
        assert len({json.dumps(answer.json()) for answer in ours}) == 1
        replayed = [answer for answer in ours if "idempotency-replayed" in answer.headers]
        assert len(replayed) == 4
    assert await streams_made(api) == 4
    store = open_store(api_server.settings.artifacts.url)
    folders = {
        entry["path"].split("/")[2]
        for batch in store.list()
        for entry in batch
        if str(api.project_id) in entry["path"]
    }
    assert len(folders) == 4


async def test_what_was_made_and_deleted_is_not_made_again(
    api: Api, api_server: ServerThread
) -> None:
    client, headers = await api.client(Role.EDITOR), keyed()
    body = {"notebookName": "N", "initialCells": [{"cellType": "code", "content": "x"}]}
    made = (await client.post("/notebook", json=body, headers=headers)).json()["notebookId"]
    run = keyed()
    path = f"/notebook/{made}/execute"
    asked = {"parameters": {"birthday": "1815-12-10"}}
    assert (await client.post(path, json=asked, headers=run)).status_code == 202
    assert (await client.delete(f"/notebook/{made}?force=true")).status_code in {202, 204}

    async def gone() -> None:
        for again in (
            await client.post("/notebook", json=body, headers=headers),
            await client.post(path, json=asked, headers=run),
        ):
            assert again.status_code == 410, again.text
            assert again.json()["code"] == "idempotency_result_gone"

    await gone()
    artifacts = ArtifactStore(open_store(api_server.settings.artifacts.url))
    events = await api.store.read_subject(UUID(made))
    await eraser.react(api.store, api.pool, artifacts, events)
    await catch_up(api.pool)
    await gone()
    rows = await api.pool.fetch("SELECT * FROM idempotency_key WHERE subject_id = $1", UUID(made))
    assert [(row["fingerprint"], row["answer"]) for row in rows] == [(None, None)] * 2
    assert await streams_made(api) == 2


async def test_the_sweep_forgets_keys_in_their_time(api: Api, api_server: ServerThread) -> None:
    client, day = await api.client(Role.EDITOR), 24 * 3600.0
    body = {"notebookName": "N"}
    for key in ("old", "young"):
        assert (await client.post("/notebook", json=body, headers=keyed(key))).status_code == 201
    young = idempotency.RequestKey(UUID(int=0), "", "young", dict)
    await api.pool.execute(
        "UPDATE idempotency_key SET created_at = created_at - make_interval(secs => $1)"
        " WHERE tenant_id = $2 AND key_digest <> $3",
        day,
        api.tenant_id,
        young.digest,
    )
    await Sweep(api_server.settings, api.pool, api.store).once()
    kept = await client.post("/notebook", json=body, headers=keyed("young"))
    assert kept.headers["idempotency-replayed"] == "true"
    anew = await client.post("/notebook", json=body, headers=keyed("old"))
    assert "idempotency-replayed" not in anew.headers
    assert await streams_made(api) == 3


def test_every_post_that_makes_something_takes_a_key(api: Api) -> None:
    makes = {
        operation["operationId"]: operation
        for methods in api.document["paths"].values()
        for method, operation in methods.items()
        if method == "post"
    }
    without = set()
    for name, operation in makes.items():
        taken = {parameter["name"] for parameter in operation.get("parameters", [])}
        if "Idempotency-Key" not in taken:
            without.add(name)
            continue
        good = [told for status, told in operation["responses"].items() if status[0] == "2"]
        assert any("Idempotency-Replayed" in told["headers"] for told in good), name
        assert "410" in operation["responses"]
    # A repetition could not show the secret of a webhook again; who reads what is published again
    # passes over what it has. The others may be repeated as they are.
    assert without == {
        "createWebhook",
        "rotateWebhookSecret",
        "redeliverToWebhook",
        "replayEvents",
        "cancelEventReplay",
        "cancelExecution",
        "cancelExecutionAction",
        "pauseSchedule",
        "resumeSchedule",
        "backfillSchedule",
    }
