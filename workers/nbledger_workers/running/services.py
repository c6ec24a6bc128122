"""What every run of a worker uses."""

from collections.abc import Callable, Mapping

import msgspec

from nbledger_infrastructure.artifacts.store import (
    ArtifactStore,
)
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.postgres.worker_registry import WorkerOffer
from nbledger_infrastructure.settings import Settings
from nbledger_workers.kernel.driving.pool import KernelPool
from nbledger_workers.running.environments import Provider
from nbledger_workers.running.lease_keeper import LeaseKeeper


class RunServices(msgspec.Struct, frozen=True):
    """What every run of a worker uses."""

    settings: Settings
    worker_id: str
    pool: Pool
    store: EventStore
    artifacts: ArtifactStore
    keeper: LeaseKeeper
    kernels: KernelPool
    environments: Provider
    offers: Mapping[str, WorkerOffer]
    on_language: Callable[[str, str], None]
    """Called with kernel type and version of its language when a kernel has told."""
