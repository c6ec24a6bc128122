"""The list of a project's notebooks: a row each, and counts that make every page cost alike.

Notebooks of a project are numbered as they are created. Counts are kept of how many notebooks
of each kind (status, kernel type, enrichment mode) there are among every 16, 256, 4,096, 65,536
and 1,048,576 consecutive numbers, and among all. A page far down the list is found by going down
these counts, never by passing over the rows before it. The function `notebook_list_page` does so in
PostgreSQL; the migration of the read models makes it.
"""

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from nbledger_infrastructure.postgres.database import Pool, PooledConnection, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.decoding import CREATED
from nbledger_projections.machinery.documents import Page
from nbledger_projections.machinery.read_model import ReadModel, TableProjection
from nbledger_projections.read_models.notebooks.activity import NotebookStatus
from nbledger_projections.read_models.notebooks.list_items import ListState, fold

NAME = "notebook_list"

CACHED_BYTES = 2_000_000
"""About how much memory the notebooks take that a projector keeps."""

KNOWN_PROJECTS = 1_000
"""Of how many projects the next ordinal is kept in memory."""

FAN_OUT_BITS = 4
"""Each level of the counts covers 2 to this power times as many notebooks as the one below."""

LEVELS = 5
"""Levels of counts below the one (numbered 0) that covers everything; level 1 is the finest."""


class _Place(NamedTuple):
    """Where a notebook is counted."""

    tenant_id: UUID
    project_id: UUID
    kernel_type: str
    kind: int
    ordinal: int


class _Counted(NamedTuple):
    """A row of counts."""

    tenant_id: UUID
    project_id: UUID
    level: int
    bucket: int
    kernel_type: str


_STATUSES = list(NotebookStatus)

_COUNTS = [f"{status.lower()}{suffix}" for status in _STATUSES for suffix in ("", "_enriching")]
"""Columns of the counts; the index of one is the kind of the notebooks that it counts."""

_NEXT_ORDINALS = """
SELECT tenant_id, project_id, next_ordinal FROM notebook_list_project
WHERE (tenant_id, project_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
"""

_SAVE_ORDINALS = """
INSERT INTO notebook_list_project (tenant_id, project_id, next_ordinal)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[])
ON CONFLICT (tenant_id, project_id) DO UPDATE SET next_ordinal = excluded.next_ordinal
"""

_COUNT_KEY = "tenant_id, project_id, level, bucket, kernel_type"

_SAVE_COUNTS = f"""
INSERT INTO notebook_list_count AS counted ({_COUNT_KEY}, {", ".join(_COUNTS)})
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::smallint[], $4::bigint[], $5::text[],
    {", ".join(f"${number}::integer[]" for number in range(6, 6 + len(_COUNTS)))}
)
ON CONFLICT ({_COUNT_KEY}) DO UPDATE SET
    {", ".join(f"{name} = counted.{name} + excluded.{name}" for name in _COUNTS)}
"""  # noqa: S608 (constants)

_DELETE_EMPTY_COUNTS = f"""
DELETE FROM notebook_list_count
WHERE ({_COUNT_KEY}) IN (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::bigint[], $5::text[])
) AND {" + ".join(_COUNTS)} = 0
"""  # noqa: S608 (constants)

# The condition locks the tables before the statement's moment is taken, which is that of the
# function as well: see machinery.one_moment.
_PAGE = """
SELECT page.total, page.items, checkpoint.position
FROM notebook_list_page($1, $2, $3, $4, $5, $6, $7) AS page
LEFT JOIN projection_checkpoint AS checkpoint ON checkpoint.name = $8
WHERE NOT EXISTS (SELECT FROM notebook_list_count, notebook_list WHERE false)
"""


class NotebookListProjection(TableProjection[ListState]):
    """Keeps ``notebook_list``, and with it its counts and the next ordinal of each project."""

    def __init__(self, model: ReadModel[ListState]) -> None:
        super().__init__(model, room=CACHED_BYTES)
        self._next_ordinals: dict[tuple[UUID, UUID], int] = {}
        self._numbered: set[tuple[UUID, UUID]] = set()
        # Where the notebooks that a batch touches were counted before it, if they were.
        self._counted: dict[UUID, _Place | None] = {}

    async def load(self, connection: PooledConnection, events: Sequence[RecordedEvent]) -> None:
        """Bring the rows that ``events`` change, and next ordinals, into memory."""
        await super().load(connection, events)
        projects = {
            (recorded.tenant_id, recorded.project_id)
            for recorded in events
            if recorded.type == CREATED
        } - self._next_ordinals.keys()
        if projects:
            self._next_ordinals |= dict.fromkeys(projects, 0)
            rows = await connection.fetch(
                _NEXT_ORDINALS, [tenant for tenant, _ in projects], [each for _, each in projects]
            )
            self._next_ordinals |= {(row[0], row[1]): row[2] for row in rows}

    def _fold(self, row: ListState | None, recorded: RecordedEvent) -> ListState | None:
        if recorded.subject_id not in self._counted:
            self._counted[recorded.subject_id] = None if row is None else _place(row)
        if recorded.type != CREATED:
            return fold(row, recorded)
        # An erased one, too, so that a rebuild numbers the others alike.
        project = (recorded.tenant_id, recorded.project_id)
        ordinal = self._next_ordinals[project]
        self._next_ordinals[project] = ordinal + 1
        self._numbered.add(project)
        return fold(row, recorded, ordinal=ordinal)

    async def save(self, connection: PooledConnection) -> None:
        """Write what has changed."""
        await super().save(connection)
        if self._numbered:
            projects = sorted(self._numbered)
            await connection.execute(
                _SAVE_ORDINALS,
                [tenant_id for tenant_id, _ in projects],
                [project_id for _, project_id in projects],
                [self._next_ordinals[project] for project in projects],
            )
        await self._save_counts(connection, self._rows.changes()[0])

    async def _save_counts(
        self, connection: PooledConnection, written: Sequence[ListState]
    ) -> None:
        changes: Counter[_Place] = Counter(_place(state) for state in written)
        changes.subtract(place for place in self._counted.values() if place is not None)
        counts: dict[_Counted, list[int]] = {}
        for place, change in changes.items():
            if change:
                for key in _covering(place):
                    counts.setdefault(key, [0] * len(_COUNTS))[place.kind] += change
        rows = sorted((key, counted) for key, counted in counts.items() if any(counted))
        if not rows:
            return
        keys = [list(column) for column in zip(*(key for key, _ in rows), strict=True)]
        numbers = [list(column) for column in zip(*(counted for _, counted in rows), strict=True)]
        await connection.execute(_SAVE_COUNTS, *keys, *numbers)
        if any(number < 0 for column in numbers for number in column):
            await connection.execute(_DELETE_EMPTY_COUNTS, *keys)

    def settle(self) -> None:
        """What was saved is committed."""
        super().settle()
        if len(self._next_ordinals) > KNOWN_PROJECTS:
            self._next_ordinals.clear()
        self._numbered.clear()
        self._counted.clear()

    def reset(self) -> None:
        """Forget what is in memory: it may not be what the database holds."""
        super().reset()
        self._next_ordinals.clear()
        self._numbered.clear()
        self._counted.clear()


async def page(
    pool: Pool,
    tenant_id: UUID,
    project_id: UUID,
    *,
    status: str | None = None,
    kernel_type: str | None = None,
    enrichment_mode: bool | None = None,
    page: int,
    page_size: int,
) -> Page:
    """A page (counted from 1) of the project's notebooks that match every given filter."""
    async with acquire(pool) as connection:
        row = await connection.fetchrow(
            _PAGE,
            tenant_id,
            project_id,
            status,
            kernel_type,
            enrichment_mode,
            (page - 1) * page_size,
            page_size,
            NAME,
        )
    assert row is not None  # noqa: S101 (the function returns one row)
    return Page(
        items=[item.encode() for item in row["items"]],
        total_count=row["total"],
        position=row["position"] or 0,
    )


def _place(state: ListState) -> _Place:
    kind = 2 * _STATUSES.index(state.activity.status) + state.item.enrichment_mode
    return _Place(state.tenant_id, state.project_id, state.item.kernel_type, kind, state.ordinal)


def _covering(place: _Place) -> list[_Counted]:
    """The rows of counts that cover a place, from all notebooks to the fewest."""
    return [
        _Counted(
            place.tenant_id,
            place.project_id,
            level,
            place.ordinal >> (FAN_OUT_BITS * level) if level else 0,
            place.kernel_type,
        )
        for level in range(LEVELS + 1)
    ]


MODEL = ReadModel(
    NAME,
    ListState,
    key="notebook_id",
    key_of=attrgetter("subject_id"),
    fold=fold,
    computed={
        "status": ("text", lambda state: state.activity.status),
        "kernel_type": ("text", lambda state: state.item.kernel_type),
        "enrichment_mode": ("boolean", lambda state: state.item.enrichment_mode),
    },
    tables=("notebook_list_count", "notebook_list", "notebook_list_project"),
    projection=NotebookListProjection,
)
