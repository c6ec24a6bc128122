"""nbledger as its users run it: `nbledger up` in a process of its own, with notebooks in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

CELLS = 3


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is, and the paths of what is measured."""

    url: str
    headers: dict[str, str]
    status_path: str
    list_path: str


@dataclass(frozen=True, slots=True)
class Up:
    """A running `nbledger up`: its address, what a request needs, and its process."""

    url: str
    headers: dict[str, str]
    project: str
    pid: int


@contextmanager
def nbledger_up(home: Path, settings: Mapping[str, str] | None = None) -> Iterator[Up]:
    """Start everything, with the settings that stand if nobody sets any, but for `settings`."""
    home.mkdir(parents=True)
    log_file = home.parent / "up.log"
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "nbledger", "up"],
            cwd=home.parent,
            env=os.environ
            | {"NBLEDGER_HOME": str(home), "NBLEDGER_PORT": "0", "NBLEDGER_LOG_LEVEL": "warning"}
            | (dict(settings or {})),
            stdout=log,
            stderr=log,
        )
        try:
            info = _server_json(home, process, log_file)
            yield Up(
                url=info["url"],
                headers={"Authorization": f"Bearer {info['token']}"},
                project=f"/api/{info['tenantId']}/{info['projectId']}",
                pid=process.pid,
            )
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def role(up: Up, name: str) -> psutil.Process:
    """The process of one of its roles: api, relay, projector or worker."""
    return next(
        process
        for process in psutil.Process(up.pid).children(recursive=True)
        if process.cmdline()[-1:] == [name]
    )


def peak_memory(process: psutil.Process) -> int:
    """Bytes that the process has had resident at most, where the system counts that."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        rss: int = process.memory_info().rss
        return rss
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@contextmanager
def nbledger_server(home: Path, notebooks: int) -> Iterator[Server]:
    """Start everything, make `notebooks` notebooks and run one of them to its end."""
    with nbledger_up(home) as up:
        yield _prepare(up, notebooks)


def _server_json(home: Path, process: subprocess.Popen[bytes], log_file: Path) -> dict[str, str]:
    deadline = time.monotonic() + 120
    while True:
        try:
            info: dict[str, str] = json.loads((home / "server.json").read_bytes())
        except FileNotFoundError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"nbledger up did not start:\n{log_file.read_text()[-4000:]}"
                ) from None
            time.sleep(0.05)
        else:
            return info


def _prepare(up: Up, notebooks: int) -> Server:
    project = up.project

    def call(path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - loopback
            up.url.rstrip("/") + path,
            data=None if body is None else json.dumps(body).encode(),
            headers=up.headers | {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - loopback
            return json.load(response)

    notebook_id = ""
    for number in range(notebooks):
        created = call(
            f"{project}/notebook",
            {
                "notebookName": f"Analysis {number}",
                "kernelType": "python3",
                "initialCells": [
                    {"cellType": "code", "content": f"print({cell})"} for cell in range(CELLS)
                ],
            },
        )
        notebook_id = created["notebookId"]
    execution = call(
        f"{project}/notebook/{notebook_id}/execute", {"parameters": {"limit": 10, "weekends": True}}
    )
    status_path = f"{project}/notebook/{notebook_id}/execution/{execution['executionId']}"
    deadline = time.monotonic() + 120
    while (status := call(status_path))["status"] != "Completed":
        if status["status"] != "Running" or time.monotonic() > deadline:
            raise RuntimeError(f"the execution ended as {status}")
        time.sleep(0.1)
    list_path = f"{project}/notebooks?pageSize=20"
    while (total := call(list_path)["totalCount"]) != notebooks:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the list shows {total} notebooks of {notebooks}")
        time.sleep(0.1)
    return Server(up.url, up.headers, status_path, list_path)
