"""The worker role: takes commands, claims executions and runs them."""

import asyncio
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from nbledger_application import claims
from nbledger_application.queue import ShareLimits
from nbledger_infrastructure.artifacts.health import ArtifactHealth
from nbledger_infrastructure.artifacts.store import ArtifactStore, open_store
from nbledger_infrastructure.backoff import Backoff
from nbledger_infrastructure.commands import Command
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.database import (
    UNAVAILABLE,
    DatabaseUnavailableError,
    connect_pool,
)
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.postgres.worker_registry import WorkerOffer
from nbledger_infrastructure.settings import Settings
from nbledger_workers.confinement import levels, places
from nbledger_workers.confinement.work_folder import work_folder
from nbledger_workers.intake import consumers, taking
from nbledger_workers.intake.capacity import Slots, slots_of
from nbledger_workers.intake.doorbell import Doorbell
from nbledger_workers.intake.turns import Turns
from nbledger_workers.kernel.driving.pair import ForkServers
from nbledger_workers.kernel.driving.pool import KernelPool
from nbledger_workers.kernel.processes.fork_client import can_fork
from nbledger_workers.kernel.resources.limits import process_limits
from nbledger_workers.kernel.specs import offered_kernels
from nbledger_workers.kernel.standalone.isolation import Isolation
from nbledger_workers.running.environments import Provider
from nbledger_workers.running.lease_keeper import LeaseKeeper
from nbledger_workers.running.run import Run
from nbledger_workers.running.services import RunServices
from nbledger_workers.storing.patience import Patience

log = structlog.get_logger(__name__)

_CLAIM_SECONDS: Final = 3.0
_QUIET_SECONDS: Final = 0.02
_END_SECONDS: Final = 20.0
"""What runs that are handed back may take to end their kernels and to say so."""


class NoKernelError(Exception):
    """None of the kernel types in the settings has a kernelspec on this machine."""


async def run(settings: Settings, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
    """Work until ``stop`` is set; ``on_ready`` is called when commands are being taken.

    At the stop no more commands are taken, runs may end within the grace time, and those that do
    not are handed back. Raises ``DatabaseUnavailableError`` when the database is away at the
    start, :class:`NoKernelError`, and ``ConsumerStuckError``.
    """
    specs = await asyncio.to_thread(offered_kernels, settings.worker.kernels)
    if not specs:
        raise NoKernelError(f"no kernelspec is installed for any of {settings.worker.kernels}")
    offers = {
        kernel_type: WorkerOffer(
            kernel_type,
            spec.kernelspec,
            spec.language,
            ".".join(map(str, sys.version_info[:3])) if spec.kernelspec == "python3" else None,
        )
        for kernel_type, spec in specs.items()
    }
    worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    async with AsyncExitStack() as stack:
        pool = await connect_pool(
            settings.postgres.dsn,
            max_size=settings.postgres.pool_size,
            application_name="nbledger-worker",
        )
        stack.push_async_callback(_bounded, pool.close, "pool")
        store = EventStore(pool)
        await store.start()
        stack.push_async_callback(_bounded, store.close, "event store")
        keeper = LeaseKeeper(
            settings.postgres.dsn,
            worker_id,
            lease_seconds=settings.worker.lease_seconds,
            renew_seconds=settings.worker.renew_seconds,
            away_seconds=settings.worker.database_away_seconds,
        )
        await keeper.start()
        stack.push_async_callback(keeper.close)

        def on_language(kernel_type: str, version: str) -> None:
            offers[kernel_type] = msgspec.structs.replace(
                offers[kernel_type], language_version=version
            )

        artifacts = ArtifactStore(open_store(settings.artifacts.url))
        patience = Patience(
            database_seconds=settings.worker.database_away_seconds,
            artifacts_seconds=settings.artifacts.unavailable_seconds,
        )
        environments = Provider(settings.environments, store, artifacts, patience)
        await stack.enter_async_context(environments.running())
        kernels = await _open_pool(stack, settings, offers, environments.folders)

        services = RunServices(
            settings=settings,
            worker_id=worker_id,
            pool=pool,
            store=store,
            artifacts=artifacts,
            keeper=keeper,
            kernels=kernels,
            environments=environments,
            offers=offers,
            on_language=on_language,
        )
        if await _usable(artifacts, stop):
            await _Worker(services).work(stop, on_ready)


async def _usable(artifacts: ArtifactStore, stop: asyncio.Event) -> bool:
    """Wait until the artifact store can be used: runs would fail for want of it.

    False when the worker is to stop before.
    """
    checking = asyncio.create_task(ArtifactHealth(artifacts).until_good())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({checking, stopping}, return_when=asyncio.FIRST_COMPLETED)
    usable = checking.done()
    await _cancel_all({checking, stopping})
    return usable


async def _open_pool(
    stack: AsyncExitStack,
    settings: Settings,
    offers: Mapping[str, WorkerOffer],
    hidden: Sequence[Path],
) -> KernelPool:
    """Begin to start kernels, which do not see what is hidden; they end with the stack."""
    fork_servers: ForkServers | None = None
    confine: Callable[[Path, Path], Isolation] | None = None
    parent = Path(settings.worker.work_folder or tempfile.gettempdir())
    other_user = False
    confined = None
    if can_fork():
        confined = await asyncio.to_thread(levels.confinement, settings, hidden)
        levels.report(confined)
        confine, other_user = confined.for_runs(), confined.other_user
        if other_user and not confined.covers:
            parent = places.passable_folder(parent)
    # Entered first, so that it is removed last, once no run is left.
    folder = stack.enter_context(work_folder(parent))
    if other_user:
        # That user has to pass through to the folder of the run, which is the user's own.
        folder.chmod(0o755)
    if confined is not None:
        fork_servers = ForkServers(preparation=confined.preparation)
        stack.callback(fork_servers.close)
    bounds = levels.run_limits(settings.limits)
    kernels = KernelPool(
        folder,
        # Python kernels cost little; what others cost is spent only where they are used.
        {offer.kernelspec: offer.language == "python" for offer in offers.values()},
        minimum=settings.worker.pool_min,
        maximum=settings.worker.pool_max,
        fork_servers=fork_servers,
        process_limits=process_limits(bounds),
        confine=confine,
    )
    stack.push_async_callback(kernels.close)
    kernels.start()
    return kernels


def _with_waiting(offer: WorkerOffer, kernels: KernelPool) -> WorkerOffer:
    waiting = kernels.waiting(offer.kernelspec)
    return msgspec.structs.replace(
        offer, waiting=waiting.count, memory_per_waiting_bytes=waiting.memory_bytes
    )


class _Worker:
    def __init__(self, services: RunServices) -> None:
        self._services = services
        worker, most = services.settings.worker, services.settings.queue
        capacity = worker.concurrency or slots_of(worker.slots_per_core)
        self._slots = Slots(capacity, worker.weights)
        self._limits = ShareLimits.of(most.max_running_per_tenant, most.max_running_per_project)
        self._runs: dict[UUID, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = Turns()
        self._doorbell = Doorbell()
        self._taking: asyncio.Task[bool] | None = None

    async def work(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        services = self._services
        kafka = services.settings.kafka
        log.info(
            "worker starts",
            worker_id=services.worker_id,
            kernel_types=sorted(services.offers),
            capacity=self._slots.capacity,
        )
        await self._heartbeat()
        beating = asyncio.create_task(self._beat())
        hearing = asyncio.create_task(
            consumers.commands(
                kafka,
                sorted(services.offers),
                doorbell=self._doorbell,
                client_id=services.worker_id,
                on_ready=_once(on_ready),
            )
        )
        choosing = asyncio.create_task(
            taking.take_turns(
                services.pool,
                sorted(services.offers),
                self,
                slots=self._slots,
                turns=self._turns,
                doorbell=self._doorbell,
                limits=self._limits,
            )
        )
        listening = asyncio.create_task(
            consumers.cancels(kafka, self._cancel, client_id=services.worker_id)
        )
        stopping = asyncio.create_task(stop.wait())
        watched: set[asyncio.Task[Any]] = {beating, hearing, choosing, listening, stopping}
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            await _cancel_all({hearing, choosing})
            await self._finish_taking()
            await self._drain(services.settings.worker.shutdown_grace_seconds)
        finally:
            await _cancel_all(watched)
            await self._finish_taking()
            await self._drain(0)
            await self._sign_off()
        for task in watched - {stopping}:
            # It should have gone on for ever.
            if not task.cancelled():
                task.result()

    async def read(self, command: Command) -> claims.Histories | None:
        """What a claim of this run reads, ahead of it; ``None`` if it cannot be read now."""
        with suppress(DatabaseUnavailableError, *UNAVAILABLE):
            return await claims.read(self._services.store, command)
        return None

    async def take(self, command: Command, histories: claims.Histories | None) -> bool:
        """Claim and begin a run; tells whether it was to be had. Does not raise."""
        # Not interrupted by the end of the intake: a claim half made would wait for the sweeper.
        self._taking = asyncio.create_task(self._claim(command, histories))
        return await asyncio.shield(self._taking)

    async def _claim(self, command: Command, histories: claims.Histories | None) -> bool:
        """Claim and begin a run. Waits while the database is away."""
        services = self._services
        execution_id = command.execution_id
        if (running := self._runs.get(execution_id)) is not None:
            if not running.concluded:
                return False
            # It is to begin anew, once it is over here.
            await running.over.wait()
            histories = None
        backoff = Backoff(0.1, 5.0)
        while True:
            try:
                held = await claims.claim(
                    services.store,
                    command,
                    worker_id=services.worker_id,
                    kernel_types=services.offers,
                    limits=self._limits,
                    unsure=backoff.failures > 0,
                    histories=None if backoff.failures else histories,
                )
                break
            except (DatabaseUnavailableError, *UNAVAILABLE):
                if not backoff.failures:
                    log.warning("database is away, command waits")
                await backoff.wait()
            except Exception:
                # One run must not end the intake; it is tried again later.
                log.exception("run not claimed", execution_id=str(execution_id))
                return False
        if held is None:
            return False
        self._turns.took(held.execution.options.priority)
        begun = Run(services, held)
        self._runs[execution_id] = begun
        weight = self._slots.weight(held.execution.kernel_type)
        self._slots.take(weight)
        with structlog.contextvars.bound_contextvars(
            execution_id=str(execution_id), epoch=held.epoch
        ):
            log.info("execution claimed", kernel_type=held.execution.kernel_type)
            task = asyncio.create_task(begun.run())
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._runs.pop(execution_id, None)
            self._slots.give_back(weight)
            # What a limit has held back may start now; the news of the end goes out before.
            asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._doorbell.ring)
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("run broke", execution_id=str(execution_id), exc_info=error)

        task.add_done_callback(ended)
        return True

    async def _finish_taking(self) -> None:
        if self._taking is not None:
            await asyncio.wait({self._taking}, timeout=_CLAIM_SECONDS)
            await _cancel_all({self._taking})

    def _cancel(self, execution_id: UUID) -> None:
        running = self._runs.get(execution_id)
        if running is not None:
            running.cancel()

    async def _drain(self, grace: float) -> None:
        """Wait for the runs, then hand the rest back."""
        if not self._tasks:
            return
        if grace:
            log.info("waiting for runs", count=len(self._tasks), seconds=grace)
            await asyncio.wait(self._tasks, timeout=grace)
        for running in list(self._runs.values()):
            running.hand_back()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_END_SECONDS)
        await _cancel_all(set(self._tasks))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(worker_registry.HEARTBEAT_SECONDS)
            try:
                await self._heartbeat()
            except (DatabaseUnavailableError, *UNAVAILABLE):
                log.warning("heartbeat not written")

    async def _heartbeat(self) -> None:
        services = self._services
        await worker_registry.heartbeat(
            services.pool,
            services.worker_id,
            [_with_waiting(offer, services.kernels) for offer in services.offers.values()],
            capacity=self._slots.capacity,
        )

    async def _sign_off(self) -> None:
        try:
            async with asyncio.timeout(5):
                await worker_registry.remove(self._services.pool, self._services.worker_id)
        except (DatabaseUnavailableError, *UNAVAILABLE):
            log.warning("worker not signed off")


def _once(on_ready: Callable[[], None]) -> Callable[[], None]:
    told = False

    def tell() -> None:
        nonlocal told
        if not told:
            told = True
            on_ready()

    return tell


async def _cancel_all(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _bounded(close: Callable[[], Awaitable[None]], what: str) -> None:
    try:
        async with asyncio.timeout(10):
            await close()
    except (DatabaseUnavailableError, *UNAVAILABLE) as error:
        log.warning("not closed in order", part=what, error=type(error).__name__)
