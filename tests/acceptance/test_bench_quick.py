"""The benchmark runs, and writes figures of the promised shape. Their values are not judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

KEYS = ["figure", "value", "unit", "against", "againstValue", "ratio", "target", "met"]


@pytest.mark.benchmark
@pytest.mark.skipif(
    not (ROOT / ".venv-bench" / ".installed").exists(),
    reason="what the benchmark measures against is installed by `make bench`",
)
@pytest.mark.timeout(420)
@pytest.mark.parametrize(
    ("parts", "count"),
    [
        (("appends", "relay", "rebuild", "reads", "list", "repetition"), 10),
        (("latency", "throughput", "kernels", "memory"), 11),
        (("results", "datasets"), 5),
    ],
)
def test_every_figure_is_measured_and_written(
    tmp_path: Path, parts: tuple[str, ...], count: int
) -> None:
    output = tmp_path / "bench.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick", "--json", output),
            *(word for part in parts for word in ("--only", part)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(output.read_text("utf-8"))
    assert len(figures) == count
    for figure in figures:
        assert list(figure) == KEYS
        assert all(isinstance(figure[key], str) for key in ("figure", "unit", "against", "target"))
        assert all(figure[key] > 0 for key in ("value", "againstValue", "ratio"))
        assert isinstance(figure["met"], bool)
        assert figure["unit"] in done.stdout
