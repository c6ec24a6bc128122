"""kill -9 of a whole ``nbledger up`` in the middle of work: the next one has lost nothing."""

import time
from typing import Any

import pytest
import requests
from support.local_server import LocalServer, local_server
from support.processes import alive

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]
SECONDS = 90.0


def post(server: LocalServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = requests.post(server.base + path, json=body, headers=server.headers, timeout=10)
    assert answer.ok, answer.text
    found: dict[str, Any] = answer.json()
    return found


def get(server: LocalServer, path: str) -> dict[str, Any]:
    answer = requests.get(server.base + path, headers=server.headers, timeout=10)
    assert answer.ok, answer.text
    found: dict[str, Any] = answer.json()
    return found


def wait_until(server: LocalServer, path: str, done: Any) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while not done(found := get(server, path)):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def ended(execution: dict[str, Any]) -> bool:
    return bool(execution["status"] != "Running")


def code(*sources: str) -> dict[str, Any]:
    cells = [{"cellType": "code", "content": source} for source in sources]
    return {"notebookName": "survivor", "initialCells": cells}


@pytest.mark.guarantee("G8")
def test_everything_is_still_there_and_nobody_is_left_over() -> None:
    settings = {
        "NBLEDGER_WORKER_CONCURRENCY": "1",
        "NBLEDGER_WORKER_LEASE_SECONDS": "6",
        "NBLEDGER_WORKER_RENEW_SECONDS": "1.5",
    }
    with local_server(settings) as server:
        finished = post(server, "/notebook", code("print('kept')"))
        path = f"/notebook/{finished['notebookId']}"
        first = post(server, f"{path}/execute", {})
        first_path = f"{path}/execution/{first['executionId']}"
        wait_until(server, first_path, ended)
        results = get(server, f"{first_path}/results?format=detailed")

        slow = post(server, "/notebook", code("print('before')", "import time; time.sleep(600)"))
        slow_path = f"/notebook/{slow['notebookId']}"
        running = post(server, f"{slow_path}/execute", {})
        running_path = f"{slow_path}/execution/{running['executionId']}"
        wait_until(server, running_path, lambda x: x.get("currentCell") == "cell-002")
        waiting = post(server, f"{path}/execute", {})
        waiting_path = f"{path}/execution/{waiting['executionId']}"

        members = server.members()
        server.process.kill()
        server.process.communicate(timeout=10)
        server.start()

        assert alive([p for p in members if p.pid != server.process.pid]) == []
        assert (
            get(server, f"{first_path}/results?format=detailed")["outputs"][0]["content"]
            == results["outputs"][0]["content"]
        )
        # What was waiting runs, though the broker has forgotten it.
        assert wait_until(server, waiting_path, ended)["status"] == "Completed"
        # What was running has an end, and what it had put out is still there.
        lost = wait_until(server, running_path, ended)
        assert lost["status"] == "Error"
        assert lost["terminationCode"] == "worker_lost"
        kept = get(server, f"{running_path}/results?format=detailed")
        assert kept["outputs"][0]["content"] == "before\n"
        assert get(server, "/notebooks")["totalCount"] == 2
