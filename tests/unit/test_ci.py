"""What CI forgives: nothing but tests that say which stall of the machine can fail them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

TEST = """\
import pytest

@pytest.mark.stalls("reads a clock of the machine")
def test_marked():
    assert False

def test_unmarked():
    assert {unmarked}
"""


def verdict(folder: Path, unmarked: str) -> subprocess.CompletedProcess[str]:
    """What CI makes of a run of the two tests, the unmarked one passing or not."""
    (folder / "tests").mkdir()
    for name in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / "tests/support").symlink_to(REPOSITORY / "tests/support")
    (folder / "tests/test_two.py").write_text(TEST.format(unmarked=unmarked))
    report = folder / "report.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", f"--junitxml={report}", "tests/test_two.py"],
        cwd=folder,
        capture_output=True,
        timeout=100,
        check=False,
    )
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "tests/support/failed_by_stall.py"), str(report)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(("unmarked", "status"), [("True", 0), ("False", 1)])
def test_only_marked_failures_are_run_again(tmp_path: Path, unmarked: str, status: int) -> None:
    found = verdict(tmp_path, unmarked)

    assert found.returncode == status, found.stdout + found.stderr
    assert "test_marked: reads a clock of the machine" in found.stdout
    assert ("test_unmarked: no stall of the machine" in found.stdout) == (status == 1)


def test_a_run_without_a_report_has_failed(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, str(REPOSITORY / "tests/support/failed_by_stall.py"), str(tmp_path / "x")],
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert finished.returncode == 1
