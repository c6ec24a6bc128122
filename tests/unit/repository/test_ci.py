"""What CI forgives: nothing but tests that say which stall of the machine can fail them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from support.paths import ROOT

TESTS = """\
import pytest

@pytest.mark.stalls("reads a clock of the machine")
def test_marked():
    assert False

def test_unmarked():
    assert False
"""


def reported(folder: Path) -> Path:
    """The report of a run, by a worker of xdist as in CI, in which both tests fail."""
    (folder / "tests").mkdir()
    for name in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "tests/support").symlink_to(ROOT / "tests/support")
    (folder / "tests/test_two.py").write_text(TESTS)
    report = folder / "report.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", f"--junitxml={report}", "tests/test_two.py"],
        cwd=folder,
        capture_output=True,
        timeout=100,
        check=False,
    )
    return report


def verdict(report: Path) -> subprocess.CompletedProcess[str]:
    """What CI makes of the report."""
    return subprocess.run(
        [sys.executable, str(ROOT / "tests/support/failed_by_stall.py"), str(report)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_only_marked_failures_are_run_again(tmp_path: Path) -> None:
    report = reported(tmp_path)
    both = verdict(report)
    # The report of the same run, had the unmarked test passed.
    tree = ET.parse(report)  # noqa: S314 (our own report)
    (unmarked,) = tree.iterfind(".//testcase[@name='test_unmarked']")
    unmarked.remove(*unmarked.iterfind("failure"))
    tree.write(report)
    marked = verdict(report)

    assert both.returncode == 1, both.stdout + both.stderr
    assert "test_marked: reads a clock of the machine" in both.stdout
    assert "test_unmarked: no stall of the machine" in both.stdout
    assert marked.returncode == 0, marked.stdout + marked.stderr
    assert "test_marked: reads a clock of the machine" in marked.stdout
    assert "test_unmarked" not in marked.stdout


def test_a_run_without_a_report_has_failed(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, str(ROOT / "tests/support/failed_by_stall.py"), str(tmp_path / "x")],
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert finished.returncode == 1
