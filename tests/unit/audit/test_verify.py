"""``verify.py``: true bundles pass, each kind of false one is found, and the place is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.all_forgeries import all_forgeries
from support.forgeries import Forgery
from support.verifying import SOURCE, Prepared, prepare, probes, said

PROGRAM = compile(SOURCE.read_text(), str(SOURCE), "exec")
ALL = [*all_forgeries()]


@pytest.mark.guarantee("G44")
@pytest.mark.parametrize("forgery", ALL, ids=lambda each: each.name)
def test_what_is_said_of_a_bundle(forgery: Forgery, tmp_path: Path) -> None:
    prepared = prepare(forgery, tmp_path / "it")
    assert said(PROGRAM, prepared.arguments) == prepared.said


@pytest.mark.parametrize("probe", probes(), ids=lambda each: each.name)
def test_what_is_asked_of_it(probe: Prepared) -> None:
    """Paths are those of tlog-tiles, also in logs that no test makes."""
    assert said(PROGRAM, [], probe.probe) == probe.said


@pytest.mark.guarantee("G45")
def test_it_is_a_program_of_its_own(tmp_path: Path) -> None:
    """It runs where nothing of nbledger is, with the status that VERIFY.md tells."""
    program = tmp_path / "verify.py"
    program.write_bytes(SOURCE.read_bytes())
    good, bad = (
        prepare(next(each for each in ALL if each.name == name), tmp_path / name)
        for name in ("held", "other data")
    )
    for arguments, status in (
        (good.arguments, 0),
        (bad.arguments, 1),
        ([], 2),
        ([str(tmp_path / "not there")], 2),
        ([str(good.path), "--held", str(tmp_path / "not there")], 2),
        ([str(good.path), "--policy", str(tmp_path / "not there")], 2),
    ):
        ended = subprocess.run(
            [sys.executable, "-I", str(program), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == status, ended
    told = ended.stderr.splitlines()
    assert told[-1].endswith(f"No such file or directory: '{tmp_path / 'not there'}'")


@pytest.mark.guarantee("G45")
def test_it_is_short() -> None:
    assert len(SOURCE.read_text().splitlines()) <= 240
