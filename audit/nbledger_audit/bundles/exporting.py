"""Writing a bundle: what one transaction sees of a scope, up to the newest checkpoint."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import resources
from typing import Final

import msgspec

from nbledger_audit import bundles, logs, reading
from nbledger_audit.bundles import selecting
from nbledger_audit.bundles.copying import ArtifactCopies
from nbledger_audit.bundles.deletions import Deletions
from nbledger_audit.bundles.eventlines import EventLines
from nbledger_audit.bundles.manifest import BundleManifest
from nbledger_audit.bundles.scopes import HistoryScope
from nbledger_audit.bundles.seen import (
    SeenCheckpoints,
    seen_sizes,
    write_checkpoint,
    write_stamps,
)
from nbledger_audit.bundles.selecting import PLANS, HistoryAlteredError, LogPlace, LogSelection
from nbledger_audit.bundles.targets import BundleTarget
from nbledger_audit.bundles.treefiles import TreeFiles
from nbledger_audit.cosigning import told
from nbledger_audit.reading import LogState
from nbledger_domain.transparency.erasures import DELETIONS
from nbledger_domain.transparency.notes import read_note
from nbledger_domain.transparency.policies import Policy
from nbledger_domain.transparency.tiles import WIDTH
from nbledger_infrastructure.artifacts.store import ArtifactStore
from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire

WAIT_SECONDS: Final = 30.0
"""Seconds that an export waits for a checkpoint that covers deletions there are already."""

PROGRAM: Final = ("verify.py", "VERIFY.md")
"""What a bundle is checked with, and how, as this package has it."""

_AGAIN_SECONDS: Final = 0.25

_AFTER: Final = """
SELECT count(*) AS events, coalesce(bool_or(type = ANY($3)), false) AS deletions
FROM event WHERE tenant_id = $1 AND position > $2
"""

Progress = Callable[[int], None]
"""Called with the number of events written so far."""


class NothingToExportError(Exception):
    """No log, no checkpoint, or nothing of what was asked for."""


class _Head(msgspec.Struct, frozen=True):
    """The checkpoint that a bundle ends at, and what is recorded after it."""

    state: LogState
    note: str
    size: int
    position: int
    events_after: int
    deletions_after: bool


async def export(
    pool: Pool,
    scope: HistoryScope,
    target: BundleTarget,
    *,
    artifacts: ArtifactStore | None,
    progress: Progress,
    wait_seconds: float = WAIT_SECONDS,
) -> BundleManifest:
    """Write the bundle of ``scope`` to ``target`` and finish it; without a store, no artifacts.

    Where a deletion is recorded that no checkpoint covers yet, waits for one that does: data may
    be erased by it already.

    Raises :class:`NothingToExportError`, ``HistoryAlteredError`` where the log has other events
    than the store, ``TargetTakenError``, ``OSError``, ``ArtifactStoreUnavailableError`` and
    ``DatabaseUnavailableError``.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_seconds
    while True:
        async with _snapshot(pool) as connection:
            head = await _head(connection, scope)
            if not head.deletions_after or loop.time() >= until:
                manifest = await _write(
                    connection, scope, target, head=head, artifacts=artifacts, progress=progress
                )
                break
        await asyncio.sleep(_AGAIN_SECONDS)
    target.finish()
    return manifest


@asynccontextmanager
async def _snapshot(pool: Pool) -> AsyncIterator[PooledConnection]:
    async with (
        acquire(pool) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(PLANS)
        yield connection


async def _head(connection: PooledConnection, scope: HistoryScope) -> _Head:
    state = await reading.state(connection, scope.tenant_id)
    if state is None or state.published is None:
        raise NothingToExportError(
            f"tenant {scope.tenant_id} has no checkpoint: it has no events, or no sealer is at work"
        )
    index, last = divmod(state.size - 1, WIDTH)
    positions = await logs.positions(connection, scope.tenant_id, index, last + 1)
    if positions is None:
        raise HistoryAlteredError(f"the log has not the {state.size} entries that are signed")
    after = await connection.fetch(_AFTER, scope.tenant_id, positions[-1], DELETIONS)
    return _Head(
        state,
        state.published.note,
        state.size,
        positions[-1],
        after[0]["events"],
        after[0]["deletions"],
    )


async def _write(
    connection: PooledConnection,
    scope: HistoryScope,
    target: BundleTarget,
    *,
    head: _Head,
    artifacts: ArtifactStore | None,
    progress: Progress,
) -> BundleManifest:
    if not await selecting.exists(connection, scope):
        raise NothingToExportError(f"there is no {scope} in tenant {scope.tenant_id}")
    manifest = BundleManifest.of(
        scope,
        origin=head.state.origin,
        size=head.size,
        not_yet_covered=head.events_after,
        artifacts=artifacts is not None,
    )
    selection = await selecting.select(connection, scope, head.size, head.position)
    tree = TreeFiles(connection, scope.tenant_id, target, note=read_note(head.note), size=head.size)
    copies = ArtifactCopies(artifacts, scope, target, manifest.artifacts)
    deletions = Deletions(connection, selection)
    outside = await deletions.outside()
    sizes = await seen_sizes(connection, scope.tenant_id, head.size)
    seen = SeenCheckpoints(sizes, whole=scope.whole)
    try:
        with target.file("events.jsonl") as sink:
            lines = EventLines(
                sink, tree=tree, deletions=deletions, copies=copies, seen=seen, manifest=manifest
            )
            async for places in _merged(selection, outside):
                async for events in selection.events(places):
                    await lines.write(events, frozenset(outside))
                    progress(manifest.events)
        await _prove(selection, tree, lines, manifest)
        await tree.close(seen.sizes)
        for size in seen.sizes:
            await write_checkpoint(connection, target, scope.tenant_id, size)
    except LookupError as error:
        raise HistoryAlteredError(str(error)) from error
    await write_stamps(connection, target, scope.tenant_id, head.size, "checkpoint")
    policy = await told.policy(connection, head.state.keys, "")
    _write_rest(target, head, policy, manifest)
    return manifest


async def _merged(
    selection: LogSelection, outside: list[LogPlace]
) -> AsyncIterator[list[LogPlace]]:
    """The places of a selection and those ``outside`` of it, in order of numbers."""
    waiting = list(outside)
    async for places in selection.places():
        before = [place for place in waiting if place.number < places[-1].number]
        waiting = waiting[len(before) :]
        yield sorted((*before, *places), key=lambda place: place.number)
    if waiting:
        yield waiting


async def _prove(
    selection: LogSelection, tree: TreeFiles, lines: EventLines, manifest: BundleManifest
) -> None:
    """Write the proofs of a partial bundle, and check that a whole one is."""
    scope = selection.scope
    if manifest.whole:
        if manifest.events != manifest.size:
            raise HistoryAlteredError(
                f"the log names {manifest.events} events, and {manifest.size} entries are signed"
            )
        return
    manifest.streams = len(lines.heads)
    proved = set(lines.heads.values())
    if scope.kind == "tenant":
        proved |= await _neighbours(selection, manifest)
    elif not manifest.events and not scope.has_range:
        raise NothingToExportError(f"no checkpoint covers an event of {scope}")
    numbers = iter(sorted(proved))
    while batch := [number for number, _ in zip(numbers, range(WIDTH), strict=False)]:
        places = [await selection.place_of(number) for number in batch]
        async for events in selection.events(places):
            for event in events:
                await tree.cover(event.place.number)
                await tree.prove(event.place.number, event.entry)


async def _neighbours(selection: LogSelection, manifest: BundleManifest) -> set[int]:
    """The numbers before and after a time range of a tenant, where there are any."""
    before = await selection.before()
    last = manifest.last if manifest.last is not None else before
    after = 0 if last is None else last + 1
    found = {after} if after < selection.size else set()
    return found if before is None else {before, *found}


def _write_rest(
    target: BundleTarget, head: _Head, policy: Policy, manifest: BundleManifest
) -> None:
    target.write("checkpoint", head.note.encode())
    target.write("policy", str(policy).encode())
    files = resources.files(bundles)
    for name in PROGRAM:
        if files.joinpath(name).is_file():
            target.write(name, files.joinpath(name).read_bytes())
    target.write("bundle.json", manifest.encoded())
