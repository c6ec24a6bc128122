"""GET as of an earlier moment against the plain GET, of streams of 10,000 events."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.error import URLError
from uuid import UUID

from benchmarks.bench import Bench
from benchmarks.figures import Figure, within
from benchmarks.filling import METADATA
from benchmarks.history import START
from benchmarks.http_client import Connection
from nbledger_domain.cells import Cell
from nbledger_domain.dataset import Column, Dataset, Source
from nbledger_domain.events import DomainEvent, encode
from nbledger_domain.execution import CellStatus, Execution, PlannedCell, Representation, RunOptions
from nbledger_domain.notebook import Environment, Integration, Notebook, NotebookChanges
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres import tokens
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, NewEvent, Stream
from nbledger_infrastructure.settings import Postgres, Settings
from nbledger_projections.rebuild import rebuild

EVENTS = 10_000
_CHUNK = 50
_PLACES = (0.001, 0.2, 0.5, 0.777, 0.999)
_BOUND = 20.0


def as_of(bench: Bench) -> list[Figure]:
    """How much longer the past takes, at the worst of several moments and forms."""
    dsn = bench.new_database("as_of")
    pool = bench.connect(dsn)
    count = 400 if bench.quick else EVENTS
    project = (new_id(), new_id())
    bench.say(f"  recording streams of {count:,} events")
    paths = bench.run(_fill(pool, *project, count))
    bench.run(_project(dsn))
    secret, _ = bench.run(
        tokens.create(
            pool, name="bench", tenant_id=project[0], project_ids=None, roles=[tokens.Role.ADMIN]
        )
    )
    headers = {"Authorization": f"Bearer {secret}"}
    figures = []
    with (
        _api(dsn, bench.scratch) as url,
        Connection(f"{url}/api/{project[0]}/{project[1]}", headers) as connection,
    ):
        for what, path, moments in paths:
            worst: tuple[float, str, list[float]] | None = None
            for moment in moments:
                differences = _differences(bench, connection, path, f"{path}?asOf={moment}")
                more = statistics.median(differences)
                bench.say(f"  {what}, asOf={moment}: {more:+.1f} ms")
                if worst is None or more > worst[0]:
                    worst = (more, moment, differences)
            assert worst is not None
            figures.append(
                within(
                    figure=f"asOf of {what} against the plain GET, worst of {len(moments)} moments",
                    unit="ms more",
                    values=worst[2],
                    bound=_BOUND,
                )
            )
    return figures


def _differences(bench: Bench, connection: Connection, now: str, then: str) -> list[float]:
    requests = [connection.prepare(path) for path in (now, then)]
    calls = 2 if bench.quick else 10

    def side(request: bytes) -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            connection.send(request)
        return (time.perf_counter() - begin) / calls * 1000

    rounds = bench.alternate([lambda: side(requests[0]), lambda: side(requests[1])])
    return [later - plain for plain, later in rounds]


async def _project(dsn: str) -> None:
    settings = Settings(postgres=Postgres(dsn=dsn))
    await rebuild(settings, ["notebook_details", "execution_status", "dataset_details"])


async def _fill(
    pool: Pool, tenant_id: UUID, project_id: UUID, count: int
) -> list[tuple[str, str, list[str]]]:
    """Record the streams; what each is, its path, and moments to ask for."""
    store = EventStore(pool)
    await store.start()
    notebook = _notebook(count)
    few, many = _run(notebook.id, 4, count), _run(notebook.id, count // 2, count)
    dataset = _dataset(count)
    paths: list[tuple[str, str, list[str]]] = []
    for what, aggregate, subject in (
        ("a notebook", notebook, notebook.id),
        ("a run of 4 cells", few, notebook.id),
        (f"a run of {count // 2:,} cells", many, notebook.id),
        ("a dataset", dataset, dataset.id),
    ):
        decided = [each for each in aggregate.collect_events() if isinstance(each, DomainEvent)]
        stream = Stream(aggregate.id, subject, tenant_id, project_id)
        await _append(store, stream, decided)
        path = f"/{'dataset' if aggregate is dataset else 'notebook'}/{subject}"
        if isinstance(aggregate, Execution):
            path = f"{path}/execution/{aggregate.id}"
        recorded = await store.read_stream(aggregate.id)
        chosen = [recorded[int(len(recorded) * place)] for place in _PLACES]
        moments = [str(each.position) for each in chosen]
        moments.append(f"{chosen[2].recorded_at:%Y-%m-%dT%H:%M:%S.%fZ}")
        if aggregate is notebook:
            moments += [f"1.{notebook.version // 40}.0", "1.0.0"]
        paths.append((f"{what} of {len(recorded):,} events", path, moments))
    await store.close()
    async with pool.acquire() as connection:
        await connection.execute("VACUUM ANALYZE")
    return paths


async def _append(store: EventStore, stream: Stream, decided: Sequence[DomainEvent]) -> None:
    for begin in range(0, len(decided), _CHUNK):
        events = [
            NewEvent(new_id(), each.TYPE, encode(each), each.timestamp)
            for each in decided[begin : begin + _CHUNK]
        ]
        await store.append(stream, events, expected_version=begin, metadata=METADATA)


def _notebook(count: int) -> Notebook:
    """Ten cells; of its changes every second one is of them."""

    def cells(number: int) -> list[Cell]:
        return [
            Cell(cell_id=f"c{index}", cell_type="code", source=f"x = {number * (index == 3)}\n" * 9)
            for index in range(10)
        ]

    notebook = Notebook.create(
        new_id(),
        name="Notebook",
        description="",
        kernel_type="python3",
        integration=Integration(),
        environment=Environment(),
        cells=cells(0),
        created_by="bench",
        at=START,
    )
    for number in range(1, count // 2):
        changes = (
            NotebookChanges(cells=cells(number))
            if number % 2
            else NotebookChanges(name=f"Notebook {number}")
        )
        notebook.update(changes, at=START + timedelta(seconds=number))
    return notebook


def _run(notebook_id: UUID, cells: int, count: int) -> Execution:
    """Runs its cells, and logs metrics until it has as many events."""
    execution = Execution.request(
        new_id(),
        notebook_id=notebook_id,
        notebook_version="1.0.0",
        notebook_stream_version=1,
        kernel_type="python3",
        cells=[PlannedCell(f"c{index}", "code") for index in range(cells)],
        parameters={},
        options=RunOptions(timeout=1800),
        requested_by="bench",
        at=START,
    )
    epoch = execution.claim("worker-1", at=START)
    execution.start(epoch, language="python", language_version="3.11.7", at=START)
    for index in range(cells):
        execution.start_cell(epoch, f"c{index}", at=START)
        while index == 0 and execution.version < count - 2 * cells:
            metrics: dict[str, Any] = {"loss": 1 / execution.version}
            execution.log_metrics(epoch, metrics, cell_id="c0", at=START)
        execution.finish_cell(
            epoch,
            f"c{index}",
            status=CellStatus.SUCCESS,
            execution_count=index,
            duration=0.5,
            outputs=[],
            output_count=0,
            output_bytes=0,
            error=None,
            at=START,
        )
    return execution


def _dataset(count: int) -> Dataset:
    dataset = Dataset.create(new_id(), name="Journeys", at=START)
    for number in range(1, count):
        dataset.add_version(
            content=Representation("application/vnd.apache.parquet", f"{number:064x}", 4096),
            rows=number,
            columns=[Column(f"column {index}", "string") for index in range(10)],
            source=Source(kind="upload", file_name="journeys.csv"),
            at=START + timedelta(seconds=number),
        )
    return dataset


@contextmanager
def _api(dsn: str, scratch: Path) -> Iterator[str]:
    """The role api by itself, with the settings that stand if nobody sets any."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {
        "NBLEDGER_POSTGRES_DSN": dsn,
        "NBLEDGER_ARTIFACTS_URL": (scratch / "as-of-artifacts").as_uri(),
        "NBLEDGER_HTTP_PORT": str(port),
        "NBLEDGER_LOG_LEVEL": "warning",
    }
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "nbledger", "api"], env=environment)
    try:
        _await_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _await_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=5) as answer:  # noqa: S310
                if answer.status == 200:
                    return
        except URLError:
            if process.poll() is not None:
                break
        time.sleep(0.1)
    raise RuntimeError("the API did not come up")
