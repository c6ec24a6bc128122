"""A library of one's own, uploaded by the documented command and imported by a run."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
from support.local_server import LocalServer
from support.paths import ROOT
from support.wheels import make_wheel

DOCS = (ROOT / "docs" / "results.md").read_text()


def test_the_documented_command_gives_a_library_to_runs(
    server: LocalServer, tmp_path: Path
) -> None:
    (command,) = re.findall(r"```sh\n(curl [^`]*/library\"\n)```", DOCS)
    source = "def limit(amount):\n    return min(amount, 500)\n"
    make_wheel(tmp_path / "dist", "our_rules", source=source)
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace("curl -s", "curl -sf")],
        cwd=tmp_path,
        env={**os.environ, "url": server.base, "token": server.info.token},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert '"name":"our-rules"' in ended.stdout

    with httpx.Client(base_url=server.base, headers=server.headers, timeout=90) as client:
        cell = {"cellType": "code", "content": "import our_rules\nprint(our_rules.limit(990))"}
        answer = client.post(
            "/notebook",
            json={
                "notebookName": "Rules",
                "environment": {"customLibraries": ["our_rules"]},
                "initialCells": [cell],
            },
        )
        made = answer.json()
        assert not any("customLibraries" in warning for warning in made["warnings"])
        path = f"/notebook/{made['notebookId']}"
        execution: dict[str, Any] = client.post(f"{path}/execute").json()
        path += f"/execution/{execution['executionId']}"
        over = client.get(path, headers={"Prefer": "wait=60"}).json()
        assert over["status"] == "Completed", over
        assert over["environment"]["packages"] == ["our-rules==1.0"]
        results = client.get(f"{path}/results", params={"format": "detailed"}).json()
        assert [each["content"] for each in results["outputs"]] == ["500\n"]
        position = answer.headers["nbledger-position"]
        awaited = {"Prefer": "wait=30", "Nbledger-Position": position}
        listed = client.get("/library", headers=awaited)
        assert [each["fileName"] for each in listed.json()["libraries"]] == [
            "our_rules-1.0-py3-none-any.whl"
        ]
