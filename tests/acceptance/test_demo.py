"""The demonstration, as ``make demo`` runs it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def test_demo_runs_to_its_end_and_prints_results() -> None:
    with tempfile.TemporaryDirectory(prefix="nbh-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        ended = subprocess.run(
            [sys.executable, "-m", "nbledger", "demo"],
            env={
                **os.environ,
                "NBLEDGER_HOME": f"{folder}/home",
                "NBLEDGER_PORT": "0",
                "DEMO_EXIT": "1",
                "COLUMNS": "120",
            },
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Created a notebook from process_mining_starter" in ended.stdout
    assert "Execution: Completed" in ended.stdout
    assert "bottleneckActivities" in ended.stdout
    assert "image/png" in ended.stdout
