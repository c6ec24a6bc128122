"""A notebook runs by itself on a running service: kernels, Kafka and all."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from support.local_server import LocalServer

SECONDS = 60.0
pytestmark = pytest.mark.timeout(SECONDS + 60)

NOTEBOOK = {
    "notebookName": "By itself",
    "integration": {
        "scheduleExecution": {
            "cron": "* * * * *",
            "timeZone": "Europe/Berlin",
            "parameters": {"n": 7},
            "overlap": "queueAll",
        }
    },
    "initialCells": [
        {"cellType": "code", "content": "n = 0", "tags": ["parameters"]},
        {"cellType": "code", "content": "print(n * 6)"},
    ],
}


def ended(server: LocalServer, notebook: str, execution_id: str) -> dict[str, Any]:
    """The execution once it has ended; it is there from when it starts."""
    path = f"{server.base}/notebook/{notebook}/execution/{execution_id}"
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit:
        answer = requests.get(path, headers={**server.headers, "Prefer": "wait=20"}, timeout=30)
        if answer.status_code == 200 and answer.json()["status"] != "Running":
            found: dict[str, Any] = answer.json()
            return found
        time.sleep(0.2)
    raise TimeoutError(execution_id)


def test_a_schedule_starts_real_runs(server: LocalServer) -> None:
    made = requests.post(
        f"{server.base}/notebook", json=NOTEBOOK, headers=server.headers, timeout=30
    ).json()
    notebook = made["notebookId"]
    path = f"{server.base}/notebook/{notebook}/schedule"

    def post(name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = requests.post(f"{path}/{name}", json=body, headers=server.headers, timeout=30)
        assert answer.ok, answer.text
        found: dict[str, Any] = answer.json()
        return found

    # What comes due meanwhile is not to be counted.
    assert post("pause")["state"] == "paused"
    run = post("run")
    execution = ended(server, notebook, run["executionId"])
    assert execution["status"] == "Completed"
    assert execution["parameters"] == {"n": 7}
    assert execution["cause"]["trigger"] == "manual"
    results = requests.get(
        f"{server.base}/notebook/{notebook}/execution/{run['executionId']}/results",
        params={"format": "detailed"},
        headers=server.headers,
        timeout=30,
    ).json()
    assert results["outputs"][0]["content"] == "42\n"

    now = datetime.now(UTC).replace(second=0, microsecond=0)
    body = {"from": (now - timedelta(minutes=4)).isoformat(), "to": now.isoformat()}
    firings = post("backfill", body)["firings"]
    assert post("backfill", body)["firings"] == firings
    assert len(firings) == 5
    for firing in firings:
        execution = ended(server, notebook, firing["executionId"])
        assert (execution["status"], execution["cause"]["kind"]) == ("Completed", "schedule")
    listed = requests.get(
        f"{server.base}/notebook/{notebook}/executions", headers=server.headers, timeout=30
    ).json()
    assert listed["totalCount"] <= 6
    # The real thing: it fires by the clock once it is resumed.
    assert post("resume")["state"] == "active"
    shown = requests.get(path, headers=server.headers, timeout=30).json()
    assert {each["outcome"] for each in shown["firings"]} <= {"started", "queued", "skipped"}
    assert len(shown["nextFirings"]) == 5
    requests.delete(
        f"{server.base}/notebook/{notebook}",
        params={"force": "true"},
        headers=server.headers,
        timeout=30,
    )
