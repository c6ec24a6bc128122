"""What has changed from one run of a notebook to another, read from their events."""

from collections.abc import Sequence
from typing import Final, Literal
from uuid import UUID

import msgspec

from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.execution import CellRange, Execution
from nbledger_domain.execution.usual_durations import span
from nbledger_domain.named_datasets import named
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.aggregates import stream_of
from nbledger_infrastructure.datasets.given import versions_given
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent
from nbledger_projections.machinery.one_moment import one_moment
from nbledger_projections.read_models.executions.repetitions.differences import (
    Differences,
    RunFacts,
    differences,
)
from nbledger_projections.read_models.executions.status import COMPLETED, NAME
from nbledger_projections.read_models.humanize import timestamp

_COMPLETED: Final = EVENT_TYPES.stored_names(COMPLETED)

_KNOWN = """
SELECT execution_id, requested_position FROM execution_status
WHERE notebook_id = $3 AND tenant_id = $1 AND project_id = $2
    AND {succeeded} AND requested_position < $4
ORDER BY requested_position DESC LIMIT 1
"""
_OF_SAME_CELLS = _KNOWN.format(succeeded="succeeded = $5")
_OF_ANY_CELLS = _KNOWN.format(succeeded="succeeded IS NOT NULL")

# Those that completed since the projection has come so far, with their requests as text.
_RECENT = """
SELECT requested.stream_id, requested.position, requested.data::text
FROM event AS ended
JOIN event AS requested ON requested.stream_id = ended.stream_id AND requested.version = 1
WHERE ended.subject_id = $3 AND ended.tenant_id = $1 AND ended.project_id = $2
    AND ended.type = ANY($5) AND requested.position < $4 AND requested.data IS NOT NULL
    AND ended.position > coalesce(
        (SELECT position FROM projection_checkpoint WHERE name = $6), 0
    )
"""


class _Request(msgspec.Struct, rename="camel"):
    """What a request to execute says of what is to run."""

    cell_range: CellRange | None = None


_decode_request = msgspec.json.Decoder(_Request).decode


class ComparedRun(msgspec.Struct, rename="camel"):
    """The run that another one is compared with."""

    execution_id: str
    notebook_version: str
    status: str
    start_time: str


class ChangesDocument(msgspec.Struct, kw_only=True, rename="camel"):
    """What has changed in an execution since the one that it is compared with.

    `basis` says which that is: the last one requested before it that succeeded (of the same cells;
    if there is none, of any), or the one that was asked for. `against` and `changes` are null
    where none has succeeded before.
    """

    execution_id: str
    basis: Literal["lastSuccess", "asked"]
    against: ComparedRun | None
    changes: Differences | None


class _Run(msgspec.Struct, frozen=True):
    history: Sequence[RecordedEvent]
    execution: Execution


async def get(
    store: EventStore, pool: Pool, notebook_id: UUID, execution_id: UUID, against: UUID | None
) -> ChangesDocument | None:
    """The changes of an execution that this notebook has; ``against`` is another one of it.

    ``None`` where the execution, or the notebook, is erased by now.
    """
    run = await _run(store, execution_id)
    if run is None:
        return None
    basis: Literal["lastSuccess", "asked"] = "lastSuccess" if against is None else "asked"
    compared = against or await _earlier_success(pool, run)
    earlier = None if compared is None else await _run(store, compared)
    if earlier is None:
        return ChangesDocument(
            execution_id=str(execution_id), basis=basis, against=None, changes=None
        )
    history = await store.read_stream(notebook_id)
    before = await _facts(store, earlier, history)
    after = await _facts(store, run, history)
    if before is None or after is None:
        return None
    return ChangesDocument(
        execution_id=str(execution_id),
        basis=basis,
        against=ComparedRun(
            str(earlier.execution.id),
            earlier.execution.notebook_version,
            earlier.execution.status,
            timestamp(earlier.history[0].occurred_at),
        ),
        changes=differences(before, after),
    )


async def _run(store: EventStore, execution_id: UUID) -> _Run | None:
    history = await store.read_stream(execution_id)
    execution = aggregates.replay(Execution, history)
    return None if execution is None else _Run(history, execution)


async def _earlier_success(pool: Pool, run: _Run) -> UUID | None:
    """The last run before this one that succeeded, of the same cells if there is one."""
    requested = run.history[0]
    before = (
        *(requested.tenant_id, requested.project_id, requested.subject_id),
        requested.position,
    )
    covered = span(run.execution.cell_range)
    async with one_moment(pool, [NAME]) as connection:
        recent = [
            (position, execution_id, span(_decode_request(request).cell_range))
            for execution_id, position, request in await connection.fetch(
                _RECENT, *before, _COMPLETED, NAME
            )
        ]
        known = await connection.fetchrow(_OF_SAME_CELLS, *before, covered)
        found = [(position, each) for position, each, cells in recent if cells == covered]
        if known is None and not found:
            known = await connection.fetchrow(_OF_ANY_CELLS, *before)
            found = [(position, each) for position, each, _ in recent]
    if known is not None:
        found.append((known["requested_position"], known["execution_id"]))
    return max(found)[1] if found else None


async def _facts(
    store: EventStore, run: _Run, notebook_history: Sequence[RecordedEvent]
) -> RunFacts | None:
    execution = run.execution
    notebook = aggregates.replay(Notebook, notebook_history[: execution.notebook_stream_version])
    if notebook is None:
        return None
    packages, started = _of_last_attempt(run.history)
    wanted = named(notebook.integration.dataset_binding, execution.parameters).values()
    given = await versions_given(store, stream_of(run.history[0]), execution, set(wanted))
    if given is None:
        given = dict.fromkeys(wanted)
    return RunFacts(
        execution=execution,
        notebook=notebook,
        packages=packages,
        language=None if started is None else started.language,
        language_version=None if started is None else started.language_version,
        datasets=given,
    )


def _of_last_attempt(
    history: Sequence[RecordedEvent],
) -> tuple[Sequence[str] | None, Execution.Started | None]:
    """The packages that it was provided with, if that is known, and that its kernel started."""
    packages: Sequence[str] | None = None
    started: Execution.Started | None = None
    for recorded in history:
        event = aggregates.decode(recorded)
        if isinstance(event, Execution.Claimed):
            packages, started = None, None
        elif isinstance(event, Execution.EnvironmentProgressed) and event.stage == "ready":
            packages = event.packages
        elif isinstance(event, Execution.Started):
            packages, started = packages or [], event
    return packages, started
