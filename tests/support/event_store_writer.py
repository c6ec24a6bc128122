"""A process of several writers, each on a pool and store of its own where asked.

Arguments: DSN, first writer, writers, stores, appends by each. Prints one line per writer:
its number, then the position of each of its appends, then how many conflicts it met.
"""

from __future__ import annotations

import asyncio
import random
import sys

from support.event_store import METADATA, new_event, new_stream, open_pool, open_store

from nbledger_infrastructure.postgres.event_store import EventStore, RecordConflictError


async def write(store: EventStore, number: int, count: int) -> str:
    """Append `count` events, tagged with writer and number, over several streams."""
    chance = random.Random(number)
    stream, version = new_stream(), 0
    positions = []
    conflicts = 0
    for n in range(count):
        if chance.random() < 0.1:
            await asyncio.sleep(chance.random() * 0.01)
        if version and chance.random() < 0.02:
            try:
                await store.append(
                    stream, [new_event()], expected_version=version - 1, metadata=METADATA
                )
            except RecordConflictError:
                conflicts += 1
        event = new_event(b'{"writer": %d, "n": %d}' % (number, n))
        result = await store.append(stream, [event], expected_version=version, metadata=METADATA)
        positions.append(result.position)
        version = result.version
        if version == 50:
            stream, version = new_stream(), 0
    return f"{number} {conflicts} {' '.join(map(str, positions))}"


async def main(dsn: str, first: int, writers: int, stores: int, count: int) -> None:
    """Run the writers, spread over the stores."""

    async def one_store(numbers: range) -> None:
        async with open_pool(dsn) as pool, open_store(pool) as store:
            for line in await asyncio.gather(*(write(store, n, count) for n in numbers)):
                print(line)

    every = range(first, first + writers)
    await asyncio.gather(*(one_store(every[n::stores]) for n in range(stores)))


if __name__ == "__main__":
    dsn, *numbers = sys.argv[1:]
    asyncio.run(main(dsn, *map(int, numbers)))
