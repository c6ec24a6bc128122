"""Upload of a large CSV file: the time until it can be queried, and what memory it takes."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.bench import Bench
from benchmarks.figures import Figure, compare, within
from benchmarks.http_client import Connection
from benchmarks.peer import Peer
from benchmarks.server import Up, nbledger_up, peak_memory, role

_LARGE = 1_000_000_000
_BLOCK_ROWS = 10_000
_BOUNDARY = "nbledger-bench"
_TAIL = f"\r\n--{_BOUNDARY}--\r\n".encode()
_ROUNDS = 3


def datasets(bench: Bench) -> list[Figure]:
    """Uploads over HTTP to `nbledger up`, in turn with a bare script on the same file."""
    size = _LARGE // 50 if bench.quick else _LARGE
    source = bench.scratch / "log.csv"
    _write_log(source, size)
    with nbledger_up(bench.scratch / "datasets-up" / "home") as up, Peer("sink") as peer:
        api = role(up, "api")
        before, peak = api.memory_info().rss, 0

        def ours() -> float:
            nonlocal peak
            seconds, dataset = _upload(up, source)
            peak = max(peak, peak_memory(api))
            with Connection(up.url, up.headers) as connection:
                told = json.loads(connection.get(f"{up.project}/dataset/{dataset}"))
            assert told["rowCount"] > size // 100, told
            return seconds

        def theirs() -> float:
            target = bench.scratch / "log.parquet"
            seconds: float = peer.ask("sink", source=str(source), target=str(target))
            return seconds

        rounds = bench.alternate([ours, theirs], rounds=1 if bench.quick else _ROUNDS)
    source.unlink()
    gigabytes = f"{size / 1e9:g} GB"
    return [
        compare(
            figure=f"upload of {gigabytes} of CSV until it can be queried",
            unit="s",
            against="polars, scan_csv and sink_parquet of the file in place",
            pairs=[(ours, theirs) for ours, theirs in rounds],
            bound=1.5,
            better="lower",
        ),
        within(
            figure=f"upload of {gigabytes} of CSV: growth of the API's memory",
            unit="MB",
            values=[max(peak - before, 1000) / 1e6],
            bound=64,
        ),
    ]


def _write_log(path: Path, size: int) -> None:
    """An event log of about this many bytes."""
    with path.open("wb") as file:
        file.write(b"case_id,activity,timestamp,cost,quantity\n")
        begin = 0
        while file.tell() < size:
            file.write(
                "".join(
                    f"C{row // 6:08d},Review {row % 7},"
                    f"2024-01-{1 + row % 28:02d}T08:{row % 60:02d}:00,"
                    f"{row * 0.37:.2f},{row * 7919 % 100_003}\n"
                    for row in range(begin, begin + _BLOCK_ROWS)
                ).encode()
            )
            begin += _BLOCK_ROWS


def _upload(up: Up, source: Path) -> tuple[float, str]:
    """Send the file as a form; seconds until the answer, and the dataset's id."""
    parts = urlsplit(up.url)
    assert parts.hostname is not None
    head = (
        f"--{_BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="file"; filename="log.csv"\r\n'
        "Content-Type: text/csv\r\n\r\n"
    ).encode()
    length = len(head) + source.stat().st_size + len(_TAIL)
    headers = {
        "Host": parts.netloc,
        "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
        "Content-Length": str(length),
        "Connection": "close",
        **up.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST {up.project}/dataset/csv HTTP/1.1\r\n{lines}\r\n".encode()
    begin = time.perf_counter()
    with (
        socket.create_connection((parts.hostname, parts.port or 80), timeout=600) as connection,
        source.open("rb") as file,
    ):
        connection.sendall(request + head)
        connection.sendfile(file)
        connection.sendall(_TAIL)
        answer = bytearray()
        while piece := connection.recv(65536):
            answer += piece
    seconds = time.perf_counter() - begin
    status, _, body = bytes(answer).partition(b"\r\n\r\n")
    if not status.startswith(b"HTTP/1.1 201 "):
        raise RuntimeError(f"the upload was answered {bytes(answer[:400])!r}")
    made: dict[str, Any] = json.loads(body)
    return seconds, made["datasetId"]
