"""What a client is told of every way in which a cell, a run and its notebook can end."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
import requests
from support.local_server import LocalServer

SECONDS = 60.0
pytestmark = [
    pytest.mark.timeout(SECONDS + 120),
    pytest.mark.stalls("its runs are stopped by the clock, in steps of seconds"),
]


class Case(msgspec.Struct, frozen=True):
    """Cells, each its source and its tags, what is asked for, and what is told at the end."""

    name: str
    cells: list[str | tuple[str, str]]
    cell_statuses: list[str]
    status: str
    code: str
    category: str
    notebook: str
    options: dict[str, Any] = {}
    errors: list[tuple[str, str]] = []
    """Type and part of the message for each cell that ended in error."""
    shown: dict[str, str] = {}
    """For each cell that shows an error: part of its traceback, as text."""
    failed_cells: int = 0


DONE = ("Completed", "success", "success", "Ready")
BROKEN = ("Error", "cell_error", "user_error", "Error")
SLEEP = "import time; time.sleep(600)"
FILL = """
import time
for number in range(120):
    open(f"{number}", "wb").write(bytes(1_000_000))
time.sleep(600)
"""

CASES = [
    # Both take their time, while the others run.
    Case(
        "timeout",
        ["1", SLEEP, "2"],
        ["Success", "TimedOut", "Skipped"],
        *("Error", "run_timeout", "limit", "Error"),
        options={"timeout": 8, "continueOnError": True},
        shown={"cell-002": "KeyboardInterrupt"},
        failed_cells=1,
    ),
    Case(
        "cancelled",
        ["1", SLEEP, "2"],
        ["Success", "Cancelled", "Skipped"],
        *("Cancelled", "cancelled", "cancelled", "Ready"),
        shown={"cell-002": "KeyboardInterrupt"},
    ),
    Case("success", ["1", "print('kept')"], ["Success", "Success"], *DONE),
    Case(
        "error",
        ["print('before')", "def inner():\n    raise KeyError('gone')\ninner()", "1", "2"],
        ["Success", "Error", "Skipped", "Skipped"],
        *BROKEN,
        errors=[("KeyError", "'gone'")],
        shown={"cell-002": "in inner()\n"},
        failed_cells=1,
    ),
    Case(
        "syntax error",
        ["1 +", "1"],
        ["Error", "Skipped"],
        *BROKEN,
        errors=[("SyntaxError", "invalid syntax")],
        shown={"cell-001": "SyntaxError"},
        failed_cells=1,
    ),
    Case(
        "skip-execution",
        ["x = 1", ("x = 2", "skip-execution"), "assert x == 1"],
        ["Success", "Skipped", "Success"],
        *DONE,
    ),
    Case(
        "raises-exception",
        [("1 / 0", "raises-exception"), ("1", "raises-exception"), "2"],
        ["Success", "Success", "Success"],
        *DONE,
        shown={"cell-001": "ZeroDivisionError"},
    ),
    Case("SystemExit(0)", ["raise SystemExit(0)", "1"], ["Success", "Skipped"], *DONE),
    Case(
        "SystemExit(3)",
        ["raise SystemExit(3)", "1"],
        ["Error", "Skipped"],
        *BROKEN,
        errors=[("SystemExit", "3")],
        shown={"cell-001": "SystemExit: 3"},
        failed_cells=1,
    ),
    Case(
        "continueOnError",
        ["1 / 0", "print('goes on')", "int('x')", "2"],
        ["Error", "Success", "Error", "Success"],
        *DONE,
        options={"continueOnError": True},
        errors=[("ZeroDivisionError", "division by zero"), ("ValueError", "invalid literal")],
        shown={"cell-001": "ZeroDivisionError: division", "cell-003": "ValueError: invalid"},
        failed_cells=2,
    ),
    Case(
        "cellTimeout",
        ["1", SLEEP, "2"],
        ["Success", "TimedOut", "Skipped"],
        *("Error", "cell_timeout", "limit", "Error"),
        options={"cellTimeout": 4},
        shown={"cell-002": "KeyboardInterrupt"},
        failed_cells=1,
    ),
    Case(
        "cellTimeout with continueOnError",
        [SLEEP, "1"],
        ["TimedOut", "Success"],
        *DONE,
        options={"cellTimeout": 4, "continueOnError": True},
        shown={"cell-001": "KeyboardInterrupt"},
        failed_cells=1,
    ),
    Case(
        "kernel death",
        ["print('kept')", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "1"],
        ["Success", "Error", "Skipped"],
        *("Error", "kernel_died", "user_error", "Kernel_Dead"),
        options={"continueOnError": True},
        errors=[("KernelDied", "SIGKILL")],
        failed_cells=1,
    ),
    Case(
        "limit",
        ["print('kept')", FILL, "1"],
        ["Success", "Error", "Skipped"],
        *("Error", "disk_limit", "limit", "Error"),
        options={"continueOnError": True},
        errors=[("DiskLimitExceeded", "the limit is 80 MB")],
        shown={"cell-002": "the limit is 80 MB"},
        failed_cells=1,
    ),
]


class Client:
    """Calls the API, and has all cases executed at once."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self.executions = {case.name: self._execute(case) for case in CASES}

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        answer = requests.request(
            method,
            f"{self._server.base}/{path}",
            json=body,
            headers={**self._server.headers, **headers},
            timeout=90,
        )
        assert answer.ok, answer.text
        return answer.json()

    def _execute(self, case: Case) -> tuple[str, str]:
        cells = [(each, "") if isinstance(each, str) else each for each in case.cells]
        body = {
            "notebookName": case.name,
            "initialCells": [
                {"cellType": "code", "content": source, "metadata": {"tags": [tag] if tag else []}}
                for source, tag in cells
            ],
        }
        notebook = f"notebook/{self.call('POST', 'notebook', body)['notebookId']}"
        assert self.call("GET", notebook)["status"] == "Ready"
        execution_id = self.call("POST", f"{notebook}/execute", case.options)["executionId"]
        return notebook, f"{notebook}/execution/{execution_id}"

    def until_sleeping(self, execution: str) -> None:
        """Wait until the second cell runs."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if self.call("GET", execution)["cellResults"][1]["status"] == "Running":
                return
            time.sleep(0.05)
        raise AssertionError("the second cell does not begin")


@pytest.fixture(scope="module")
def client(server: LocalServer) -> Client:
    """Of the server, whose runs may take 80 MB of disk."""
    return Client(server)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_told_as_what_it_ended(client: Client, case: Case) -> None:
    notebook, execution = client.executions[case.name]
    if case.status == "Cancelled":
        client.until_sleeping(execution)
        assert client.call("GET", notebook)["status"] == "Running"
        client.call("POST", f"{execution}/cancel")
    told = client.call("GET", execution, Prefer="wait=60")

    cells = told["cellResults"]
    assert [each["status"] for each in cells] == case.cell_statuses
    ended = (told["status"], told["terminationCode"], told["terminationCategory"])
    assert ended == (case.status, case.code, case.category)
    assert client.call("GET", notebook)["status"] == case.notebook
    progress = told["progress"]
    assert progress["totalCells"] == len(case.cells)
    assert progress["failedCells"] == case.failed_cells
    assert progress["successfulCells"] == case.cell_statuses.count("Success")
    errors = [each for each in cells if each["status"] == "Error"]
    assert [each["errorType"] for each in errors] == [kind for kind, _ in case.errors]
    for cell, (_, message) in zip(errors, case.errors, strict=True):
        assert message in cell["errorMessage"]
    # And what was produced stays readable.
    outputs = client.call("GET", f"{execution}/results")["outputs"]
    texts = {
        each["cellId"]: requests.get(each["downloadUrl"], timeout=60).content.decode()
        for each in outputs
        if each["outputType"] == "error"
    }
    assert texts.keys() == case.shown.keys()
    for cell_id, text in case.shown.items():
        assert text in texts[cell_id]
    kept = [number for number, cell in enumerate(case.cells, 1) if "print(" in cell]
    assert {f"cell-{number:03d}" for number in kept} <= {each["cellId"] for each in outputs}
