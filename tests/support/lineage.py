"""Runs and datasets as a store has them, and a manager of lineage that a test drives."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
from support import openlineage
from support.aggregates import AT, a_notebook
from support.paths import ROOT
from support.receivers import Got

from nbledger_application import repository
from nbledger_domain.dataset import Column, Dataset, Source
from nbledger_domain.execution import (
    Cause,
    Execution,
    GivenDataset,
    PlannedCell,
    Representation,
    Resources,
    RunOptions,
)
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.lineage.manager import LineageManager
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, Stream
from nbledger_infrastructure.settings import Settings
from nbledger_infrastructure.settings_sections.lineage import OpenLineage

BY = Metadata(actor="test")
COLUMNS = [Column("case", "string"), Column("costs", "number")]
CONTENT = Representation("application/vnd.apache.parquet", "0" * 64, 1234)


class World:
    """A project with a notebook."""

    def __init__(self, store: EventStore) -> None:
        self.store = store
        self.tenant_id, self.project_id = uuid4(), uuid4()
        self.notebook = a_notebook(name="Order to cash", description="Finds rework")

    @property
    def namespace(self) -> str:
        """Where everything of the project is."""
        return f"nbledger/{self.tenant_id}/{self.project_id}"

    def stream(self, stream_id: UUID, subject_id: UUID | None = None) -> Stream:
        return Stream(stream_id, subject_id or stream_id, self.tenant_id, self.project_id)

    async def save(self, thing: Notebook | Execution | Dataset) -> None:
        """Append what was decided."""
        subject = thing.notebook_id if isinstance(thing, Execution) else None
        await repository.save(self.store, thing, self.stream(thing.id, subject), BY)

    async def dataset(self, name: str = "Orders", *, source: Source | None = None) -> Dataset:
        """A dataset with one version."""
        made = Dataset.create(uuid4(), name=name, at=AT)
        self.add_version(made, source or Source(kind="upload", file_name="orders.csv"))
        await self.save(made)
        return made

    def add_version(self, dataset: Dataset, source: Source, rows: int = 42) -> int:
        return dataset.add_version(
            content=CONTENT, rows=rows, columns=COLUMNS, source=source, at=AT
        )

    def request(
        self,
        *,
        cause: Cause | None = None,
        tags: Sequence[str] = (),
        datasets: Sequence[GivenDataset] = (),
    ) -> Execution:
        """A run that waits."""
        return Execution.request(
            uuid4(),
            notebook_id=self.notebook.id,
            notebook_version=self.notebook.notebook_version,
            notebook_stream_version=self.notebook.version,
            kernel_type="python3",
            cells=[PlannedCell("cell-001", "code")],
            parameters={},
            options=RunOptions(timeout=60),
            requested_by="user123",
            at=AT,
            cause=cause,
            tags=tags,
            datasets=datasets,
        )

    async def run(self, execution: Execution) -> Execution:
        """The run, after a worker has completed it."""
        epoch = execution.claim("worker", at=AT)
        execution.complete(epoch, resources=Resources(), at=AT)
        await self.save(execution)
        return execution


@asynccontextmanager
async def managing(pool: Pool, settings: Settings) -> AsyncIterator[LineageManager]:
    """A manager for the block."""
    manager = LineageManager(pool, settings)
    try:
        yield manager
    finally:
        await manager.close()


def by_http(url: str, **others: Any) -> Settings:
    """Settings that have lineage sent to a receiver."""
    return Settings(lineage=OpenLineage(transport="http", url=url, **others))


async def work(manager: LineageManager) -> float | None:
    """Tell of all that there is; returns the pause that a failure brings about."""
    while (due := await manager.tick()) == 0.0:
        pass
    return due


def documents(got: Sequence[Got]) -> list[dict[str, Any]]:
    """What came, each valid."""
    return [checked(msgspec.json.decode(each.body)) for each in got]


def checked(document: dict[str, Any]) -> dict[str, Any]:
    openlineage.check(document)
    return document


class Tellers:
    """Processes that tell a receiver, of which one is at work."""

    def __init__(self, dsn: str, url: str, stack: AsyncExitStack) -> None:
        self._dsn, self._url, self._stack = dsn, url, stack
        self._processes: list[Process] = []

    async def start(self) -> None:
        """One more; at work, or standing by."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
        program = str(Path(__file__).with_name("lineage_process.py"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, program, self._dsn, self._url, stdout=PIPE, env=environment
        )
        self._stack.push_async_callback(_ended, process)
        self._processes.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while await process.stdout.readline() not in {b"ready\n", b""}:
                pass

    async def kill(self, place: int = 0) -> None:
        """Kill the one that has been there longest, or another."""
        victim = self._processes.pop(place)
        victim.send_signal(signal.SIGKILL)
        await victim.wait()


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(20):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()


def states(found: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The states of each run, in the order in which they first came."""
    told: dict[str, list[str]] = {}
    for each in found:
        if "run" in each:
            of_run = told.setdefault(each["run"]["runId"], [])
            if each["eventType"] not in of_run:
                of_run.append(each["eventType"])
    return told
