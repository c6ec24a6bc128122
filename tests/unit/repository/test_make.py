"""What `make` lists works as it is listed: without any argument."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

from nbledger.embedded import apache_kafka

MAKE = shutil.which("make")
TARGETS = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)

pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed")


def commands(target: str) -> list[list[str]]:
    """What `make target` would run, as words, without set-up that is done already."""
    environment = {name: text for name, text in os.environ.items() if name != "ARGS"}
    told = subprocess.run(
        [str(MAKE), "--dry-run", "--no-print-directory", target],
        cwd=ROOT, env=environment, text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    lines = told.stdout.replace("\\\n", " ").splitlines()
    assert lines, f"make {target} does nothing"
    found = []
    for line in lines:
        words = shlex.split(line, posix=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        found.append(words)
    return found


def test_every_target_is_listed_and_can_be_made() -> None:
    listed = subprocess.run(
        [str(MAKE), "--no-print-directory"],
        cwd=ROOT, text=True, capture_output=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert re.findall(r"^  make ([a-z-]+) ", listed, re.MULTILINE) == TARGETS
    assert {"demo", "test", "kafka"} <= set(TARGETS)
    for target in TARGETS:
        commands(target)


def test_every_program_of_ours_starts_without_arguments() -> None:
    programs = {
        tuple(words[1:])
        for target in TARGETS
        for words in commands(target)
        if words[0].endswith("/python") and words[1:2] == ["-m"]
        if words[2].partition(".")[0] in ("nbledger", "benchmarks")
    }
    assert {program[1] for program in programs} == {
        "nbledger.embedded.apache_kafka",
        "benchmarks",
    }
    for program in programs:
        told = subprocess.run(
            [sys.executable, *program, "--help"],
            cwd=ROOT, text=True, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
        usage = told.stdout.partition("\n\n")[0].partition(" [-h]")[2]
        assert re.sub(r"\[[^]]*\]", "", usage).strip() == "", "what it needs has no default"


def test_every_script_is_there_and_reads_as_shell() -> None:
    scripts = {words[0] for target in TARGETS for words in commands(target) if ".sh" in words[0]}
    assert scripts == {f"deploy/{name}/install.sh" for name in ("r", "scala", "browser")}
    for script in scripts:
        assert os.access(ROOT / script, os.X_OK)
        subprocess.run(["sh", "-n", ROOT / script], timeout=60, check=True)


def test_apache_kafka_keeps_its_data_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLEDGER_HOME", "/somewhere")
    assert apache_kafka.options_of([]).data == Path("/somewhere/apache-kafka")
    monkeypatch.delenv("NBLEDGER_HOME")
    assert apache_kafka.options_of([]).data == Path(".nbledger/apache-kafka")
    assert apache_kafka.options_of([]).port == 9092
