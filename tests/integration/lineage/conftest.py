"""One database for each module: every test begins with the events that it makes itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from support.databases import create_database, drop_database
from support.lineage import World
from support.receivers import Receiver, receiver

from nbledger_infrastructure.lineage.manager import NAME
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore


@pytest.fixture(scope="module")
def database_dsn() -> Iterator[str]:
    dsn = create_database()
    yield dsn
    drop_database(dsn)


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest.fixture
async def world(pool: Pool, store: EventStore) -> World:
    """A project with a notebook, which is all that has not been told."""
    head = await store.head_position()
    async with acquire(pool) as connection:
        await connection.execute("DELETE FROM projection_checkpoint WHERE name = $1", NAME)
        await connection.execute(
            "INSERT INTO projection_checkpoint (name, position) VALUES ($1, $2)", NAME, head
        )
    made = World(store)
    await made.save(made.notebook)
    return made
