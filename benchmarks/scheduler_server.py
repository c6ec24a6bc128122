"""A real jupyter_server with the jupyter_scheduler extension, on loopback, with jobs in it."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peer import CHECKOUT, PYTHON


def notebook_of(*sources: str) -> dict[str, Any]:
    """A notebook file of these cells."""
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{number}",
                "metadata": {},
                "execution_count": None,
                "outputs": [],
                "source": source,
            }
            for number, source in enumerate(sources)
        ],
    }


@dataclass(frozen=True, slots=True)
class SchedulerServer:
    """Where the server is and the job that it has run."""

    url: str
    headers: dict[str, str]
    job_id: str


@contextmanager
def scheduler_server(
    folder: Path, jobs: int, cells: Sequence[str] = ("print(0)", "print(1)", "print(2)")
) -> Iterator[SchedulerServer]:
    """Start the server, run a job of these cells, and copy its row until there are `jobs`.

    The defaults stand: SQLite, as its documentation says, and no request log (its default
    level logs failures only). Token authentication, like the other side.
    """
    folder.mkdir(parents=True)
    (folder / "analysis.ipynb").write_text(json.dumps(notebook_of(*cells)))
    token = secrets.token_hex(32)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    db_url = f"sqlite:///{folder}/scheduler.sqlite"
    environment = os.environ | {
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "PATH": f"{PYTHON.parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    log = (folder / "server.log").open("w")
    process = subprocess.Popen(
        [
            PYTHON,
            "-m",
            "jupyter_server",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0",
            "--ServerApp.open_browser=False",
            "--ServerApp.allow_root=True",
            f"--ServerApp.root_dir={folder}",
            f"--IdentityProvider.token={token}",
            "--ServerApp.jpserver_extensions={'jupyter_scheduler': True}",
            f"--SchedulerApp.db_url={db_url}",
        ],
        cwd=CHECKOUT,
        env=environment,
        stdout=log,
        stderr=log,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"token {token}"}
        _wait_until_up(url, headers, process, folder / "server.log")
        job_id = wait_for_job(url, headers, start_job(url, headers), pause=0.1)
        if jobs > 1:
            subprocess.run(
                [PYTHON, "-m", "benchmarks.peers.jobs", db_url, job_id, str(jobs - 1)],
                cwd=CHECKOUT,
                env=environment,
                check=True,
            )
        yield SchedulerServer(url=url, headers=headers, job_id=job_id)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _request(url: str, headers: dict[str, str], body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - loopback
        return json.load(response)


def _wait_until_up(
    url: str, headers: dict[str, str], process: subprocess.Popen[bytes], log: Path
) -> None:
    deadline = time.monotonic() + 60
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"jupyter_server did not start:\n{log.read_text()[-4000:]}")
        try:
            _request(f"{url}/api/status", headers)
        except OSError:
            time.sleep(0.1)
        else:
            return


def start_job(url: str, headers: dict[str, str]) -> str:
    """Ask for a run of the server's notebook; the id of the job."""
    environments = _request(f"{url}/scheduler/runtime_environments", headers)
    job = _request(
        f"{url}/scheduler/jobs",
        headers | {"Content-Type": "application/json"},
        {
            "name": "Analysis",
            "input_uri": "analysis.ipynb",
            "runtime_environment_name": environments[0]["name"],
            "parameters": {"limit": 10, "include_weekends": False},
        },
    )
    return str(job["job_id"])


def wait_for_job(url: str, headers: dict[str, str], job_id: str, *, pause: float) -> str:
    """Wait for the job's end, asking every `pause` seconds; its id."""
    # A new job says STOPPED until its process has started, so only FAILED is an end.
    deadline = time.monotonic() + 120
    while (job := _request(f"{url}/scheduler/jobs/{job_id}", headers))["status"] != "COMPLETED":
        if job["status"] == "FAILED" or time.monotonic() > deadline:
            raise RuntimeError(f"the job ended as {job['status']}: {job['status_message']}")
        time.sleep(pause)
    return job_id
