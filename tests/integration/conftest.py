"""What several integration modules ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.event_store import open_pool, open_store
from support.executions import Stage, make_settings, stage

from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[Pool]:
    """Connections to this test's database."""
    async with open_pool(database_dsn, max_size=6) as opened:
        yield opened


@pytest.fixture
async def store(pool: Pool) -> AsyncIterator[EventStore]:
    """The event store of this test's database."""
    async with open_store(pool) as opened:
        yield opened


@pytest.fixture
async def scene(
    database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Stage]:
    """A stage of this test's own, with quick recovery."""
    async with stage(make_settings(database_dsn, kafka, topic_prefix, tmp_path)) as made:
        yield made
