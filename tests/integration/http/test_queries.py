"""Query parameters, at every address that the description gives any."""

from __future__ import annotations

import re
from typing import Any

from support.api import Api, new_notebook, unknown_id
from support.shared_api import api, api_server

__all__ = ["api", "api_server"]


async def test_a_parameter_that_is_there_and_empty_is_refused(api: Api) -> None:
    client = await api.client(base="")
    made = await new_notebook(await api.client(), "1")
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
    }
    tried: list[str] = []
    for template, methods in api.document["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "query" and not template.startswith("/downloads/"):
                    path = re.sub(r"\{(\w+)\}", lambda found: known.get(found[1], "x"), template)
                    for query in (f"?{parameter['name']}=", f"?{parameter['name']}"):
                        await refused(client, method, path + query, parameter["name"])
                    tried.append(f"{method} {template} {parameter['name']}")
    assert len(tried) > 20
    # What is no parameter of ours is nobody's business.
    assert (await client.get(f"{api.base}/notebooks?utm=&_")).status_code == 200


async def refused(client: Any, method: str, path: str, name: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 422, (method, path, answer.text)
    assert [each["pointer"] for each in answer.json()["errors"]] == [f"?{name}"], path
