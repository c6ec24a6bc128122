"""The demonstration, as ``make demo`` runs it."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pytest
from support.paths import ROOT

SECONDS: Final = 170.0

pytestmark = [
    pytest.mark.timeout(SECONDS + 30),
    pytest.mark.stalls("the demonstration is bounded in seconds of the clock"),
]


def test_demo_runs_to_its_end_and_prints_results() -> None:
    # As in a checkout: not below the temporary folder, which kernels have for themselves, with the
    # home where it is by default, and with modules imported from beside it.
    with tempfile.TemporaryDirectory(
        prefix=".demo-", dir=ROOT, ignore_cleanup_errors=True
    ) as folder:
        Path(folder).chmod(0o711)
        variables = {name: os.environ[name] for name in os.environ if name != "NBLEDGER_HOME"}
        ended = subprocess.run(
            [sys.executable, "-m", "nbledger", "demo"],
            cwd=folder,
            env={
                **variables,
                "PYTHONPATH": folder,
                "NBLEDGER_PORT": "0",
                "DEMO_EXIT": "1",
                "COLUMNS": "120",
            },
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Created a notebook from process_mining_starter" in ended.stdout
    assert "Execution: Completed" in ended.stdout
    assert "bottleneckActivities" in ended.stdout
    assert "image/png" in ended.stdout
    lines = ended.stdout.splitlines()
    for kind in ("Dataset customer_journey_enhanced (", "Model slow_case_predictor (", "Report "):
        (at, *_) = [number for number, line in enumerate(lines) if line.startswith(kind)]
        assert re.fullmatch(r"  http://127\.0\.0\.1:\d+/\S+", lines[at + 1]), lines[at + 1]
