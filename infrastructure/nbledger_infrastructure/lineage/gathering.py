"""From events to documents of OpenLineage: what they tell is read from the store."""

from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final
from uuid import UUID

from nbledger_domain.dataset import Dataset, DatasetVersion
from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.execution import Cause, Execution
from nbledger_domain.lineage.documents import STATES, dataset_event, dropped_event, run_event
from nbledger_domain.lineage.facts import (
    Document,
    EarlierRun,
    LineageRun,
    PinnedNotebook,
    Project,
    Teller,
    VersionFacts,
)
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure.aggregates import decode
from nbledger_infrastructure.lineage.runs import RunHistory
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_infrastructure.postgres.event_store.types import COLUMNS, Change, recorded_event
from nbledger_infrastructure.settings import Settings

MOST_REPEATS: Final = 100
"""Runs that are followed back, of a run that repeats a run, and so on."""


def _stored(types: Iterable[str]) -> list[str]:
    return [name for each in types for name in EVENT_TYPES.stored_names(each)]


CONCERN: Final = frozenset(
    _stored([*STATES, Dataset.VersionAdded.TYPE, Dataset.Deleted.TYPE]),
)
"""The types of events that are told, as they are stored."""

_OF_RUNS: Final = _stored(
    [
        *STATES,
        Execution.Requested.TYPE,
        Execution.Started.TYPE,
        Execution.ArtifactStored.TYPE,
    ]
)
_OF_NOTEBOOKS: Final = _stored(
    [Notebook.Created.TYPE, Notebook.Renamed.TYPE, Notebook.Described.TYPE]
)
_EXECUTED: Final = _stored([Execution.CellExecuted.TYPE])

_SELECT: Final = f"SELECT {COLUMNS} FROM event"  # noqa: S608 (constants)
_OF_TYPES: Final = f"{_SELECT} WHERE stream_id = $1 AND version <= $2 AND type = ANY($3::text[])"
_READ: Final = f"{_OF_TYPES} ORDER BY version"
# Text, as PostgreSQL's JSON operators refuse data with \u0000 anywhere in it.
_LAST_ERROR: Final = (
    f"{_OF_TYPES} AND data::text LIKE '%\"errorType\"%' ORDER BY version DESC LIMIT 1"
)
_READ_SOME: Final = f"""{_SELECT}
WHERE (stream_id, version) IN (SELECT * FROM unnest($1::uuid[], $2::bigint[])) ORDER BY version
"""  # noqa: S608 (constants)


def teller_of(settings: Settings) -> Teller:
    """Who tells, by the settings."""
    try:
        told = version("nbledger")
    except PackageNotFoundError:
        told = "unknown"
    return Teller(
        namespace=settings.lineage.namespace,
        readable=settings.lineage.names == "readable",
        parents=settings.lineage.repeats == "parent",
        address=settings.http.address,
        version=told,
    )


class Gatherer:
    """Makes the documents that an event brings about."""

    def __init__(self, pool: Pool, teller: Teller) -> None:
        self._pool = pool
        self._teller = teller

    async def told_of(self, change: Change) -> list[Document]:
        """What is told of an event of one of the types :data:`CONCERN`.

        What is erased meanwhile is told of without it. Raises ``DatabaseUnavailableError``.
        """
        if EVENT_TYPES.current(change.type) in STATES:
            return await self._of_run(change)
        return await self._of_dataset(change)

    async def _of_run(self, change: Change) -> list[Document]:
        rows = await self._fetch(_READ, change.stream_id, change.version, _OF_RUNS)
        if not rows or rows[-1].version != change.version:
            return []
        run = RunHistory(rows)
        facts = await self._facts(change, run)
        told = [run_event(self._teller, run.state, facts, run.at)]
        if run.ended and not run.attempts:
            # A run that no worker took began when it was asked for: each has one START.
            waiting = LineageRun(
                project=facts.project,
                run_id=facts.run_id,
                notebook=facts.notebook,
                cause=facts.cause,
                tags=facts.tags,
                repeats=facts.repeats,
                upstream=facts.upstream,
            )
            told.insert(0, run_event(self._teller, "START", waiting, run.requested_at))
        return told

    async def _facts(self, change: Change, run: RunHistory) -> LineageRun:
        project = Project(change.tenant_id, change.project_id)
        inputs, outputs = run.given, run.written
        versions = await self._versions({*inputs, *outputs})
        repeats = await self._repeats(run)
        return LineageRun(
            project=project,
            run_id=change.stream_id,
            notebook=await self._notebook(run),
            cause=run.cause,
            tags=run.tags,
            attempt=run.attempts,
            repeats=repeats,
            upstream=repeats[0] if repeats else await self._maker(run.cause),
            engine=run.engine,
            inputs=[versions[each] for each in inputs],
            outputs=[versions[each] for each in outputs],
            termination_code=run.termination_code,
            fault=run.fault(await self._last_error(change)) if run.state == "FAIL" else None,
        )

    async def _last_error(self, change: Change) -> RecordedEvent | None:
        rows = await self._fetch(_LAST_ERROR, change.stream_id, change.version, _EXECUTED)
        return rows[0] if rows else None

    async def _notebook(self, run: RunHistory) -> PinnedNotebook:
        """The notebook in the version that the run executes."""
        asked = run.requested
        if asked is None:
            return PinnedNotebook(notebook_id=run.notebook_id)
        rows = await self._fetch(
            _READ, asked.notebook_id, asked.notebook_stream_version, _OF_NOTEBOOKS
        )
        name, description = None, ""
        for event in map(decode, rows):
            match event:
                case Notebook.Created():
                    name, description = event.name, event.description
                case Notebook.Renamed():
                    name = event.name
                case Notebook.Described():
                    description = event.description
                case _:
                    pass
        return PinnedNotebook(
            notebook_id=asked.notebook_id,
            name=name,
            description=description,
            version=asked.notebook_version,
        )

    async def _repeats(self, run: RunHistory) -> list[EarlierRun]:
        """The run that this one repeats, and the first of those that led to it."""
        found: list[UUID] = []
        seen: dict[UUID, RunHistory] = {}
        at: RunHistory | None = run
        while at is not None and at.cause is not None and len(found) < MOST_REPEATS:
            earlier = at.cause.execution_id
            if earlier is None or earlier in seen:
                break
            rows = await self._fetch(_READ, earlier, 1, _OF_RUNS)
            if not rows:
                break
            at = seen[earlier] = RunHistory(rows)
            found.append(earlier)
        return [
            EarlierRun(each, await self._notebook(seen[each]))
            for each in dict.fromkeys((found[:1] + found[-1:]) if found else ())
        ]

    async def _maker(self, cause: Cause | None) -> EarlierRun | None:
        """The run that wrote the version of a dataset that brought a run about."""
        if cause is None or cause.dataset_id is None or cause.dataset_version is None:
            return None
        place = (cause.dataset_id, cause.dataset_version)
        content = (await self._versions({place}))[place].content
        maker = None if content is None else content.source.execution_id
        if maker is None:
            return None
        rows = await self._fetch(_READ, maker, 1, _OF_RUNS)
        return EarlierRun(maker, await self._notebook(RunHistory(rows))) if rows else None

    async def _versions(self, wanted: Iterable[tuple[UUID, int]]) -> dict[Any, VersionFacts]:
        """Versions of datasets. The first event of a stream made it, each other added a version."""
        places = sorted({*wanted, *((each, 0) for each, _ in wanted)})
        if not places:
            return {}
        rows = await self._fetch(
            _READ_SOME, [each for each, _ in places], [number + 1 for _, number in places]
        )
        names: dict[UUID, str] = {}
        found: dict[tuple[UUID, int], DatasetVersion] = {}
        for row in rows:
            match event := decode(row):
                case Dataset.Created():
                    names[row.stream_id] = event.name
                case Dataset.VersionAdded():
                    found[row.stream_id, row.version - 1] = DatasetVersion(
                        number=event.dataset_version,
                        content=event.content,
                        rows=event.rows,
                        columns=event.columns,
                        source=event.source,
                    )
                case _:
                    pass
        return {
            each: VersionFacts(
                dataset_id=each[0],
                number=each[1],
                name=names.get(each[0]),
                content=found.get(each),
            )
            for each in places
        }

    async def _of_dataset(self, change: Change) -> list[Document]:
        project = Project(change.tenant_id, change.project_id)
        place = (change.stream_id, change.version - 1)
        rows = await self._fetch(_READ_SOME, [change.stream_id], [change.version])
        version_ = (await self._versions({place}))[place]
        if not rows:
            return []
        at = rows[0].occurred_at
        if rows[0].type == Dataset.VersionAdded.TYPE:
            return [dataset_event(self._teller, project, version_, at)]
        if self._teller.readable and version_.name is None:
            # It was told of by a name that is erased: this would be another dataset.
            return []
        return [dropped_event(self._teller, project, version_, at)]

    async def _fetch(self, query: str, *arguments: object) -> Sequence[RecordedEvent]:
        async with acquire(self._pool) as connection:
            return [recorded_event(row) for row in await connection.fetch(query, *arguments)]
