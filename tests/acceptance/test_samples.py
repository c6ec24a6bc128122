"""The two sample programs of the API's description, as they stand but for host, ids and token."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.local_server import LocalServer
from support.node import node

SAMPLES = Path(__file__).with_name("samples")
SECONDS = 110.0
pytestmark = [
    pytest.mark.timeout(SECONDS + 60),
    pytest.mark.stalls("the sample programs ask every 15 seconds, within a bound"),
]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False, env=os.environ
    )


def test_python(server: LocalServer, tmp_path: Path) -> None:
    text = (SAMPLES / "workflow.py").read_text()
    for placeholder, value in {
        "https://your-mindzie-instance.com": server.info.url,
        "tenant-guid": server.info.tenant_id,
        "project-guid": server.info.project_id,
        "your-auth-token": server.info.token,
    }.items():
        assert text.count(placeholder) == 1
        text = text.replace(placeholder, value)
    program = tmp_path / "workflow.py"
    program.write_text(text)
    ended = run([sys.executable, str(program)])
    assert ended.returncode == 0, ended.stderr
    assert "Error in notebook workflow" not in ended.stdout
    assert "Notebook execution completed successfully!" in ended.stdout, ended.stdout
    outputs = next(line for line in ended.stdout.splitlines() if "Generated outputs" in line)
    assert int(outputs.rpartition(":")[2]) >= 5


def test_javascript(server: LocalServer, tmp_path: Path) -> None:
    text = (SAMPLES / "workflow.js").read_text()
    assert text.count("/api/{tenantId}/{projectId}") == 4
    text = text.replace("/api/{tenantId}/{projectId}", server.base)
    program = tmp_path / "workflow.js"
    program.write_text(f"const token = {json.dumps(server.info.token)};\n{text}")
    ended = run([node(), str(program)])
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert "Created notebook:" in ended.stdout
    assert "Notebook execution completed!" in ended.stdout, ended.stdout
    assert "Execution Results:" in ended.stdout
