"""The examples in the client's docstrings, each run against a running service."""

from __future__ import annotations

import contextlib
import doctest
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from support.client_verbs import groups, verbs
from support.local_server import LocalServer
from support.paths import ROOT
from support.wheels import make_wheel

import nbledger_client
from nbledger_client import AsyncClient, Client
from nbledger_client import errors as client_errors

RESULTS = """
print(42)
import polars
from mindzie_sdk import ProcessMiningClient
scores = polars.DataFrame({"case": ["a", "b"], "score": [0.5, 1.0]})
ProcessMiningClient().save_enriched_dataset(scores, "scores", "csv")
"""
WHEEL = "our_rules-1.0-py3-none-any.whl"

EXAMPLES = {
    f"{group.__name__}.{name}": each for group in groups() for name, each in verbs(group).items()
}


def cell(source: str, *tags: str) -> dict[str, Any]:
    return {"cellType": "code", "content": source, "tags": list(tags)}


@pytest.fixture(scope="module")
def connection(server: LocalServer) -> Iterator[dict[str, str]]:
    """A project of this module's own, named by the environment; the token is good for all."""
    info = server.info
    named = {
        "NBLEDGER_URL": info.url,
        "NBLEDGER_TOKEN": info.token,
        "NBLEDGER_TENANT": info.tenant_id,
        "NBLEDGER_PROJECT": str(uuid4()),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in named.items():
            patch.setenv(name, value)
        yield named


@pytest.fixture(scope="module")
def client(connection: dict[str, str]) -> Iterator[Client]:
    with Client() as made:
        yield made


@pytest.fixture(scope="module")
def things(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the examples name, in a folder with the files that they name."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "data").mkdir()
    (folder / "data" / "input.csv").write_text("a\n1\n")
    first: dict[str, Any] = {
        "id": "a",
        "cell_type": "code",
        "source": "limit = 1",
        "outputs": [],
        "execution_count": None,
        "metadata": {"tags": ["parameters"]},
    }
    file = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [first]}
    (folder / "analysis.ipynb").write_text(json.dumps(file))
    make_wheel(folder, "our_rules")
    spare = make_wheel(folder / "spare", "our_spares")
    create = client.notebooks.create
    notebook = create(
        notebook_name="Loans", initial_cells=[cell("limit = 1", "parameters"), cell(RESULTS)]
    )
    broken = create(notebook_name="Broken", initial_cells=[cell("1 / 0")])
    asked = client.executions.run(notebook, tags=["nightly"])
    failing = client.executions.run(broken)
    found = {
        "client": client,
        "notebook": notebook,
        "planned": create(notebook_name="Planned", initial_cells=[cell("1")]),
        "slow": create(notebook_name="Slow", initial_cells=[cell("import time; time.sleep(600)")]),
        "dataset": client.datasets.upload(b"case,amount\n0017,120\n", "Orders"),
        "library": client.libraries.upload(folder / WHEEL),
        "spare": client.libraries.upload(spare),
        "webhook": client.webhooks.create(url="https://receiver.example.org/"),
        "run": client.executions.wait(asked, timeout=90),
        "failed": client.executions.wait(failing, timeout=90),
        **{name: getattr(client_errors, name) for name in dir(client_errors)},
    }
    assert found["run"].status == "Completed", found["run"]
    _until_signed(client)
    with contextlib.chdir(folder):
        yield found


def _until_signed(client: Client) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            if client.proofs.log().signed_size:
                return
        except client_errors.NotFoundError:
            pass
        assert time.monotonic() < until
        time.sleep(0.1)


def run_examples(text: str, name: str, names: dict[str, Any]) -> None:
    parser = doctest.DocTestParser()
    told: list[str] = []
    test = parser.get_doctest(text, dict(names), name, None, 0)
    assert test.examples, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=told.append)
    assert not runner.failures, "".join(told)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_verb_is_true(name: str, things: dict[str, Any]) -> None:
    run_examples(EXAMPLES[name].__doc__ or "", name, things)


@pytest.mark.parametrize("page", ["docs/client.md", "README.md"])
def test_the_code_of_a_page_works(page: str, things: dict[str, Any]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    of_client = [block for block in blocks if "nbledger_client" in block]
    assert of_client
    for block in of_client:
        exec(compile(block, page, "exec"), {})  # noqa: S102 - our own page


@pytest.mark.parametrize("what", [nbledger_client, Client, AsyncClient])
def test_the_example_of_a_client_is_true(what: Any, things: dict[str, Any]) -> None:
    run_examples(what.__doc__, str(what), {**things, "Client": Client, "AsyncClient": AsyncClient})
