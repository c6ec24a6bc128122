"""Query parameters, at every address that the description gives any."""

from __future__ import annotations

import re
from typing import Any

from support.api import Api, new_notebook, unknown_id
from support.shared_api import api, api_server

__all__ = ["api", "api_server"]


async def addresses(api: Api) -> list[tuple[str, str, str, dict[str, Any], str]]:
    """Of each parameter: method, template, address, what is said of it, and the others needed."""
    made = await new_notebook(await api.client(), "1")
    client = await api.client(base="")
    run = await client.post(f"{api.base}/notebook/{made['notebookId']}/execute")
    form = {"file": ("a.csv", b"a,b\n1,2\n")}
    dataset = await client.post(f"{api.base}/dataset/csv", files=form)
    known = {
        "tenantId": str(api.tenant_id),
        "projectId": str(api.project_id),
        "notebookId": made["notebookId"],
        "executionId": run.json()["executionId"],
        "datasetId": dataset.json()["datasetId"],
        "libraryId": unknown_id(),
        "actionId": unknown_id(),
        "webhookId": unknown_id(),
        "replayId": unknown_id(),
    }
    found = []
    for template, methods in api.document["paths"].items():
        path = re.sub(r"\{(\w+)\}", lambda each: known.get(each[1], "x"), template)
        for method, operation in methods.items():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "query" and not template.startswith("/downloads/"):
                    others = "".join(
                        f"&{each['name']}=1"
                        for each in operation["parameters"]
                        if each.get("required") and each["in"] == "query" and each != parameter
                    )
                    found.append((method, template, path, parameter, others))
    return found


async def test_a_parameter_that_is_there_and_empty_is_refused(api: Api) -> None:
    client = await api.client(base="")
    tried: list[str] = []
    for method, template, path, parameter, others in await addresses(api):
        for query in (f"?{parameter['name']}=", f"?{parameter['name']}"):
            await refused(client, method, path + query + others, parameter["name"])
        tried.append(f"{method} {template} {parameter['name']}")
    assert len(tried) > 20


async def test_u_0000_in_a_parameter_is_refused(api: Api) -> None:
    """PostgreSQL has no such text: asked for it, it fails rather than find nothing."""
    client = await api.client(base="")
    texts = 0
    for method, _, path, parameter, others in await addresses(api):
        for value in ("%00", "a%00b"):
            address = f"{path}?{parameter['name']}={value}{others}"
            answer = await client.request(method, address)
            assert answer.status_code == 422, (address, answer.text)
            pointers = {each["pointer"] for each in answer.json()["errors"]}
            assert pointers == {f"?{parameter['name']}"}, address
        texts += "string" in str(parameter["schema"])
    assert texts > 20


async def test_a_parameter_that_an_address_does_not_take_never_passes_unseen(api: Api) -> None:
    client = await api.client()
    made = await new_notebook(client, "1")
    path = f"/notebook/{made['notebookId']}"
    unknown = "is an unknown parameter; "
    paging = f"{unknown}there are page, pageSize"
    for method, address, pointer, reason in (
        ("POST", f"{path}/execute?dryRun=true", "?dryRun", "belongs into the body"),
        ("POST", f"{path}/schedule/run?x=1", "?x", f"{unknown}the address takes none"),
        ("PUT", f"{path}?notebookName=n", "?notebookName", "belongs into the body"),
        ("GET", "/executions?status=Error", "?status", f"{unknown}there are filter, "),
        ("GET", "/executions?tag=x", "?tag", f"{unknown}there are filter, "),
        ("GET", f"{path}/executions?filter=status%20%3D%20Error", "?filter", paging),
        ("GET", "/schedules?state=paused", "?state", paging),
        ("GET", "/execution-actions?filter=x", "?filter", paging),
        ("GET", "/notebooks?utm_source=mail", "?utm_source", f"{unknown}there are "),
        ("GET", "/notebooks?_", "?_", f"{unknown}there are "),
        ("GET", "/notebooks?", None, ""),
        ("GET", "/notebooks?page=1&page=2&page=3", "?page", "is there 3 times; send it once"),
        ("GET", "/executions?filter=a&filter=b", "?filter", "is there 2 times; send it once"),
    ):
        answer = await client.request(method, address)
        if pointer is None:
            assert answer.status_code == 200
            continue
        assert answer.status_code == 422, (address, answer.text)
        (fault,) = answer.json()["errors"]
        assert fault["pointer"] == pointer
        assert reason in fault["reason"], fault
    assert (await client.get(f"{path}/executions")).json()["totalCount"] == 0
    several = await client.get("/notebooks?a=1&pagesize=2&page=1&page=1")
    assert [each["pointer"] for each in several.json()["errors"]] == ["?a", "?pagesize", "?page"]


async def test_a_request_without_members_takes_no_others(api: Api) -> None:
    client = await api.client()
    path = f"/notebook/{(await new_notebook(client, '1'))['notebookId']}"
    setting = {"integration": {"scheduleExecution": "0 2 * * *"}}
    assert (await client.put(path, json=setting)).status_code == 200
    run = (await client.post(f"{path}/execute")).json()["executionId"]
    for address in (
        f"{path}/schedule/run",
        f"{path}/execution/{run}/cancel",
        f"/execution-actions/{unknown_id()}/cancel",
    ):
        for content, pointer in (
            (b'{"parameters": {"x": 9}}', "/parameters"),
            (b"garbage", ""),
            (b"[]", ""),
        ):
            answer = await client.post(
                address, content=content, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 422, (address, answer.text)
            assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]
    before = (await client.get(f"{path}/execution/{run}")).json()
    assert before["status"] == "Running"
    assert (await client.post(f"{path}/schedule/run", json={})).status_code == 202
    assert (await client.post(f"{path}/execution/{run}/cancel", json={})).status_code == 202


async def refused(client: Any, method: str, path: str, name: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 422, (method, path, answer.text)
    assert [each["pointer"] for each in answer.json()["errors"]] == [f"?{name}"], path
