"""The examples in the documentation of what notebooks import."""

import doctest
import importlib
from pathlib import Path
from types import ModuleType

import pytest

MODULES = (
    "mindzie_sdk.client",
    "mindzie_sdk.frames",
    "mindzie_sdk.models",
    "mindzie_sdk.reports",
    "process_mining_utils.measures",
)


def examples(module: ModuleType) -> list[doctest.DocTest]:
    found = doctest.DocTestFinder(exclude_empty=True).find(module)
    return [each for each in found if each.examples]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NBLEDGER_RUN_FILE", raising=False)
    runner = doctest.DocTestRunner()
    tests = examples(importlib.import_module(name))
    assert tests
    for number, test in enumerate(tests):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_each_thing_to_call_has_an_example() -> None:
    client = importlib.import_module("mindzie_sdk.client").ProcessMiningClient
    public = [name for name in vars(client) if not name.startswith("_")]
    shown = {
        each.name.rpartition(".")[2]
        for module in MODULES
        for each in examples(importlib.import_module(module))
    }
    utilities = importlib.import_module("process_mining_utils").__all__
    assert set(public) | set(utilities) <= shown
