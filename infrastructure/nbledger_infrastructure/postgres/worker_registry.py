"""Which workers are alive, and which kernel types they offer."""

from collections.abc import Sequence

import msgspec

from nbledger_infrastructure.postgres.database import Pool, acquire

ALIVE_SECONDS = 15.0
"""A worker that has said nothing for so long does not count as alive."""

HEARTBEAT_SECONDS = 4.0
"""How often a worker says that it is alive."""

FORGET_SECONDS = 3600.0
"""The row of a worker that ended without a word is removed after this time."""


class WorkerOffer(msgspec.Struct, frozen=True, rename="camel"):
    """One kernel type that a worker can run; the version of its language when known.

    ``waiting`` is how many of its kernels are ready for the next run;
    ``memory_per_waiting_bytes`` the memory that one of them shares with no other process.
    """

    kernel_type: str
    kernelspec: str
    language: str
    language_version: str | None = None
    waiting: int = 0
    memory_per_waiting_bytes: int | None = None


class OfferedKernel(msgspec.Struct, frozen=True, rename="camel"):
    """A kernel type that can be run now, and how many live workers offer it.

    ``waiting`` kernels are started already; the memory is what one of them has for itself.
    """

    kernel_type: str
    kernelspec: str
    language: str
    language_version: str | None
    workers: int
    waiting: int
    memory_per_waiting_bytes: int | None


async def heartbeat(
    pool: Pool, worker_id: str, offers: Sequence[WorkerOffer], *, capacity: int
) -> None:
    """Say that the worker is alive, and what it offers."""
    async with acquire(pool) as connection:
        await connection.execute(
            """
            INSERT INTO worker (worker_id, offers, capacity) VALUES ($1, $2, $3)
            ON CONFLICT (worker_id) DO UPDATE
            SET seen_at = clock_timestamp(), offers = excluded.offers,
                capacity = excluded.capacity
            """,
            worker_id,
            msgspec.json.encode(offers).decode(),
            capacity,
        )


async def remove(pool: Pool, worker_id: str) -> None:
    """Say that the worker has ended."""
    async with acquire(pool) as connection:
        await connection.execute("DELETE FROM worker WHERE worker_id = $1", worker_id)


async def forget_dead(pool: Pool) -> None:
    """Remove the rows of workers that ended without a word long ago."""
    async with acquire(pool) as connection:
        await connection.execute(
            "DELETE FROM worker WHERE seen_at < clock_timestamp() - make_interval(secs => $1)",
            FORGET_SECONDS,
        )


async def slots(pool: Pool) -> dict[str, int]:
    """How many slots live workers have for each kernel type that they offer."""
    async with acquire(pool) as connection:
        rows = await connection.fetch(
            """
            SELECT offer ->> 'kernelType', sum(capacity)::integer
            FROM worker CROSS JOIN LATERAL json_array_elements(offers) AS offer
            WHERE seen_at > clock_timestamp() - make_interval(secs => $1)
            GROUP BY 1
            """,
            ALIVE_SECONDS,
        )
    return {row[0]: row[1] for row in rows}


async def offers(pool: Pool) -> dict[str, OfferedKernel]:
    """What live workers offer, by kernel type."""
    async with acquire(pool) as connection:
        rows = await connection.fetch(
            """
            SELECT offers FROM worker
            WHERE seen_at > clock_timestamp() - make_interval(secs => $1)
            ORDER BY seen_at
            """,
            ALIVE_SECONDS,
        )
    found: dict[str, OfferedKernel] = {}
    for row in rows:
        for offer in msgspec.json.decode(row["offers"], type=list[WorkerOffer]):
            known = found.get(offer.kernel_type)
            version = offer.language_version or (known.language_version if known else None)
            found[offer.kernel_type] = OfferedKernel(
                offer.kernel_type,
                offer.kernelspec,
                offer.language,
                version,
                1 if known is None else known.workers + 1,
                offer.waiting if known is None else known.waiting + offer.waiting,
                offer.memory_per_waiting_bytes
                or (known.memory_per_waiting_bytes if known else None),
            )
    return found
