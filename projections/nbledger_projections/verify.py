"""Verifying that read models are what a rebuild makes of the events, without replacing them."""

from collections.abc import Sequence
from typing import Final

import msgspec

from nbledger_infrastructure.postgres import checkpoints
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Settings
from nbledger_projections.machinery.positions import PositionWatch
from nbledger_projections.rebuild import building, named, pool_for, remove_leftovers
from nbledger_projections.rebuilding.beside import Beside
from nbledger_projections.rebuilding.comparing import Difference, RowComparison, TableDigest
from nbledger_projections.rebuilding.filling import fill
from nbledger_projections.rebuilding.progress import Reporter, Tell, unheard

MOST_TOLD: Final = 100
"""Of the rows of a projection that differ, so many are told; all are counted."""

ROUNDS: Final = 4
ROUND_TIMEOUT: Final = 10.0
"""Seconds that the projector is given to get on between rounds."""


class CheckpointFellError(Exception):
    """The projection in use was set back while it was compared."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was set back meanwhile; verify it again")


class Verified(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What comparing one projection has found, as of ``position``.

    ``differing`` counts rows that are not as a rebuild makes them, and ``differences`` tells of the
    first hundred.
    """

    name: str
    position: int
    equal: bool
    differing: int
    tables: list[TableDigest]
    differences: list[Difference]


async def verify(settings: Settings, names: Sequence[str], tell: Tell = unheard) -> list[Verified]:
    """Build these read models (or ``all``) beside those in use, compare them, and drop them again.

    Nothing is locked: both are compared as of one position, as one snapshot of the database shows
    them. Raises as :func:`rebuild.rebuild` does, and :class:`CheckpointFellError`.
    """
    wanted = named(names)
    async with pool_for(settings, wanted) as pool:
        return await verify_projections(pool, wanted, tell)


async def verify_projections(
    pool: Pool, names: Sequence[str], tell: Tell = unheard
) -> list[Verified]:
    """As :func:`verify`, with connections of ``pool``: one for each name, and two."""
    await remove_leftovers(pool)
    verified: list[Verified] = []
    async with building(pool, names, "verify", tell) as (built, reporter):
        for each in built:
            each.until = await checkpoints.checkpoint(pool, each.name)
        await fill(pool, built, reporter)
        for each in built:
            if each.failure is not None:
                raise each.failure
            verified.append(await _verify(pool, each, reporter))
    return verified


async def _verify(pool: Pool, built: Beside, reporter: Reporter) -> Verified:
    """Compare, and again where rows differ: those that differ each time are told.

    What is being deleted may differ for a moment. Its data is erased already, so it is not built
    anew, and the projection in use has yet to come to the event that deletes it.
    """
    await reporter.at(built.name, "comparing")
    lasting: set[tuple[str, str]] | None = None
    for remaining in reversed(range(ROUNDS)):
        comparison, verified = await _compare(built, lasting)
        found = set(comparison)
        lasting = found if lasting is None else lasting & found
        if not lasting or not remaining or not await _moved(pool, built):
            await reporter.at(built.name, "done")
            return verified
        await built.follow(EventStore(pool))
    raise AssertionError("unreachable")


async def _compare(
    built: Beside, lasting: set[tuple[str, str]] | None
) -> tuple[list[tuple[str, str]], Verified]:
    """The rows that differ, and what to tell of those that did so before as well."""
    connection = built.connection
    try:
        async with connection.transaction(isolation="repeatable_read"):
            position = await connection.fetchval(
                "SELECT position FROM projection_checkpoint WHERE name = $1", built.name
            )
            await _fold_to(built, position)
            comparison = RowComparison(connection, built.live, built.schema)
            await comparison.of(built.projection.tables)
            found = list(comparison.differing)
            told = found if lasting is None else [each for each in found if each in lasting]
            differences = await comparison.tell(told[:MOST_TOLD])
    except BaseException:
        built.projection.reset()
        raise
    built.position = position
    counted = sum(each.differing for each in comparison.digests)
    verified = Verified(
        name=built.name,
        position=position,
        equal=not told,
        differing=counted if lasting is None else len(told),
        tables=comparison.digests,
        differences=differences,
    )
    return found, verified


async def _fold_to(built: Beside, position: int) -> None:
    if position < built.position:
        raise CheckpointFellError(built.name)
    await built.fold_here(until=position)


async def _moved(pool: Pool, built: Beside) -> bool:
    """Wait until the projection in use has come to what is the head now; whether it has moved."""
    head = await EventStore(pool).head_position()
    async with PositionWatch(pool) as watch:
        await watch.reached(built.name, head, ROUND_TIMEOUT)
    built.until = await checkpoints.checkpoint(pool, built.name)
    return built.until > built.position
