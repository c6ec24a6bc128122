"""Results of executions: a page of many outputs against a few, and a large download."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.bench import Bench
from benchmarks.engine import Client
from benchmarks.figures import Figure, compare, within
from benchmarks.http_client import Connection
from benchmarks.server import Up, nbledger_up, peak_memory, role
from benchmarks.static_server import static_server

CELLS = 10
FEW, MANY = 1, 100
_LARGE = 1_000_000_000
_SHOW = (
    "from IPython.display import HTML, display\n"
    "for n in range({count}): display(HTML(f'<p>{{n}}</p>'))"
)
_WRITE = (
    "import os\n"
    "os.makedirs('outputs', exist_ok=True)\n"
    "with open('outputs/large.bin', 'wb') as file:\n"
    "    for n in range({megabytes}): file.write(os.urandom(1_000_000))"
)


def results(bench: Bench) -> list[Figure]:
    """Both from `nbledger up`, over HTTP, of notebooks that it has run."""
    with nbledger_up(bench.scratch / "results-up" / "home") as up:
        return [*_pages(bench, up), *_downloads(bench, up)]


def _run(up: Up, *notebooks: list[str]) -> list[str]:
    """Run notebooks of these cells, one after another; the paths of their results."""
    paths: list[str] = []
    with Client(up) as client:
        for cells in notebooks:
            execution = client.begin(client.notebook(*cells))
            client.wait(execution, pause=0.05)
            paths.append(f"{execution}/results")
        client.settle()
    return paths


def _pages(bench: Bench, up: Up) -> list[Figure]:
    few, many = _run(up, *([_SHOW.format(count=count)] * CELLS for count in (FEW, MANY)))
    seconds = 0.2 if bench.quick else 1.5
    with Connection(up.url, up.headers) as connection:
        for path, count in ((few, CELLS * FEW), (many, CELLS * MANY)):
            told = json.loads(connection.get(path))
            assert told["totalCount"] == count, told["totalCount"]
            assert len(told["outputs"]) == min(count, told["pageSize"])

        def milliseconds(path: str) -> float:
            return 1000 / connection.requests_per_second([path], seconds)

        rounds = bench.alternate([lambda: milliseconds(many), lambda: milliseconds(few)])
    return [
        compare(
            figure=f"GET results of {CELLS * MANY:,} outputs, summary, one connection",
            unit="ms",
            against=f"the same of {CELLS * FEW}",
            pairs=[(many, few) for many, few in rounds],
            bound=3,
            better="lower",
        )
    ]


def _downloads(bench: Bench, up: Up) -> list[Figure]:
    size = _LARGE // 100 if bench.quick else _LARGE
    (path,) = _run(up, [_WRITE.format(megabytes=size // 1_000_000)])
    with Connection(up.url, up.headers) as connection:
        (told,) = json.loads(connection.get(path))["files"]
    assert told["size"] == size
    api = role(up, "api")
    kept = _file_of(bench.scratch / "results-up" / "home", told)
    before, peak = api.memory_info().rss, 0

    def ours() -> float:
        nonlocal peak
        speed = _megabytes_per_second(told["downloadUrl"], size)
        peak = max(peak, peak_memory(api))
        return speed

    with static_server(kept) as port:
        theirs = f"http://127.0.0.1:{port}/large.bin"
        rounds = bench.alternate([ours, lambda: _megabytes_per_second(theirs, size)])
    gigabytes = f"{size / 1e9:g} GB"
    return [
        compare(
            figure=f"download of {gigabytes}",
            unit="MB/s",
            against="a bare static file server with sendfile",
            pairs=[(ours, theirs) for ours, theirs in rounds],
            bound=0.5,
        ),
        within(
            figure=f"download of {gigabytes}: growth of the API's memory",
            unit="MB",
            # Of what has not grown at all it is still to be seen that it was measured.
            values=[max(peak - before, 1000) / 1e6],
            bound=64,
        ),
    ]


def _file_of(home: Path, told: dict[str, Any]) -> Path:
    """The very file that the store keeps, so that both sides read the same pages."""
    (found,) = (file for file in home.rglob(told["digest"]) if file.is_file())
    return found


def _megabytes_per_second(url: str, size: int) -> float:
    """GET it all over a connection of its own."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    buffer, received = bytearray(1 << 20), 0
    begin = time.perf_counter()
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=60) as connection:
        request = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        connection.sendall(f"{request}Connection: close\r\n\r\n".encode())
        while count := connection.recv_into(buffer):
            if not received and not buffer.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"{parts.path} answered {bytes(buffer[:400])!r}")
            received += count
    if received < size:
        raise RuntimeError(f"{parts.path} ended after {received} bytes")
    return size / 1e6 / (time.perf_counter() - begin)
