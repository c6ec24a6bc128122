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
        assert (await client.get(told)).headers["etag"] == tag
        both = {"If-None-Match": '"other"', "If-Match": "*"}
        answer = await client.request(method, address, headers=both, **content)
        assert answer.is_success, (method, address, answer.text)


def refused(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json().get("code")) == (412, "precondition_failed")
