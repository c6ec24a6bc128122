"""Executions in a real store, for tests of workers and of recovery."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import msgspec
import pytest
from support.kernels import fork_servers

from nbledger_application import repository
from nbledger_domain.cells import Cell
from nbledger_domain.events import decode
from nbledger_domain.execution import (
    TERMINAL_EVENTS,
    Execution,
    PlannedCell,
    Representation,
    RunOptions,
)
from nbledger_domain.input_files import InputFile
from nbledger_domain.notebook import Environment, Integration, Notebook
from nbledger_infrastructure import aggregates, clock, settings
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope, open_store
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.kafka import clients, cloudevents
from nbledger_infrastructure.postgres.database import Pool, acquire, connect_pool
from nbledger_infrastructure.postgres.event_store import (
    EventStore,
    EventTail,
    Metadata,
    RecordedEvent,
    Stream,
)
from nbledger_workers import worker
from nbledger_workers.sweeping import sweeper

TERMINAL = {event.TYPE for event in TERMINAL_EVENTS}
_Event = TypeVar("_Event")
AS_TESTER = Metadata(actor="tester")


class Stage:
    """A store with executions in it, and the roles that work on them."""

    def __init__(self, config: settings.Settings, pool: Pool, store: EventStore) -> None:
        self.settings = config
        self.pool = pool
        self.store = store
        self.tenant_id, self.project_id = uuid4(), uuid4()
        self._requests: dict[UUID, Execution] = {}

    def apart(self) -> Stage:
        """The same stage in a tenant of its own."""
        return Stage(self.settings, self.pool, self.store)

    @property
    def artifacts(self) -> ArtifactStore:
        """The artifact store of its workers."""
        return ArtifactStore(open_store(self.settings.artifacts.url))

    async def run(
        self, *cells: str | Cell, seconds: float = 90.0, timeout: float = 60.0, **options: Any
    ) -> Execution:
        """Request these cells of a worker that is there; the execution once it has ended."""
        execution_id = await self.request(*cells, timeout=timeout, **options)
        await self.command(execution_id)
        return await self.until(execution_id, seconds=seconds)

    async def request(
        self,
        *cells: str | Cell,
        parameters: dict[str, Any] | None = None,
        planned: Sequence[str] | None = None,
        timeout: float = 60.0,
        binding: str = "bound",
        kernel_type: str = "python3",
        environment: Environment | None = None,
        files: Mapping[str, bytes] | None = None,
        programs: Mapping[str, bytes] | None = None,
        most: int | None = None,
        **options: Any,
    ) -> UUID:
        """A new notebook of these cells (code, given as text), and a request to execute it.

        ``files`` lie beside it, by their paths, and ``programs``, which can be run. ``most`` of its
        runs may go on at once.
        """
        all_cells = [
            cell
            if isinstance(cell, Cell)
            else Cell(cell_id=f"cell-{number:03d}", cell_type="code", source=cell)
            for number, cell in enumerate(cells, 1)
        ]
        notebook_id = new_id()
        notebook = Notebook.create(
            notebook_id,
            name="A notebook",
            description="",
            kernel_type=kernel_type,
            integration=Integration(dataset_binding=binding, max_concurrent_runs=most),
            environment=environment or Environment(),
            cells=all_cells,
            created_by="tester",
            files=[
                await self.keep(notebook_id, path, content)
                for path, content in (files or {}).items()
            ]
            + [
                msgspec.structs.replace(
                    await self.keep(notebook_id, path, content), executable=True
                )
                for path, content in (programs or {}).items()
            ],
            at=clock.now(),
        )
        await repository.save(self.store, notebook, self.stream(notebook.id, notebook), AS_TESTER)
        execution = Execution.request(
            new_id(),
            notebook_id=notebook.id,
            notebook_version=notebook.notebook_version,
            notebook_stream_version=notebook.version,
            kernel_type=kernel_type,
            cells=[
                PlannedCell(cell.cell_id, cell.cell_type)
                for cell in all_cells
                if planned is None or cell.cell_id in planned
            ],
            parameters=parameters or {},
            options=RunOptions(timeout=timeout, **options),
            requested_by="tester",
            at=clock.now(),
        )
        execution_id = execution.id
        await repository.save(
            self.store, execution, self.stream(execution_id, execution), AS_TESTER
        )
        self._requests[execution.id] = execution
        return execution_id

    async def keep(self, notebook_id: UUID, path: str, content: bytes) -> InputFile:
        """An input file for the notebook, its content in the artifact store."""
        scope = Scope(self.tenant_id, self.project_id, notebook_id)
        digest = await self.artifacts.put(scope, content)
        return InputFile(path=path, content_type="text/csv", digest=digest, size=len(content))

    async def again(self, execution_id: UUID) -> UUID:
        """A request to execute the same once more."""
        loaded = await aggregates.load(self.store, Execution, execution_id)
        assert loaded is not None
        before = loaded.aggregate
        execution = Execution.request(
            new_id(),
            notebook_id=before.notebook_id,
            notebook_version=before.notebook_version,
            notebook_stream_version=before.notebook_stream_version,
            kernel_type=before.kernel_type,
            cells=before.cells,
            parameters=before.parameters,
            options=before.options,
            requested_by="tester",
            at=clock.now(),
        )
        await repository.save(
            self.store, execution, self.stream(execution.id, execution), AS_TESTER
        )
        self._requests[execution.id] = execution
        return execution.id

    def stream(self, stream_id: UUID, aggregate: Notebook | Execution) -> Stream:
        """The stream of a new aggregate."""
        subject = aggregate.notebook_id if isinstance(aggregate, Execution) else stream_id
        return Stream(stream_id, subject, self.tenant_id, self.project_id)

    async def command(self, *execution_ids: UUID) -> None:
        """Publish the commands, as the relay does."""
        requests = [self._requests[execution_id] for execution_id in execution_ids]
        types = sorted({execution.kernel_type for execution in requests})
        await clients.ensure_topics(self.settings.kafka, types)
        async with clients.producer(self.settings.kafka, client_id="test") as producer:
            for execution in requests:
                await producer.send_and_wait(
                    clients.command_topic(
                        self.settings.kafka, execution.kernel_type, execution.options.priority
                    ),
                    self._body(execution.id),
                    key=str(execution.id).encode(),
                    headers=cloudevents.command_headers(
                        cloudevents.EXECUTE,
                        command_id=uuid4(),
                        execution_id=execution.id,
                        at=clock.now(),
                    ),
                )

    async def cancel(self, execution_id: UUID, *, tell: bool = True) -> None:
        """Request the end of an execution, and, if asked, tell the workers as the relay does."""
        await repository.update(
            self.store,
            Execution,
            execution_id,
            lambda execution: execution.request_cancel(requested_by="tester", at=clock.now()),
            AS_TESTER,
        )
        if not tell:
            return
        async with clients.producer(self.settings.kafka, client_id="test") as producer:
            await producer.send_and_wait(
                clients.control_topic(self.settings.kafka),
                self._body(execution_id),
                headers=cloudevents.command_headers(
                    cloudevents.CANCEL,
                    command_id=uuid4(),
                    execution_id=execution_id,
                    at=clock.now(),
                ),
            )

    def _body(self, execution_id: UUID) -> bytes:
        return msgspec.json.encode(
            {
                "executionId": execution_id,
                "notebookId": self._requests[execution_id].notebook_id,
                "tenantId": self.tenant_id,
                "projectId": self.project_id,
            }
        )

    async def until(
        self,
        execution_id: UUID,
        condition: Callable[[Execution], bool] = lambda execution: execution.ended,
        *,
        seconds: float = 30.0,
    ) -> Execution:
        """Wait until the execution meets the condition (by default: has ended)."""
        async with asyncio.timeout(seconds), EventTail(self.pool) as tail:
            while True:
                await tail.next_batch()
                loaded = await aggregates.load(self.store, Execution, execution_id)
                if loaded is not None and condition(loaded.aggregate):
                    return loaded.aggregate

    async def history(self, execution_id: UUID) -> list[RecordedEvent]:
        """The events of an execution."""
        return await self.store.read_stream(execution_id)

    async def events(self, execution_id: UUID, kind: type[_Event]) -> list[_Event]:
        """Its events of one kind, decoded."""
        found = [
            decode(
                recorded.type,
                recorded.data or b"",
                stream_id=recorded.stream_id,
                version=recorded.version,
                occurred_at=recorded.occurred_at,
            )
            for recorded in await self.history(execution_id)
        ]
        return [event for event in found if isinstance(event, kind)]

    async def warnings(self, execution_id: UUID) -> list[str]:
        """What it warns of."""
        return [event.warning for event in await self.events(execution_id, Execution.Warned)]

    async def scope(self, execution_id: UUID) -> Scope:
        """Where its outputs and files are in the artifact store."""
        (first, *_) = await self.history(execution_id)
        return Scope(first.tenant_id, first.project_id, first.subject_id)

    async def content(self, execution_id: UUID, form: Representation) -> bytes:
        """An output or a file of it."""
        return await self.artifacts.get(await self.scope(execution_id), form.digest)

    async def types(self, execution_id: UUID) -> list[str]:
        """The types of its events, short: ``claimed``, ``cell-started``, …"""
        history = await self.history(execution_id)
        return [recorded.type.split(".")[1] for recorded in history]

    async def leases(self) -> int:
        """How many leases are written down."""
        async with acquire(self.pool) as connection:
            count: int = await connection.fetchval("SELECT count(*) FROM execution_lease")
        return count

    async def until_released(self, *, seconds: float = 30.0) -> None:
        """Wait until no lease is left: every run is over."""
        async with asyncio.timeout(seconds):
            while await self.leases():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def worker(self, *, wait: bool = True, **options: Any) -> AsyncIterator[asyncio.Event]:
        """A worker in this process, ready (unless told not to wait), stopped at the end.

        Its kernels are forked by the fork servers of this process.
        """
        async with _running(worker.run, self._with(options), wait=wait) as ready:
            yield ready

    @asynccontextmanager
    async def sweeper(self) -> AsyncIterator[asyncio.Event]:
        """A sweeper in this process."""
        async with _running(sweeper.run, self.settings, wait=True) as ready:
            yield ready

    def _with(self, options: dict[str, Any]) -> settings.Settings:
        limits = options.pop("limits", self.settings.limits)
        environments = options.pop("environments", self.settings.environments)
        changed = msgspec.structs.replace(self.settings.worker, **options)
        return msgspec.structs.replace(
            self.settings, worker=changed, limits=limits, environments=environments
        )


SEES_FILES: Mapping[str, Any] = {"isolation": "process", "run_as": ""}
"""Worker settings with which kernels see the files of a test, and can make some there."""
HELD: Mapping[str, Any] = {
    "kernels": {"python3": "held"},
    "pool_min": 0,
    "pool_max": 0,
    **SEES_FILES,
}
"""Settings of a worker whose kernels `hold_kernels` holds; it starts none but those it needs."""


def hold_kernels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No kernel of a worker with the settings `HELD` is ready before this file is there.

    In namespaces of its own it would never see the file.
    """
    go = folder / "go"
    spec = folder / "jupyter" / "kernels" / "held"
    spec.mkdir(parents=True)
    wait = f"while [ ! -e '{go}' ]; do sleep 0.05; done"
    start = f"exec '{sys.executable}' -m ipykernel_launcher -f \"$0\""
    argv = ["sh", "-c", f"{wait}; {start}", "{connection_file}"]
    told = {"argv": argv, "display_name": "Python", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(told))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
    return go


async def eventually(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Wait for what no event tells of: processes and files that go away."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _running(role: Any, config: settings.Settings, *, wait: bool) -> AsyncIterator[Any]:
    stop, ready = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(role(config, stop, ready.set))
    try:
        if wait:
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait({waiting, task}, timeout=60, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            assert ready.is_set(), task
        yield ready
    finally:
        stop.set()
        async with asyncio.timeout(40):
            await task


def make_settings(
    dsn: str, bootstrap: str, prefix: str, folder: Path, *, lease_seconds: float = 30.0
) -> settings.Settings:
    """Settings with quick recovery.

    A lease that is too short for a busy machine ends while its worker lives, so only where one
    has to end it is to be short.
    """
    kafka_name = os.environ.get("NBLEDGER_TEST_KAFKA", "tansu")
    return settings.Settings(
        postgres=settings.Postgres(dsn=dsn),
        kafka=settings.Kafka(
            bootstrap_servers=bootstrap,
            topic_prefix=prefix,
            idempotent=False,
            partitions=2,
            # What the broker lets a new member of a group wait for when one has just left.
            session_timeout_seconds=1.5 if kafka_name == "tansu" else 6.0,
        ),
        artifacts=settings.Artifacts(url=(folder / "artifacts").as_uri()),
        worker=settings.Worker(
            concurrency=2,
            lease_seconds=lease_seconds,
            renew_seconds=0.4,
            shutdown_grace_seconds=0.2,
            # Most tests run one notebook: more kernels would wait in vain.
            pool_max=1,
            work_folder=str(folder / "work"),
            report_browser="",
        ),
        recovery=settings.Recovery(sweep_seconds=0.2),
        environments=settings.Environments(folder=str(folder / "environments")),
    )


@asynccontextmanager
async def stage(config: settings.Settings) -> AsyncIterator[Stage]:
    """A stage on the database and broker of the settings."""
    pool = await connect_pool(config.postgres.dsn, application_name="test")
    store = EventStore(pool)
    await store.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(worker, "ForkServers", fork_servers)
            yield Stage(config, pool, store)
    finally:
        await store.close()
        await pool.close()
