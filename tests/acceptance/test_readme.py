"""The README's commands, run in its order on a running server."""

import functools
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import requests
from support.local_server import LocalServer
from support.paths import ROOT

README = (ROOT / "README.md").read_text()
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


def _zipped(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return content.getvalue()


def _run_of(server: LocalServer, archive: bytes) -> tuple[str, dict[str, str], requests.Response]:
    """Upload and execute; the notebook's path, its files, and the archive of the run's results."""
    send = functools.partial(requests.request, headers=server.headers, timeout=90)
    form = {"file": ("project.zip", archive)}
    made = send("POST", f"{server.base}/notebook/upload", files=form)
    assert made.status_code == 201, made.text
    path = f"{server.base}/notebook/{made.json()['notebookId']}"
    execution = send("POST", f"{path}/execute").json()["executionId"]
    headers = {**server.headers, "Prefer": "wait=60"}
    ended = requests.get(f"{path}/execution/{execution}", headers=headers, timeout=90).json()
    assert ended["status"] == "Completed", ended
    results = send("GET", f"{path}/execution/{execution}/results?format=download")
    files = {file["path"]: file["digest"] for file in made.json()["files"]}
    return path, files, results


def test_a_notebook_travels_with_its_files(server: LocalServer) -> None:
    source = """
import csv, helpers, os
with open("data/orders.csv") as file:
    total = sum(helpers.amount(row) for row in csv.DictReader(file))
open("data/orders.csv", "w").close()
open("outputs/total.txt", "w").write(str(total))
"""
    cell: dict[str, Any] = {
        "cell_type": "code",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
    }
    notebook = {"cells": [{**cell, "source": source}], "metadata": {}, "nbformat": 4}
    archive = _zipped(
        {
            "orders/Orders.ipynb": json.dumps({**notebook, "nbformat_minor": 4}),
            "orders/data/orders.csv": "order,amount\n0017,120\n0018,990\n",
            "orders/helpers.py": "def amount(row):\n    return int(row['amount'])\n",
        }
    )
    archives = [archive]
    found = []
    for _ in range(2):
        path, files, results = _run_of(server, archives[-1])
        with zipfile.ZipFile(io.BytesIO(results.content)) as left:
            assert left.read("files/total.txt") == b"1110"
            given = json.loads(left.read("manifest.json"))["inputs"]
        assert {each["path"]: each["sha256"] for each in given} == files
        found.append(files)
        bundle = f"{path}/download?format=zip"
        archives.append(requests.get(bundle, headers=server.headers, timeout=60).content)
    assert found[0] == found[1]
    assert list(found[0]) == ["data/orders.csv", "helpers.py"]
    first, second = (
        {info.filename: info.CRC for info in zipfile.ZipFile(io.BytesIO(each)).infolist()}
        for each in archives[1:]
    )
    assert list(first) == ["Orders.ipynb", "data/orders.csv", "helpers.py"]
    assert first == second


def test_the_subscriber(server: LocalServer, tmp_path: Path) -> None:
    run_one(server)
    (snippet,) = [each for each in blocks("python") if "AIOKafkaConsumer" in each]
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
