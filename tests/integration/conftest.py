"""What several integration modules ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.executions import Stage, make_settings, stage


@pytest.fixture
async def scene(
    database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Stage]:
    """A stage of this test's own, with quick recovery."""
    async with stage(make_settings(database_dsn, kafka, topic_prefix, tmp_path)) as made:
        yield made
