"""What the handlers work with."""

import asyncio
from typing import Any, cast

import msgspec
from litestar import Request

from nbledger_application.commands.record_history_read import ReadRecorder
from nbledger_http.security.authentication import Authenticator
from nbledger_http.security.links import LinkSigner
from nbledger_infrastructure.artifacts.health import ArtifactHealth
from nbledger_infrastructure.artifacts.store import ArtifactStore
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, StreamWatch
from nbledger_infrastructure.postgres.principals import Names
from nbledger_infrastructure.settings import Settings
from nbledger_projections.machinery.positions import PositionWatch
from nbledger_projections.read_models.executions.results import RecentResults

CONVERSIONS = 1
"""Each takes some memory and every processor."""

EXPORTS = 4
"""Each is a process, for as long as its client takes what it writes."""

UPLOADS = 32
"""Each has a folder on disk, and a connection for as long as its client sends."""

INSPECTIONS = 2
"""Each unpacks a wheel in memory, piece by piece."""

RENDERINGS = 2
"""Each has all outputs of a notebook in memory."""


HISTORIES = 2
"""Each has a page of events in memory, and folds thousands of them."""


class Services(msgspec.Struct, kw_only=True):
    """Everything that a handler may call, made once and closed by whoever made it.

    ``conversions`` bounds how many uploaded tables are worked on at once, ``exports`` how many are
    written as CSV, ``uploads`` how many files are received, ``inspections`` how many wheels are
    looked through, ``renderings`` how many notebook files are made, ``histories`` how many pages of
    histories with what has changed. ``draining`` is set when the server is about to end.
    """

    settings: Settings
    pool: Pool
    store: EventStore
    artifacts: ArtifactStore
    artifact_health: ArtifactHealth
    authenticator: Authenticator
    names: Names
    history_reads: ReadRecorder
    links: LinkSigner
    positions: PositionWatch
    streams: StreamWatch
    conversions: asyncio.Semaphore = msgspec.field(
        default_factory=lambda: asyncio.Semaphore(CONVERSIONS)
    )
    exports: asyncio.Semaphore = msgspec.field(default_factory=lambda: asyncio.Semaphore(EXPORTS))
    uploads: asyncio.Semaphore = msgspec.field(default_factory=lambda: asyncio.Semaphore(UPLOADS))
    inspections: asyncio.Semaphore = msgspec.field(
        default_factory=lambda: asyncio.Semaphore(INSPECTIONS)
    )
    renderings: asyncio.Semaphore = msgspec.field(
        default_factory=lambda: asyncio.Semaphore(RENDERINGS)
    )
    histories: asyncio.Semaphore = msgspec.field(
        default_factory=lambda: asyncio.Semaphore(HISTORIES)
    )
    recent_results: RecentResults = msgspec.field(default_factory=RecentResults)
    draining: bool = False


def services_of(request: Request[Any, Any, Any]) -> Services:
    """The services of the application that got ``request``."""
    return cast("Services", request.app.state.services)
