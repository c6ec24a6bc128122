"""RO-Crates, checked by a program of others."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.paths import ROOT, TESTS

PYTHON = ROOT / ".venv-crate" / "bin" / "python"
PROFILE = "provenance-run-crate-0.5"
_SECONDS = 120.0

needs_validator = pytest.mark.skipif(
    not PYTHON.exists(),
    reason="the validator of RO-Crates is not installed; `make setup` does that",
)

UNMET = {
    "process-run-crate-0.5_11.1": "an action has a result: a cell may put out nothing",
    "process-run-crate-0.5_3.2": "software has an address: nbledger knows none of packages",
    "process-run-crate-0.5_4.1": "software has a version: that of the service is not recorded",
    "workflow-ro-crate-1.0_6.1": "a README.md tells of the crate: its description does",
    "workflow-ro-crate-1.0_6.2": "likewise",
    "ro-crate-1.1_22.3": "a publisher is an organization: nbledger knows none",
    "ro-crate-1.1_29.1": "of files on the web: the notebook's size is known where it is with it",
    "ro-crate-1.1_29.2": "of files on the web: these come with the crate, or are known by digest",
    "ro-crate-1.1_30.2": "an author has an affiliation: nbledger knows none",
    "ro-crate-1.1_30.3": "likewise",
}
"""What the profile recommends and crates do not have, each with why."""


def faults(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """What is wrong with each, by the check that found it: what is required or recommended."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, document in enumerate(documents):
            file = Path(folder, str(number), "ro-crate-metadata.json")
            file.parent.mkdir()
            file.write_text(json.dumps(document))
            files.append(str(file))
        ended = subprocess.run(
            [PYTHON, TESTS / "support" / "validate_crate.py", PROFILE, *files],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr[-3000:]
    told = json.loads(ended.stdout)
    return [
        {
            identifier: f"{severity}: {message} ({entity})"
            for severity, identifier, message, entity in told[file]
        }
        for file in files
    ]
