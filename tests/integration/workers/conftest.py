"""Stages of the tests of workers, whose modules have one event loop each."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.databases import create_database, drop_database
from support.executions import Stage, make_settings, stage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a module's tests run in its loop, in which the worker of `at_work` lives."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


@pytest_asyncio.fixture(loop_scope="module")
async def scene(
    database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Stage]:
    """A stage of this test's own, with quick recovery."""
    async with stage(make_settings(database_dsn, kafka, topic_prefix, tmp_path)) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def _shared_stage(
    kafka: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    dsn = create_database()
    folder = tmp_path_factory.mktemp("stage")
    config = make_settings(dsn, kafka, f"t{uuid.uuid4().hex[:16]}", folder)
    async with stage(config) as made, made.worker():
        yield made
    drop_database(dsn)


@pytest_asyncio.fixture(loop_scope="module")
async def at_work(_shared_stage: Stage) -> Stage:
    """The module's stage, with a worker on it, in a tenant of this test's own."""
    return _shared_stage.apart()
