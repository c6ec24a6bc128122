"""What a proof costs out of a large log, of which no event is there to be read."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from uuid import UUID

from benchmarks.bench import Bench
from benchmarks.figures import Figure, within
from nbledger_audit import logs
from nbledger_domain.transparency import merkle, tiles
from nbledger_domain.transparency.merkle import Perfect
from nbledger_domain.transparency.tiles import WIDTH, Tile
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.database import Pool, PooledConnection

ENTRIES = 1_000_000
ENTRIES_IN_FULL = 10_000_000
PROOFS = 500
MOST_HASHES = 30

_BATCH = WIDTH * WIDTH


def proofs(bench: Bench) -> list[Figure]:
    """Milliseconds of proofs that one event is in the log, and that one log is of another."""
    entries = 5_000 if bench.quick else ENTRIES_IN_FULL if bench.full else ENTRIES
    pool = bench.connect(bench.new_database("proofs"))
    bench.say(f"  making a log of {entries:,} entries")
    inclusion, consistency, most, busy = bench.run(_measured(pool, entries))
    bench.say(f"  a proof of one entry takes {busy:.2f} ms of processor time in Python")
    bench.run(pool.close())
    bench.drop_database("proofs")
    return [
        within(
            figure=f"proof that one of {entries:,} entries is in the log",
            unit="ms",
            values=inclusion,
            bound=5,
        ),
        within(
            figure=f"proof that a log of {entries:,} entries goes on from an earlier one",
            unit="ms",
            values=consistency,
            bound=5,
        ),
        within(
            figure=f"hashes of a proof out of {entries:,} entries, at most",
            unit="hashes",
            values=[most],
            bound=MOST_HASHES,
        ),
    ]


async def _measured(pool: Pool, entries: int) -> tuple[list[float], list[float], int, float]:
    """Milliseconds of each proof of either kind, and the most hashes that one has.

    At last the processor time of an inclusion proof, in milliseconds. Each proof is checked against
    the root of the log, and against that of the earlier log, which is computed beforehand.
    """
    tenant, chosen = new_id(), random.Random(1)
    inclusion: list[float] = []
    consistency: list[float] = []
    most, busy = 0, 0.0
    async with pool.acquire() as connection:
        await _fill(connection, tenant, entries)
        root = await logs.root(connection, tenant, entries)
        for _ in range(PROOFS):
            position = chosen.randrange(1, entries + 1)
            begin, used = time.perf_counter(), time.process_time()
            number = await logs.number_of(connection, tenant, position)
            assert number == position - 1
            hashes = await logs.prove(connection, tenant, merkle.inclusion(number, entries))
            inclusion.append((time.perf_counter() - begin) * 1000)
            busy += time.process_time() - used
            merkle.check_inclusion(_leaf(number), number, entries, hashes, root)
            most = max(most, len(hashes))
        for _ in range(PROOFS):
            old = chosen.randrange(1, entries)
            before = await logs.root(connection, tenant, old)
            hashes, took = await _proof(connection, tenant, merkle.consistency(old, entries))
            consistency.append(took)
            merkle.check_consistency(old, before, entries, root, hashes)
            most = max(most, len(hashes))
        assert await connection.fetchval("SELECT count(*) FROM event") == 0
    return inclusion, consistency, most, busy / PROOFS * 1000


async def _proof(
    connection: PooledConnection, tenant: UUID, steps: Sequence[Sequence[Perfect]]
) -> tuple[list[bytes], float]:
    begin = time.perf_counter()
    hashes = await logs.prove(connection, tenant, steps)
    return hashes, (time.perf_counter() - begin) * 1000


def _leaf(number: int) -> bytes:
    return merkle.leaf_hash(number.to_bytes(8, "big"))


async def _fill(connection: PooledConnection, tenant: UUID, entries: int) -> None:
    """A log of made-up entries at the positions from 1, kept as the sealer keeps one."""
    edge: dict[Tile, bytes] = {}
    for first in range(0, entries, _BATCH):
        size = min(first + _BATCH, entries)
        changed = tiles.append(edge, first, [_leaf(number) for number in range(first, size)])
        growing = set(tiles.right_edge(size))
        # What grows is written when it has come to its end.
        edge = {tile: hashes for tile, hashes in (edge | changed).items() if tile in growing}
        written = edge if size == entries else {}
        written |= {tile: hashes for tile, hashes in changed.items() if tile not in growing}
        await connection.copy_records_to_table(
            "log_tile",
            records=[(tenant, tile.level, tile.number, each) for tile, each in written.items()],
        )
        await connection.copy_records_to_table(
            "log_bundle",
            records=[
                (tenant, begin // WIDTH, begin + 1, list(range(begin + 1, end + 1)))
                for begin in range(first, size, WIDTH)
                for end in (min(begin + WIDTH, size),)
            ],
        )
    await connection.execute("VACUUM ANALYZE log_tile, log_bundle")
