"""Which kernels are started with a guard of their output, and how."""

from __future__ import annotations

import pytest

from nbledger_workers.kernel.processes.provisioner import guarded
from nbledger_workers.kernel.standalone import publishing

GUARD = publishing.__file__
REST = ["-f", "{connection_file}"]


@pytest.mark.parametrize(
    ("before", "module"),
    [
        (["/usr/bin/python3.11"], "ipykernel_launcher"),
        (["python", "-Xfrozen_modules=off"], "ipykernel_launcher"),
        (["/opt/env/bin/python3", "-X", "dev", "-W", "error", "-u"], "bash_kernel"),
        (["pypy3"], "nbledger_workers.languages.scala_kernel"),
    ],
)
def test_modules_of_python_are_run_with_a_guard(before: list[str], module: str) -> None:
    assert guarded([*before, "-m", module, *REST]) == [*before, GUARD, module, *REST]


@pytest.mark.parametrize(
    "command",
    [
        ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"],
        ["python3", "-c", "import kernel", "-m", "kernel"],
        ["python3", "kernel.py", "-m", "kernel"],
        ["python3", "-m"],
        ["python3"],
        ["java", "-jar", "almond.jar"],
        ["pythonic", "-m", "kernel"],
    ],
)
def test_other_commands_are_left_as_they_are(command: list[str]) -> None:
    assert guarded(command) == command
