"""A notebook runs because of new data, and another one because of what that run has made."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
from support.local_server import LocalServer

SECONDS = 60.0
pytestmark = pytest.mark.timeout(2 * SECONDS + 60)

ENRICHES = """
from mindzie_sdk import ProcessMiningClient
client = ProcessMiningClient()
data = client.load_dataset()
data["double"] = data["amount"] * 2
client.save_enriched_dataset(data, "doubled")
"""


class Project:
    """The project of the server, over HTTP."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server

    def call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        headers = {**self._server.headers, **more.pop("headers", {})}
        answer = requests.request(
            method, f"{self._server.base}{path}", headers=headers, timeout=40, **more
        )
        assert answer.ok, answer.text
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found

    def notebook(self, dataset: str, source: str) -> str:
        body = {
            "notebookName": "By itself",
            "integration": {"datasetBinding": dataset, "autoExecution": {"quietSeconds": 0}},
            "initialCells": [{"cellType": "code", "content": source}],
        }
        made = self.call("POST", "/notebook", json=body)
        assert [each for each in made["warnings"] if "auto" in each] == []
        found: str = made["notebookId"]
        return found

    def triggers(self, notebook: str, count: int) -> list[dict[str, Any]]:
        """What became of the notebook's changes, once it is so much; the newest first."""
        limit = time.monotonic() + SECONDS
        while True:
            found: list[dict[str, Any]] = self.call(
                "GET", f"/notebook/{notebook}/automatic-execution"
            )["triggers"]
            if len(found) >= count:
                return found
            assert time.monotonic() < limit, found
            time.sleep(0.2)

    def ended(self, notebook: str, execution: str) -> dict[str, Any]:
        limit = time.monotonic() + SECONDS
        while True:
            found = self.call(
                "GET",
                f"/notebook/{notebook}/execution/{execution}",
                headers={"Prefer": "wait=20"},
            )
            if found["status"] != "Running":
                return found
            assert time.monotonic() < limit, found


def test_new_data_starts_real_runs_along_the_chain(server: LocalServer) -> None:
    project = Project(server)
    files = {"file": ("orders.csv", "amount\n1\n")}
    dataset = project.call("POST", "/dataset/csv", files=files)["datasetId"]
    first = project.notebook(dataset, ENRICHES)
    project.call("PUT", f"/dataset/{dataset}/csv", files={"file": ("o.csv", "amount\n1\n2\n")})
    (trigger,) = project.triggers(first, 1)
    ran = project.ended(first, trigger["executionId"])
    assert ran["status"] == "Completed", ran
    assert ran["cause"] == {
        "kind": "dataset",
        "datasetId": dataset,
        "datasetVersion": 2,
        "triggerId": trigger["triggerId"],
        "changes": 1,
    }
    results = project.call("GET", f"/notebook/{first}/execution/{ran['executionId']}/results")
    (enriched,) = results["enrichedDatasets"]
    made = enriched["datasetId"]
    version = project.call("GET", f"/dataset/{made}")["versions"][0]
    assert version["createdBy"] == ran["requestedBy"] != "automation"

    # Another notebook is bound to what this one makes, and this one to what it makes itself, too.
    second = project.notebook(made, "print('downstream')")
    project.call("PUT", f"/notebook/{first}", json={"integration": {"datasetBinding": made}})
    project.call("POST", f"/notebook/{first}/execute", json={})
    (started,) = project.triggers(second, 1)
    assert project.ended(second, started["executionId"])["cause"]["datasetVersion"] == 2
    assert started["chains"] == [[first]]
    skipped, _ = project.triggers(first, 2)
    assert (skipped["outcome"], skipped["reason"]) == ("skipped", "loop")
    for notebook in (first, second):
        project.call("DELETE", f"/notebook/{notebook}", params={"force": "true"})
