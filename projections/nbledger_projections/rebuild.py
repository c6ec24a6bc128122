"""Rebuilding read models from all events, beside those in use, and taking their place.

Reading and projecting go on meanwhile. Events are read once for all that are rebuilt together.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import asyncpg
import structlog

from nbledger_infrastructure.postgres.database import (
    Pool,
    PooledConnection,
    acquire,
    close_pool,
    connect_pool,
)
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Settings
from nbledger_projections.rebuilding import progress, tables
from nbledger_projections.rebuilding.beside import Beside, beside
from nbledger_projections.rebuilding.exchange import take_place
from nbledger_projections.rebuilding.filling import fill
from nbledger_projections.rebuilding.progress import Purpose, Reporter, Tell, unheard
from nbledger_projections.rebuilding.tables import RebuildRunningError
from nbledger_projections.registry import READ_MODELS

log = structlog.get_logger(__name__)

ALL = "all"

_LEFT: Final = f"""
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $2) AS made, ({tables.HELD}) AS held
"""  # noqa: S608 (constants)


class UnknownProjectionError(Exception):
    """There is no projection of this name."""

    def __init__(self, name: str) -> None:
        known = ", ".join(READ_MODELS)
        super().__init__(f"there is no projection {name!r}; there are {known}, and {ALL}")


def named(names: Sequence[str]) -> list[str]:
    """The projections that ``names`` are, each once, where ``all`` are all of them.

    Raises :class:`UnknownProjectionError`.
    """
    for name in names:
        if name != ALL and name not in READ_MODELS:
            raise UnknownProjectionError(name)
    return [name for name in READ_MODELS if ALL in names or name in names]


async def rebuild(settings: Settings, names: Sequence[str], tell: Tell = unheard) -> dict[str, int]:
    """Rebuild these read models (or ``all``) together, and tell how far they are.

    Returns the position that each was at when it took its place. Safe at any time, with any number
    of projectors running; they go on with the new tables. Each takes its place for itself: where
    one fails, the others are rebuilt all the same, and it is as it was.

    Raises :class:`UnknownProjectionError`, :class:`RebuildRunningError`, the first failure (among
    them :class:`PoisonedEventError` and :class:`TablesBusyError`) and ``DatabaseUnavailableError``.
    """
    wanted = named(names)
    async with pool_for(settings, wanted) as pool:
        return await rebuild_projections(pool, wanted, tell)


@asynccontextmanager
async def pool_for(settings: Settings, names: Sequence[str]) -> AsyncIterator[Pool]:
    """As many connections as building these takes: one for each, and two."""
    pool = await connect_pool(
        settings.postgres.dsn, max_size=len(names) + 2, application_name="nbledger-rebuild"
    )
    try:
        yield pool
    finally:
        await close_pool(pool)


async def rebuild_projections(
    pool: Pool, names: Sequence[str], tell: Tell = unheard
) -> dict[str, int]:
    """As :func:`rebuild`, with connections of ``pool``: one for each name, and two."""
    await remove_leftovers(pool)
    positions: dict[str, int] = {}
    async with building(pool, names, "rebuild", tell) as (built, reporter):
        await fill(pool, built, reporter)
        for each in built:
            if each.failure is None:
                await _finish(pool, each, reporter)
            if each.failure is None:
                positions[each.name] = each.position
                log.info("read model rebuilt", projection=each.name, position=each.position)
    for each in built:
        if each.failure is not None:
            raise each.failure
    return positions


async def _finish(pool: Pool, built: Beside, reporter: Reporter) -> None:
    try:
        await reporter.at(built.name, "finishing")
        await built.finish()
        await take_place(EventStore(pool), built, reporter)
    except Exception as error:  # noqa: BLE001 (told once the others are done)
        built.failure = error
    await reporter.at(built.name, "done" if built.failure is None else "failed")


@asynccontextmanager
async def building(
    pool: Pool, names: Sequence[str], purpose: Purpose, tell: Tell
) -> AsyncIterator[tuple[list[Beside], Reporter]]:
    """Have tables for these beside those in use within the block, and tell how far they are."""
    reporter = Reporter(pool, purpose, tell)
    async with AsyncExitStack() as stack:
        built = [await stack.enter_async_context(beside(pool, name)) for name in names]
        await reporter.begin(built)
        try:
            yield built, reporter
        finally:
            await reporter.end()


async def remove_leftovers(pool: Pool) -> None:
    """Drop what those left behind that were killed while they built."""
    async with acquire(pool) as connection:
        for name in READ_MODELS:
            if not await _is_left(connection, name):
                continue
            try:
                async with tables.alone(connection, name):
                    await tables.drop(connection, tables.schema_of(name))
                    await progress.forget(connection, [name])
                    log.info("leftovers of a rebuild removed", projection=name)
            except RebuildRunningError:
                continue
            except asyncpg.InsufficientPrivilegeError:
                log.warning(
                    "a rebuild that was killed has left tables, which are not ours to drop",
                    projection=name,
                    remedy="nbledger projections rebuild, as the owner of the database",
                )


async def _is_left(connection: PooledConnection, name: str) -> bool:
    left = await connection.fetchrow(_LEFT, name, tables.schema_of(name))
    return left is not None and left["made"] and not left["held"]
