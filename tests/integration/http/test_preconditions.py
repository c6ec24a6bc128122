"""If-Match and If-None-Match guard whatever a request would change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from support.api import Api, new_notebook
from support.shared_api import api, api_server
from support.wheels import make_wheel

from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]

LONG_AGO = {"If-Unmodified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}
FAR_OFF = {"If-Unmodified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}
TABLE = {"file": ("a.csv", b"a,b\n1,2\n")}


async def test_nothing_is_made_where_a_state_is_demanded(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
    address = f"{path}/file/a.csv"
    anything = {"If-Match": "*"}
    for answer in (
        await client.put(address, content=b"1", headers=anything),
        await client.post(f"{path}/file", files={"file": ("a.csv", b"1")}, headers=anything),
    ):
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
        assert "notebook or the file" in answer.json()["detail"]
    assert (await client.get(f"{path}/files")).json()["files"] == []
    assert (await client.put(address, content=b"1")).status_code == 201
    assert (await client.put(address, content=b"2", headers=anything)).status_code == 200
    assert (await client.delete(address, headers=anything)).status_code == 204


async def test_what_is_there_can_be_ruled_out_of_every_change(api: Api, tmp_path: Path) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
    file = f"{path}/file/a.csv"
    assert (await client.put(file, content=b"1")).status_code == 201
    made = await client.post("/dataset/csv", files=TABLE)
    dataset = f"/dataset/{made.json()['datasetId']}"
    wheel = make_wheel(tmp_path, "Our_Rules", "1.2")
    form = {"file": (wheel.name, wheel.read_bytes())}
    library = f"/library/{(await client.post('/library', files=form)).json()['libraryId']}"

    changes: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", path, {"json": {"notebookName": "2"}}),
        ("PUT", file, {"content": b"2"}),
        ("POST", f"{path}/file", {"files": {"file": ("a.csv", b"2")}}),
        ("PUT", f"{dataset}/csv", {"files": TABLE}),
        ("DELETE", dataset, {}),
        ("DELETE", library, {}),
        ("DELETE", file, {}),
        ("DELETE", path, {}),
    ]
    for method, address, content in changes:
        told = file if method == "POST" else address.removesuffix("/csv")
        tag = (await client.get(told)).headers["etag"]
        for ruled_out in ("*", tag, f'"other", W/{tag}'):
            headers = {"If-None-Match": ruled_out}
            answer = await client.request(method, address, headers=headers, **content)
            assert refused(answer), (method, address, ruled_out, answer.text)
            assert "If-None-Match rules out" in answer.json()["detail"]
        answer = await client.request(method, address, headers={"If-Match": '"v99"'}, **content)
        assert refused(answer), (method, address, answer.text)
        answer = await client.request(method, address, headers=LONG_AGO, **content)
        assert refused(answer), (method, address, answer.text)
        assert (await client.get(told)).headers["etag"] == tag
        # A time does not count beside entity tags.
        both = {"If-None-Match": '"other"', "If-Match": "*", **LONG_AGO}
        answer = await client.request(method, address, headers=both, **content)
        assert answer.is_success, (method, address, answer.text)


async def test_a_run_is_bound_to_the_version_that_was_read(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
    execute = f"{path}/execute"
    read = (await client.get(path)).headers
    by_tag = {"If-Match": read["etag"]}
    for headers in (by_tag, FAR_OFF, {"If-Unmodified-Since": "soon"}, {"If-None-Match": '"v9"'}):
        # What runs of it record does not change it.
        answer = await client.post(execute, headers=headers)
        assert answer.status_code == 202, (headers, answer.text)
    key = {"Idempotency-Key": '"bound"'}
    bound = await client.post(execute, headers={**by_tag, **key})
    assert bound.status_code == 202

    changed = await client.put(path, json={"notebookName": "2"})
    assert changed.is_success
    for headers in (by_tag, LONG_AGO, {"If-None-Match": "*"}, {"If-Match": 'W/"v2"'}):
        assert refused(await client.post(execute, headers=headers)), headers
        assert refused(await client.post(execute, headers=headers, json={"dryRun": True}))
    # A repetition is answered with what the first one has made.
    again = await client.post(execute, headers={**by_tag, **key})
    assert (again.status_code, again.json()["executionId"]) == (202, bound.json()["executionId"])
    now = {"If-Match": changed.headers["etag"]}
    assert (await client.post(execute, headers=now)).status_code == 202


async def test_reading_heeds_every_condition(api: Api, tmp_path: Path) -> None:
    client = await api.client(Role.EDITOR)
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
    assert (await client.put(f"{path}/file/a.csv", content=b"1")).status_code == 201
    made = await client.post("/dataset/csv", files=TABLE)
    wheel = make_wheel(tmp_path, "Our_Reads", "1.2")
    form = {"file": (wheel.name, wheel.read_bytes())}
    library = f"/library/{(await client.post('/library', files=form)).json()['libraryId']}"
    run = (await client.post(f"{path}/execute")).headers["location"].removeprefix(api.base)
    timed = [path, f"{path}/files", f"/dataset/{made.json()['datasetId']}", library, run]
    tagged = [f"{path}/file/a.csv", f"{path}/parameters", f"{run}/results"]
    for address in (*timed, *tagged):
        tag = (await client.get(address)).headers["etag"]
        for headers, status in (
            ({"If-Match": tag}, 200),
            ({"If-Match": f'"other", {tag}', **LONG_AGO}, 200),
            ({"If-Match": "*"}, 200),
            (FAR_OFF, 200),
            ({"If-Unmodified-Since": "soon"}, 200),
            ({"If-Match": '"other"'}, 412),
            ({"If-Match": f"W/{tag}"}, 412),
            # Before it is asked whether the client has it already.
            ({"If-Match": '"other"', "If-None-Match": tag}, 412),
            ({"If-Match": tag, "If-None-Match": tag}, 304),
        ):
            answer = await client.get(address, headers=headers)
            assert answer.status_code == status, (address, headers, answer.text)
    for address in timed:
        assert refused(await client.get(address, headers=LONG_AGO)), address


def refused(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json().get("code")) == (412, "precondition_failed")
