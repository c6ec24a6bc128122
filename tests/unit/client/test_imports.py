"""What importing the client loads."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

PURE = ["core.requests", "configuration", "errors", "verbs.shared"]


def loaded(program: str) -> set[str]:
    program += "\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    return {each.partition(".")[0] for each in done.stdout.split()} | set(done.stdout.split())


def test_importing_it_loads_nothing_but_itself() -> None:
    found = loaded("import nbledger_client")
    assert not found & {"httpx", "msgspec", "anyio", "asyncio", "ssl", "rich", "click", "polars"}


def test_a_client_loads_the_verbs_that_are_used() -> None:
    found = loaded(
        "from nbledger_client import Client\n"
        "client = Client('http://127.0.0.1:9', token='t', tenant_id='t', project_id='p')\n"
        "client.executions\n"
    )
    assert {"httpx", "nbledger_client.models.executions"} <= found
    assert not found & {"rich", "click", "polars", "pandas", "nbledger_client.models.webhooks"}


@pytest.mark.parametrize("module", PURE)
def test_examples_of_what_needs_no_server_are_true(module: str) -> None:
    found = importlib.import_module(f"nbledger_client.{module}")
    failed, tried = doctest.testmod(found)
    assert tried
    assert not failed
