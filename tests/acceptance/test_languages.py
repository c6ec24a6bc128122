"""Notebooks in R and Scala through the whole system: from POST to results."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
from support.languages import kernelspec
from support.local_server import LocalServer

SECONDS = 150.0
pytestmark = pytest.mark.timeout(SECONDS + 60)

SOURCES = {
    "r": ["name <- 'nobody'", "cat('hello', name, length(items), '\\n')", "data.frame(a = 1:2)"],
    "scala": [
        'val name = "nobody"',
        'println(s"hello $name ${items.size} ")',
        'publish.html("<table><tr><td>2</td></tr></table>")',
    ],
}


@pytest.mark.parametrize("kernel_type", SOURCES)
def test_a_notebook_of_the_language_is_executed(server: LocalServer, kernel_type: str) -> None:
    kernelspec(kernel_type)

    def call(method: str, path: str, body: Any = None, **headers: str) -> Any:
        answer = requests.request(
            method,
            f"{server.base}/{path}",
            json=body,
            headers={**server.headers, **headers},
            timeout=60,
        )
        assert answer.ok, answer.text
        return answer.json()

    first, *others = SOURCES[kernel_type]
    cells = [
        {"cellType": "code", "content": first, "metadata": {"tags": ["parameters"]}},
        *({"cellType": "code", "content": source} for source in others),
    ]
    notebook = call(
        "POST",
        "notebook",
        {"notebookName": f"in {kernel_type}", "kernelType": kernel_type, "initialCells": cells},
    )
    path = f"notebook/{notebook['notebookId']}"
    given = {"name": 'Zoë "Z" \\', "items": [1, "two", None]}
    asked = call("POST", f"{path}/execute", {"parameters": given, "timeout": int(SECONDS)})
    execution = f"{path}/execution/{asked['executionId']}"
    until = time.monotonic() + SECONDS
    status = asked
    while status["status"] == "Running" and time.monotonic() < until:
        status = call("GET", execution, Prefer="wait=20")
    assert status["status"] == "Completed", status
    results = call("GET", f"{execution}/results")
    contents = [
        requests.get(output["downloadUrl"], timeout=60).content.decode()
        for output in results["outputs"]
    ]
    assert any('hello Zoë "Z" \\ 3' in content for content in contents), contents
    assert any("<td>2</td>" in content for content in contents), contents
