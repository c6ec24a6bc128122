"""A run fails, is repaired and rerun, on a running service with real kernels."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from support.local_server import LocalServer

SECONDS = 60.0
pytestmark = pytest.mark.timeout(SECONDS + 60)

READ = """
import json, os
told = json.load(open(os.environ["NBLEDGER_RUN_FILE"]))
version = told["datasets"][told["datasetBinding"]]["version"]
"""
CELLS: list[dict[str, Any]] = [
    {"cellType": "code", "content": "factor = 1", "metadata": {"tags": ["parameters"]}},
    {"cellType": "code", "content": READ},
    {"cellType": "code", "content": "print(version * factor / 0)"},
    {"cellType": "code", "content": "print('end')"},
]


class Client:
    """Requests to the project of a server."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server

    def call(self, method: str, path: str, **members: Any) -> dict[str, Any]:
        headers = {**self._server.headers, "Prefer": "wait=50"}
        address = f"{self._server.base}{path}"
        answer = requests.request(method, address, headers=headers, timeout=60, **members)
        assert answer.ok, answer.text
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def ended(self, path: str) -> dict[str, Any]:
        found = self.call("GET", path)
        assert found["status"] != "Running", found
        return found


def printed(client: Client, path: str) -> str:
    found = client.call("GET", f"{path}/results", params={"format": "detailed"})
    return "".join(str(each["content"]) for each in found["outputs"])


def test_a_failed_run_is_repaired(server: LocalServer) -> None:
    client = Client(server)
    file = {"file": ("log.csv", b"case_id,hours\na,1\n", "text/csv")}
    dataset = client.call("POST", "/dataset/csv", files=file)["datasetId"]
    body = {
        "notebookName": "To be repaired",
        "integration": {"datasetBinding": dataset},
        "initialCells": CELLS,
    }
    notebook = f"/notebook/{client.call('POST', '/notebook', json=body)['notebookId']}"

    def run(address: str, **body: Any) -> str:
        made = client.call("POST", f"{notebook}{address}", json=body)
        return f"{notebook}/execution/{made['executionId']}"

    first = client.ended(run("/execute"))
    assert (first["status"], first["error"]["terminationCode"]) == ("Error", "cell_error")
    failed = f"/execution/{first['executionId']}"

    # Mended, with another version of the dataset, and other parameters.
    file = {"file": ("log.csv", b"case_id,hours\na,1\nb,2\n", "text/csv")}
    client.call("PUT", f"/dataset/{dataset}/csv", files=file)
    cells = client.call("GET", notebook)["cells"]
    mended = [{**cell, "cellId": known["cellId"]} for cell, known in zip(CELLS, cells, strict=True)]
    mended[2]["content"] = "print(version * factor)"
    client.call("PUT", notebook, json={"cells": mended})
    repair_path = run(f"{failed}/repair", parameters={"factor": 10})
    same_path = run(f"{failed}/rerun")
    part_path = run(f"{failed}/repair", cells="fromFailed", version="same")

    repair = client.ended(repair_path)
    assert repair["status"] == "Completed"
    assert repair["cause"] == {"kind": "repair", "executionId": first["executionId"]}
    assert printed(client, repair_path) == "20\nend\n"
    # The very same fails in the same way: the cells and the dataset are those of then.
    same = client.ended(same_path)
    assert [cell["status"] for cell in same["cellResults"]] == [
        cell["status"] for cell in first["cellResults"]
    ]
    assert same["notebookVersion"] == first["notebookVersion"]
    # A new kernel knows nothing of the cells before.
    part = client.ended(part_path)
    assert part["cellResults"][0]["errorType"] == "NameError"
    assert part["cellRange"]["startCell"] == cells[2]["cellId"]

    told = client.call("GET", f"{notebook}{failed}")
    assert [each["kind"] for each in told["repetitions"]] == ["repair", "rerun", "repair"]
    chain = client.call("GET", f"{part_path}/chain")
    assert chain["firstExecutionId"] == first["executionId"]
    assert len(chain["executions"]) == 4
    assert all(len(each["attemptHistory"]) == 1 for each in chain["executions"])

    changes = client.call("GET", f"{repair_path}/changes", params={"against": first["executionId"]})
    found = changes["changes"]
    assert (found["differs"], found["unknown"]) == (["notebook", "parameters", "datasets"], [])
    assert found["notebook"]["cells"]["changed"] == [
        {"cellId": cells[2]["cellId"], "parts": ["source"]}
    ]
    assert found["parameters"]["added"] == {"factor": 10}
    assert found["datasets"] == [{"datasetId": dataset, "before": 1, "after": 2, "changed": True}]
    alike = client.call("GET", f"{same_path}/changes", params={"against": first["executionId"]})
    assert alike["changes"]["differs"] == []
    # Of itself a run is compared with the last one that succeeded.
    second = run("/execute", parameters={"factor": "x"})
    client.ended(second)
    since = client.call("GET", f"{second}/changes")
    assert since["against"]["executionId"] == repair["executionId"]
    assert since["changes"]["differs"] == ["parameters"]
    client.call("DELETE", notebook, params={"force": "true"})
