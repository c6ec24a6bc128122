"""Record what this version of the service writes, as histories for later versions to read.

A program, not a test: ``PYTHONPATH=tests .venv/bin/python tests/record_histories.py 0.1.0`` starts
the service, lives through notebooks, a dataset, a library and runs that end in different ways, and
writes each stream with its state below ``tests/unit/domain/golden/histories``. What is there
already is never written again: those are the histories that must be read for ever.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
from support.histories import FOLDER, Line, fold, state_of
from support.local_server import LocalServer, local_server
from support.wheels import make_wheel

ENRICH = """
from mindzie_sdk import ProcessMiningClient

client = ProcessMiningClient()
log = client.load_dataset()
log["hours"] = log["cost"] / 100
client.save_enriched_dataset(log, "claims with hours", "parquet")
client.save_report("# Findings\\nAll is slow.")
client.log_metric("cases", len(log))
"""
SHOW = """
import pandas as pd
from IPython.display import HTML, display

print("before")
shown = display(HTML("<b>bold</b>"), display_id=True)
pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
"""
SLEEP = "import time\ntime.sleep(600)"
CSV = b"case_id,activity,cost\nC-1,Submit,100\nC-1,Pay,250\nC-2,Submit,75\n"


class Recording:
    """A running service, and what has happened in it."""

    def __init__(self, server: LocalServer) -> None:
        self.server = server
        self.client = httpx.Client(base_url=server.base, headers=server.headers, timeout=90)
        self.streams: dict[str, str] = {}

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """The body of an answer, which must be a good one."""
        answer = self.client.request(method, path, **options)
        assert answer.is_success, answer.text
        return answer.json()

    def notebook(self, name: str, *cells: str, **members: Any) -> str:
        """The path of a new notebook."""
        made = self.ask(
            "POST",
            "/notebook",
            json={
                "notebookName": name,
                "initialCells": [{"cellType": "code", "content": source} for source in cells],
                **members,
            },
        )
        return f"/notebook/{made['notebookId']}"

    def begin(self, name: str, notebook: str, **options: Any) -> str:
        """The path of a new execution, whose history is to be kept under ``name``."""
        made = self.ask("POST", f"{notebook}/execute", json=options)
        self.streams[name] = made["executionId"]
        return f"{notebook}/execution/{made['executionId']}"

    def end(self, execution: str, code: str) -> None:
        """Wait for an execution's end."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            told = self.ask("GET", execution, headers={"Prefer": "wait=20"})
            if told["status"] != "Running":
                assert told["terminationCode"] == code, told
                return
        raise AssertionError(f"{execution} does not end")

    def runs(self, execution: str, cell: str = "cell-001") -> None:
        """Wait until a cell of an execution runs."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            told = self.ask("GET", execution)
            if told.get("currentCell") == cell:
                return
            time.sleep(0.2)
        raise AssertionError(f"{cell} of {execution} does not run")

    def kill_worker(self) -> None:
        """Kill the worker, with no time to say anything."""
        for process in self.server.members():
            if "worker" in process.cmdline():
                os.kill(process.pid, signal.SIGKILL)
                return
        raise AssertionError("there is no worker")


def live(recording: Recording, folder: Path) -> None:
    """Let happen what is to be recorded."""
    ask, streams = recording.ask, recording.streams
    wheel = make_wheel(folder, "our_rules", source="LIMIT = 500\n")
    library = ask("POST", "/library", files={"file": (wheel.name, wheel.read_bytes())})
    streams["library"] = library["libraryId"]
    dataset = ask(
        "POST",
        "/dataset/csv",
        files={"file": ("claims.csv", CSV, "text/csv")},
        data={"datasetName": "Claims"},
    )
    streams["dataset"] = dataset["datasetId"]
    more = {"file": ("claims.csv", CSV + b"C-3,Submit,10\n", "text/csv")}
    ask("PUT", f"/dataset/{dataset['datasetId']}/csv", files=more)

    notebook = recording.notebook(
        "Claims",
        "limit = 1",
        SHOW,
        ENRICH,
        "shown.update(HTML('<i>slanted</i>'))",
        notebookDescription="What is slow",
        integration={"enrichmentMode": True, "datasetBinding": dataset["datasetId"]},
        environment={"customLibraries": ["our_rules"]},
    )
    streams["notebook"] = notebook.rsplit("/", 1)[1]
    ask("POST", f"{notebook}/file", files={"file": ("rates.csv", b"a,b\n1,2\n", "text/csv")})
    cells = ask("GET", notebook)["cells"]
    changed = [{"cellId": cell["cellId"]} for cell in cells]
    changed[0] |= {"tags": ["parameters"]}
    changed.append({"cellType": "markdown", "content": "# The end"})
    ask("PUT", notebook, json={"notebookName": "Claims, enriched", "cells": changed})
    success = recording.begin(
        "execution-success",
        notebook,
        parameters={"limit": 3},
        outputOptions={"generateReport": True},
        priority="High",
    )
    recording.end(success, "success")
    broken = recording.notebook("Broken", "print('before')", "{}['gone']", "1")
    recording.end(recording.begin("execution-cell-error", broken), "cell_error")
    recording.end(
        recording.begin("execution-errors-passed-over", broken, continueOnError=True), "success"
    )
    asleep = recording.notebook("Asleep", SLEEP, "1")
    execution = recording.begin("execution-cancelled", asleep)
    recording.runs(execution)
    ask("POST", f"{execution}/cancel")
    recording.end(execution, "cancelled")
    recording.end(recording.begin("execution-timed-out", asleep, cellTimeout=1), "cell_timeout")
    dying = recording.notebook("Dying", "import os\nos._exit(3)")
    recording.end(recording.begin("execution-kernel-died", dying), "kernel_died")

    lost = recording.begin("execution-worker-lost", asleep)
    slow = recording.notebook("Slow", "import time\ntime.sleep(8)")
    again = recording.begin("execution-begun-anew", slow, retryPolicy={})
    recording.runs(lost)
    recording.runs(again)
    recording.kill_worker()
    recording.end(lost, "worker_lost")
    recording.end(again, "success")


async def histories(recording: Recording, folder: Path) -> dict[str, bytes]:
    """The streams as lines of JSON, without anything that is of this machine."""
    connection = await asyncpg.connect(recording.server.info.postgres)
    found = {}
    try:
        for name, stream_id in recording.streams.items():
            rows = await connection.fetch(
                "SELECT stream_id, version, type, occurred_at, data::text AS data"
                " FROM event WHERE stream_id = $1 ORDER BY version",
                stream_id,
            )
            lines = [
                msgspec.json.encode(
                    Line(
                        row["stream_id"],
                        row["version"],
                        row["type"],
                        row["occurred_at"],
                        msgspec.Raw(scrubbed(row["data"], folder).encode()),
                    )
                )
                for row in rows
            ]
            found[name] = b"\n".join(lines) + b"\n"
    finally:
        await connection.close()
    return found


def scrubbed(data: str, folder: Path) -> str:
    """The payload with the names of no machine, folder or process in it."""
    host = re.escape(socket.gethostname())
    data = re.sub(rf"\b{host}-\d+-([0-9a-f]{{6}})\b", r"worker-\1", data)
    for place in (sys.prefix, sys.base_prefix, str(folder), str(Path.home())):
        assert place not in data, f"{place} in {data}"
    assert not re.search(rf"\b{host}\b", data), data
    return data


def main() -> None:
    """Record into a new folder of the version that is given."""
    target = FOLDER / sys.argv[1]
    target.mkdir(parents=True)
    # A lost worker is to be noticed soon.
    environment = {
        "UV_OFFLINE": "1",
        "NBLEDGER_WORKER_LEASE_SECONDS": "6",
        "NBLEDGER_WORKER_RENEW_SECONDS": "1",
        "NBLEDGER_WORKER_CONCURRENCY": "2",
    }
    with tempfile.TemporaryDirectory() as folder, local_server(environment) as server:
        recording = Recording(server)
        live(recording, Path(folder))
        for name, history in asyncio.run(histories(recording, server.home)).items():
            (target / f"{name}.jsonl").write_bytes(history)
            state = msgspec.json.encode(state_of(fold(history)), order="deterministic")
            (target / f"{name}.state.json").write_bytes(msgspec.json.format(state) + b"\n")
            print(f"{name}: {len(history.splitlines())} events")


if __name__ == "__main__":
    main()
