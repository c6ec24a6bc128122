"""The time of a list page in a project of 1,000,000 notebooks against one of 1,000."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from benchmarks.bench import Bench
from benchmarks.figures import TIMES, Figure, compare
from benchmarks.history import listed
from nbledger_domain.events import encode
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import Metadata, RecordedEvent
from nbledger_projections.machinery.documents import Page
from nbledger_projections.machinery.runner import project as run_batch
from nbledger_projections.read_models.notebooks import listing

SMALL, LARGE = 1_000, 1_000_000
PAGE_SIZE = 20
_BATCH = 5_000
_PATTERNS = 40
"""After so many notebooks, status, kernel type and mode have met in every combination."""
FILTERS: list[dict[str, Any]] = [
    {},
    *({"status": status} for status in ("Ready", "Running", "Error", "Kernel_Dead")),
    {"kernel_type": "python3"},
    {"kernel_type": "r"},
    {"enrichment_mode": True},
    {"enrichment_mode": False},
    {"status": "Ready", "kernel_type": "python3", "enrichment_mode": True},
    {"status": "Error", "kernel_type": "r", "enrichment_mode": False},
]
PLACES = ("first", "middle", "last")


@dataclass(frozen=True, slots=True)
class Project:
    """A project of a known size in a database of its own."""

    pool: Pool
    tenant_id: UUID
    project_id: UUID


def list_scale(bench: Bench) -> list[Figure]:
    """Every filter on the first, a middle and the last page; the worst of them is the figure.

    Called below HTTP, whose constant cost would hide a difference. Each project has a database of
    its own: a small project in a large database would share the depth of its indexes. The rows
    are written by the projection, from events that are handed to it without having been in a
    store, which the list never reads: appending and reading them would double the time.
    """
    large_size = 5_000 if bench.quick else LARGE
    small = _project(bench, "list_small", SMALL)
    large = _project(bench, "list_large", large_size)
    calls = 3 if bench.quick else 40
    worst: tuple[float, str, list[tuple[float, float]]] | None = None
    ratios: list[float] = []
    for filters, place in itertools.product(FILTERS, PLACES):
        pairs = bench.run(_rounds((large, small), filters, place, bench.rounds, calls))
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        ratios.append(ratio)
        name = ", ".join(f"{key}={value}" for key, value in filters.items()) or "no filter"
        bench.say(f"  {place} page, {name}: {ratio:.2f} {TIMES}")
        if worst is None or ratio > worst[0]:
            worst = (ratio, f"{place} page, {name}", pairs)
    for project, database in ((small, "list_small"), (large, "list_large")):
        bench.run(project.pool.close())
        bench.drop_database(database)
    assert worst is not None
    bench.say(f"  median of all: {statistics.median(ratios):.2f} {TIMES}")
    return [
        compare(
            figure=f"list page of {large_size:,} notebooks, worst of {len(ratios)}: {worst[1]}",
            unit="ms",
            against=f"the same of {SMALL:,} notebooks",
            pairs=worst[2],
            bound=1.3,
            better="lower",
        )
    ]


def _project(bench: Bench, database: str, size: int) -> Project:
    dsn = bench.new_database(database)
    pool = bench.connect(dsn)
    project = Project(pool, new_id(), new_id())
    begin = time.monotonic()
    bench.run(_fill(project, size))
    bench.say(f"  {size:,} notebooks listed in {time.monotonic() - begin:.0f} s")
    return project


async def _fill(project: Project, size: int) -> None:
    projection = listing.MODEL.projection()
    events = _events(project, size)
    async with acquire(project.pool) as connection:
        await connection.execute("SET synchronous_commit = off")
        while batch := list(itertools.islice(events, _BATCH)):
            async with connection.transaction():
                await run_batch(connection, projection, batch)
            projection.settle()
        # What autovacuum would do in its own time; the figure is not about waiting for it.
        await connection.execute("VACUUM ANALYZE", timeout=300)


def _events(project: Project, size: int) -> Iterator[RecordedEvent]:
    """Events as the store would give them, with the data of few notebooks under many ids."""
    patterns = [
        [
            [(event.TYPE, encode(event), event.timestamp) for event in history.events]
            for history in listed(number)
        ]
        for number in range(_PATTERNS)
    ]
    metadata = Metadata(actor="bench")
    digest = bytes(32)
    position = 0
    for number in range(size):
        notebook_id = new_id()
        stream_id = notebook_id
        for history in patterns[number % _PATTERNS]:
            for version, (type_name, data, at) in enumerate(history, 1):
                position += 1
                yield RecordedEvent(
                    position=position,
                    stream_id=stream_id,
                    version=version,
                    event_id=stream_id,
                    type=type_name,
                    subject_id=notebook_id,
                    tenant_id=project.tenant_id,
                    project_id=project.project_id,
                    data=data,
                    metadata=metadata,
                    occurred_at=at,
                    recorded_at=at,
                    digest=digest,
                    chain=digest,
                    stored_type=type_name,
                )
            stream_id = new_id()  # that of the execution


async def _rounds(
    projects: tuple[Project, Project],
    filters: dict[str, Any],
    place: str,
    rounds: int,
    calls: int,
) -> list[tuple[float, float]]:
    """Median milliseconds of a page in both projects, call by call in turn."""
    pages = [await _page_number(project, filters, place) for project in projects]
    pairs = []
    for number in range(rounds + 1):
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(calls):
            for project, page, taken in zip(projects, pages, times, strict=True):
                begin = time.perf_counter()
                found = await _page(project, filters, page)
                taken.append((time.perf_counter() - begin) * 1000)
                assert len(found.items) == PAGE_SIZE
        if number:  # the first round finds caches cold
            pairs.append((statistics.median(times[0]), statistics.median(times[1])))
    return pairs


async def _page_number(project: Project, filters: dict[str, Any], place: str) -> int:
    if place == "first":
        return 1
    total = (await _page(project, filters, 1)).total_count
    # The last page holds what is left over: the last full one is comparable.
    last = total // PAGE_SIZE
    return last if place == "last" else (last + 1) // 2


async def _page(project: Project, filters: dict[str, Any], page: int) -> Page:
    return await listing.page(
        project.pool,
        project.tenant_id,
        project.project_id,
        page=page,
        page_size=PAGE_SIZE,
        **filters,
    )
