"""The time of a page of executions, by any filter: 1,000,000 of them against 1,000."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from benchmarks.bench import Bench
from benchmarks.figures import TIMES, Figure, compare
from nbledger_domain.filtering import parse
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_projections.read_models.executions import listing
from nbledger_projections.read_models.executions.listing import Cursor, ExecutionPage

SMALL, LARGE = 1_000, 1_000_000
PAGE_SIZE = 20
LATER = Cursor(datetime(2024, 1, 4, 7, 20, tzinfo=UTC), 0)

FILTERS = {
    "no filter": "",
    "a status of most": "status = Completed",
    "a status of some": "status = Error",
    "a phase of few": "phase = Queued",
    "a code": "terminationCode = cell_error",
    "a cause": "cause = schedule",
    "who asked": 'requestedBy = "user3"',
    "a notebook": "notebook = {notebook}",
    "a tag of most": "tag:all",
    "a tag of some": "tag:weekly",
    "a tag of one": "tag:once",
    "a tag of none": "tag:never",
    "either of two": "status = Error OR status = Cancelled",
    "not a tag": "NOT tag:weekly",
    "a cause and a tag": "cause = schedule AND tag:weekly",
    "three that are rare": 'status = Cancelled AND tag:weekly AND requestedBy = "user3"',
    "a rare and a common one": "tag:once AND status = Completed",
    "a day": "requested >= 2024-01-01T06:00:00Z AND requested < 2024-01-02T06:00:00Z",
    "failed of a day": "status = Error AND ended >= 2024-01-01T06:00:00Z",
    "two of many that never meet": "tag:odd AND tag:even",
    "one of either kind, never met": "tag:odd AND cause = schedule",
}
"""By what they are; executions are made in a pattern of 40."""

_RUNS = """
INSERT INTO execution_list (
    execution_id, notebook_id, tenant_id, project_id, requested_at, requested_position, status,
    phase, termination_code, requested_by, cause, started_at, ended_at, tags
)
SELECT
    md5($1::uuid::text || i)::uuid, md5($2::uuid::text || i % 50)::uuid, $1, $2, at, 6 * i,
    CASE WHEN i > $3 - 5 THEN 'Running' WHEN i % 40 IN (7, 17) THEN 'Error'
        WHEN i % 40 = 9 THEN 'Cancelled' ELSE 'Completed' END,
    CASE WHEN i > $3 - 5 THEN 'Queued' END,
    CASE WHEN i > $3 - 5 THEN NULL WHEN i % 40 = 7 THEN 'cell_error'
        WHEN i % 40 = 17 THEN 'worker_lost' WHEN i % 40 = 9 THEN 'cancelled' ELSE 'success' END,
    'user' || i % 10, CASE WHEN i % 2 = 0 THEN 'schedule' ELSE 'request' END,
    CASE WHEN i <= $3 - 5 THEN at + interval '1 s' END,
    CASE WHEN i <= $3 - 5 THEN at + interval '20 s' END,
    ARRAY['all', CASE WHEN i % 2 = 0 THEN 'even' ELSE 'odd' END]
        || CASE WHEN i % 7 = 0 THEN ARRAY['weekly'] ELSE '{}' END
        || CASE WHEN i = $3 / 2 THEN ARRAY['once'] ELSE '{}' END
FROM (
    -- As many a day, however many there are in all.
    SELECT i, timestamptz '2024-01-05 00:00Z' - ($3 - i) * interval '300 s' AS at
    FROM generate_series(1, $3::integer) AS i
) AS made
"""

_TAGS = """
INSERT INTO execution_tag (
    execution_id, notebook_id, tenant_id, project_id, requested_at, requested_position, tag
)
SELECT execution_id, notebook_id, tenant_id, project_id, requested_at, requested_position, tag
FROM execution_list, unnest(tags) AS tag
"""

_DOCUMENTS = """
INSERT INTO execution_status (
    execution_id, notebook_id, tenant_id, project_id, position, version, requested_position,
    updated_at, started_at, document, silent, request_warnings, until_snapshot
)
SELECT
    execution_id, notebook_id, tenant_id, project_id, requested_position, 6, requested_position,
    requested_at, requested_at,
    json_build_object(
        'executionId', execution_id, 'notebookId', notebook_id, 'notebookVersion', '1.0.0',
        'kernelType', 'python3', 'status', status, 'startTime', requested_at,
        'progress', json_build_object('totalCells', 3), 'parameters', json_build_object('n', 1),
        'cellResults', '[]'::json, 'outputs', '{}'::json, 'resources', '{}'::json, 'attempts', 1,
        'attemptHistory', '[]'::json, 'requestedBy', requested_by, 'tags', tags,
        'cause', json_build_object('kind', cause), 'priority', 'Normal', 'timeout', 1800,
        'continueOnError', false, 'cancelRequested', false
    ),
    '[]', '[]', 49152
FROM execution_list
"""


@dataclass(frozen=True, slots=True)
class Project:
    """A project of a known size in a database of its own."""

    pool: Pool
    tenant_id: UUID
    project_id: UUID


def execution_list(bench: Bench) -> list[Figure]:
    """Every filter on the first page and on the one after 200 rows; the worst is the figure.

    Called below HTTP, whose constant cost would hide a difference. The rows are written by one
    statement, as the projection would have written them.
    """
    large_size = 5_000 if bench.quick else LARGE
    small, large = _project(bench, "runs_small", SMALL), _project(bench, "runs_large", large_size)
    calls = 3 if bench.quick else 40
    worst: tuple[float, str, list[tuple[float, float]]] | None = None
    ratios: list[float] = []
    for name, text in FILTERS.items():
        for place in ("first", "later"):
            pairs = bench.run(_rounds((large, small), text, place, bench.rounds, calls))
            ratio = statistics.median(ours / theirs for ours, theirs in pairs)
            ratios.append(ratio)
            taken = statistics.median(ours for ours, _ in pairs)
            bench.say(f"  {place} page, {name}: {taken:.2f} ms, {ratio:.2f} {TIMES}")
            if worst is None or ratio > worst[0]:
                worst = (ratio, f"{place} page, {name}", pairs)
    for project, database in ((small, "runs_small"), (large, "runs_large")):
        bench.run(project.pool.close())
        bench.drop_database(database)
    assert worst is not None
    bench.say(f"  median of all: {statistics.median(ratios):.2f} {TIMES}")
    return [
        compare(
            figure=f"page of {large_size:,} executions, worst of {len(ratios)}: {worst[1]}",
            unit="ms",
            against=f"the same of {SMALL:,} executions",
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
    bench.say(f"  {size:,} executions listed in {time.monotonic() - begin:.0f} s")
    return project


async def _fill(project: Project, size: int) -> None:
    async with acquire(project.pool) as connection:
        await connection.execute("SET synchronous_commit = off")
        async with asyncio.timeout(900):
            for statement, arguments in (
                (_RUNS, (project.tenant_id, project.project_id, size)),
                (_TAGS, ()),
                (_DOCUMENTS, ()),
                ("VACUUM ANALYZE execution_list, execution_tag, execution_status", ()),
            ):
                await connection.execute(statement, *arguments, timeout=900)


async def _rounds(
    projects: tuple[Project, Project], text: str, place: str, rounds: int, calls: int
) -> list[tuple[float, float]]:
    """Median milliseconds of a page in both projects, call by call in turn."""
    # On both sides after as many executions, by time.
    after = LATER if place == "later" else None
    pairs = []
    for number in range(rounds + 1):
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(calls):
            for project, taken in zip(projects, times, strict=True):
                begin = time.perf_counter()
                await _page(project, text, after)
                taken.append((time.perf_counter() - begin) * 1000)
        if number:  # the first round finds caches cold
            pairs.append((statistics.median(times[0]), statistics.median(times[1])))
    return pairs


async def _page(project: Project, text: str, after: Cursor | None) -> ExecutionPage:
    async with acquire(project.pool) as connection:
        notebook = await connection.fetchval(
            "SELECT md5($1::uuid::text || 7)::uuid", project.project_id
        )
    wanted = parse(text.format(notebook=notebook))
    return await listing.page(
        project.pool, project.tenant_id, project.project_id, wanted, after=after, size=PAGE_SIZE
    )
