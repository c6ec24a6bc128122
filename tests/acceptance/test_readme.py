"""The README's commands, run in its order on a running server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import requests
from support.local_server import LocalServer

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
# What runs the tests, or needs a container engine, cannot be run by a test. The targets that
# `make` offers are tested through the commands that they call.
ELSEWHERE = ("make ", "docker ")

FOLLOW = """
import asyncio, sys
{snippet}
async def for_a_while():
    try:
        async with asyncio.timeout(5):
            await follow(sys.argv[1])
    except TimeoutError:
        pass

asyncio.run(for_a_while())
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run_one(server: LocalServer) -> None:
    """Create a notebook and execute it."""
    cell = {"cellType": "code", "content": "print(1)"}
    created = requests.post(
        f"{server.base}/notebook",
        json={"notebookName": "n", "initialCells": [cell]},
        headers=server.headers,
        timeout=10,
    ).json()["notebookId"]
    requests.post(
        f"{server.base}/notebook/{created}/execute", headers=server.headers, timeout=10
    ).raise_for_status()


def test_shell_commands(server: LocalServer, tmp_path: Path) -> None:
    commands = [block for block in blocks("sh") if not block.startswith(ELSEWHERE)]
    assert len(commands) >= 3
    (tmp_path / ".nbledger").symlink_to(server.home)
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands).replace("curl -s", "curl -sf")],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert '"totalCount"' in ended.stdout
    assert '"status":"Completed"' in ended.stdout
    assert r'"content":"42\n"' in ended.stdout
    assert "notebook.created.v1" in ended.stdout
    assert "execution.requested.v1" in ended.stdout
    assert "nothing was altered" in ended.stdout


def test_the_subscriber(server: LocalServer, tmp_path: Path) -> None:
    run_one(server)
    (snippet,) = blocks("python")
    program = tmp_path / "follow.py"
    program.write_text(FOLLOW.format(snippet=snippet))
    ended = subprocess.run(
        [sys.executable, str(program), server.info.kafka],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    positions = [int(line.split()[0]) for line in ended.stdout.splitlines()]
    assert positions, "it got no event"
    assert "nbledger.notebook.created.v1" in ended.stdout
    assert "nbledger.execution.requested.v1" in ended.stdout
