"""The provenance of a run, gathered from the events of the run, its notebook and its datasets."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import UNSET

from nbledger_domain.dataset import Dataset
from nbledger_domain.execution import (
    TERMINAL_EVENTS,
    Execution,
    Output,
    PlannedCell,
    Representation,
    Resources,
)
from nbledger_domain.named_datasets import named
from nbledger_domain.notebook import Notebook
from nbledger_domain.provenance.facts import (
    ArtifactFacts,
    AttemptFacts,
    CellFacts,
    DatasetFacts,
    EnvironmentFacts,
    ExecutedKernel,
    InputFacts,
    NotebookFacts,
    OutputFacts,
    Provenance,
    RepeatedRun,
    notebook_digest,
)
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.aggregates import stream_of
from nbledger_infrastructure.datasets.given import versions_given
from nbledger_infrastructure.postgres.event_store import EventStore, RecordedEvent

MOST_CAUSES: Final = 100
"""Earlier runs that are told, of a run that repeats a run, and so on."""


async def provenance_of(
    store: EventStore, notebook_id: UUID, execution_id: UUID
) -> Provenance | None:
    """How the result of a run came about; ``None`` where the notebook has no such run any more.

    Raises ``StoreUnavailableError`` and ``DatabaseUnavailableError``.
    """
    history = await store.read_stream(execution_id)
    execution = aggregates.replay(Execution, history)
    if execution is None or execution.notebook_id != notebook_id:
        return None
    told = await store.read_stream(notebook_id, limit=execution.notebook_stream_version)
    notebook = aggregates.replay(Notebook, told)
    if notebook is None:
        return None
    run = _Run(execution, history)
    first = history[0]
    return Provenance(
        execution_id=execution.id,
        tenant_id=first.tenant_id,
        project_id=first.project_id,
        requested_by=execution.requested_by,
        requested_by_id=execution.requested_by,
        requested_at=first.occurred_at,
        start_time=run.attempts[0].start_time if run.attempts else None,
        end_time=run.ended_at,
        status=execution.status,
        termination_code=execution.termination_code,
        cause=execution.cause,
        causes=await _causes(store, execution),
        notebook=_notebook_facts(execution, notebook),
        parameters=execution.parameters,
        options=execution.options,
        tags=execution.tags,
        kernel=run.kernel,
        environment=EnvironmentFacts(
            packages=notebook.environment.packages,
            custom_libraries=notebook.environment.custom_libraries,
            provided=run.provided,
            resolved=run.resolved,
        ),
        datasets=await _datasets(store, first, execution, notebook),
        input_files=[
            InputFacts(
                path=each.path, content=Representation(each.content_type, each.digest, each.size)
            )
            for each in notebook.files.values()
        ],
        attempts=run.attempts,
        cells=run.cells(),
        artifacts=run.artifacts,
        metrics=run.metrics,
        resources=run.resources,
        warnings=run.warnings,
        first_position=first.position,
        last_position=history[-1].position,
        events=len(history),
    )


class _Run:
    """What the events of a run tell: of its last attempt, but for the list of attempts."""

    def __init__(self, execution: Execution, history: Sequence[RecordedEvent]) -> None:
        self._execution = execution
        self.attempts: list[AttemptFacts] = []
        self.ended_at: datetime | None = None
        self.resources = Resources()
        self.warnings = list(execution.warnings)
        self._begin()
        for recorded in history:
            event = aggregates.decode(recorded)
            if isinstance(event, Execution.Event):
                self._fold(event)

    def _begin(self) -> None:
        """An attempt begins: what another one did is not what came of it."""
        self.provided: list[str] | None = None
        self.resolved: Representation | None = None
        self.artifacts: list[ArtifactFacts] = []
        self.metrics: dict[str, float] = {}
        self.kernel = ExecutedKernel(
            kernel_type=self._execution.kernel_type,
            kernelspec=None,
            implementation=None,
            implementation_version=None,
            language=None,
            language_version=None,
        )
        self._started: dict[str, datetime] = {}
        self._finished: dict[str, Execution.CellExecuted] = {}
        self._updated: dict[str, Execution.OutputsUpdated] = {}

    def _fold(self, event: Execution.Event) -> None:
        if isinstance(event, TERMINAL_EVENTS):
            self.ended_at = event.timestamp
            self.resources = event.resources
            self._end_attempt(event.timestamp, self._execution.termination_code)
            return
        match event:
            case Execution.Claimed():
                self._begin()
                self.attempts.append(
                    AttemptFacts(
                        attempt=event.epoch,
                        worker_id=event.worker_id,
                        start_time=event.timestamp,
                        end_time=None,
                        outcome=None,
                    )
                )
            case Execution.AttemptLost():
                self._end_attempt(event.timestamp, event.code)
            case Execution.Warned():
                self.warnings.append(event.warning)
            case _:
                self._fold_attempt(event)

    def _end_attempt(self, at: datetime, outcome: str | None) -> None:
        if self.attempts and self.attempts[-1].end_time is None:
            last = self.attempts[-1]
            self.attempts[-1] = AttemptFacts(
                attempt=last.attempt,
                worker_id=last.worker_id,
                start_time=last.start_time,
                end_time=at,
                outcome=outcome,
            )

    def _fold_attempt(self, event: Execution.Event) -> None:
        match event:
            case Execution.EnvironmentProgressed(stage="ready"):
                self.provided = event.packages
            case Execution.Started():
                self._start(event)
            case Execution.CellStarted():
                self._started[event.cell_id] = event.timestamp
            case Execution.CellExecuted():
                self._finished[event.cell_id] = event
            case Execution.OutputsUpdated():
                self._updated[event.cell_id] = event
            case Execution.ArtifactStored():
                self.artifacts.append(_artifact(event))
            case Execution.MetricsLogged():
                self.metrics |= event.metrics
            case _:
                pass

    def _start(self, event: Execution.Started) -> None:
        self.provided = self.provided or []
        self.resolved = None if event.packages is UNSET else event.packages
        told = None if event.kernel is UNSET else event.kernel
        self.kernel = ExecutedKernel(
            kernel_type=self._execution.kernel_type,
            kernelspec=None if told is None else told.kernelspec,
            implementation=None if told is None else told.implementation,
            implementation_version=None if told is None else told.implementation_version,
            language=event.language,
            language_version=event.language_version,
        )

    def cells(self) -> list[CellFacts]:
        """The cells that the run covers."""
        return [
            self._cell(planned.cell_id) if planned.cell_type == "code" else _unexecuted(planned)
            for planned in self._execution.cells
        ]

    def _cell(self, cell_id: str) -> CellFacts:
        finished = self._finished.get(cell_id)
        last = self._updated.get(cell_id, finished)
        error = None if finished is None else finished.error
        return CellFacts(
            cell_id=cell_id,
            cell_type="code",
            status=self._execution.cell_statuses[cell_id],
            start_time=self._started.get(cell_id),
            end_time=None if finished is None else finished.timestamp,
            execution_count=None if finished is None else finished.execution_count,
            error=None if error is None else f"{error.error_type}: {error.error_message}",
            outputs_digest=None if last is None else last.outputs_digest,
            outputs=[] if last is None else [_output(each) for each in last.outputs],
        )


def _unexecuted(planned: PlannedCell) -> CellFacts:
    """A cell that is no code: no kernel gets it."""
    return CellFacts(
        cell_id=planned.cell_id,
        cell_type=planned.cell_type,
        status=None,
        start_time=None,
        end_time=None,
        execution_count=None,
        error=None,
        outputs_digest=None,
        outputs=[],
    )


def _output(output: Output) -> OutputFacts:
    return OutputFacts(output_type=output.output_type, representations=list(output.representations))


def _artifact(event: Execution.ArtifactStored) -> ArtifactFacts:
    told = event.attributes
    cell_id, dataset_id = told.get("cellId"), told.get("datasetId")
    version = told.get("datasetVersion")
    return ArtifactFacts(
        kind=event.kind,
        name=event.name,
        file_name=event.file_name,
        cell_id=cell_id if isinstance(cell_id, str) else None,
        content=event.content,
        dataset_id=dataset_id if isinstance(dataset_id, str) else None,
        dataset_version=version if isinstance(version, int) else None,
    )


def _notebook_facts(execution: Execution, notebook: Notebook) -> NotebookFacts:
    return NotebookFacts(
        notebook_id=execution.notebook_id,
        name=notebook.name,
        description=notebook.description,
        version=execution.notebook_version,
        stream_version=execution.notebook_stream_version,
        digest=notebook_digest(notebook.cells),
        uploaded=notebook.uploaded,
    )


async def _datasets(
    store: EventStore, first: RecordedEvent, execution: Execution, notebook: Notebook
) -> list[DatasetFacts]:
    wanted = named(notebook.integration.dataset_binding, execution.parameters).values()
    given = await versions_given(store, stream_of(first), execution, set(wanted)) or {}
    return [
        await _dataset(store, first, dataset_id, version)
        for dataset_id, version in sorted(given.items())
    ]


async def _dataset(
    store: EventStore, first: RecordedEvent, dataset_id: UUID, version: int | None
) -> DatasetFacts:
    loaded = await aggregates.load(store, Dataset, dataset_id)
    known = None
    if loaded is not None and loaded.stream.project_id == first.project_id and version is not None:
        known = next((each for each in loaded.aggregate.versions if each.number == version), None)
    return DatasetFacts(
        dataset_id=dataset_id,
        version=version,
        name=None if loaded is None or known is None else loaded.aggregate.name,
        content=None if known is None else known.content,
        rows=None if known is None else known.rows,
    )


async def _causes(store: EventStore, execution: Execution) -> list[RepeatedRun]:
    """The runs that led to this one, the latest first; as far as they are there."""
    found: list[RepeatedRun] = []
    earlier = execution.cause.execution_id
    while earlier is not None and len(found) < MOST_CAUSES:
        loaded = await aggregates.load(store, Execution, earlier, up_to_version=1)
        if loaded is None:
            break
        run = loaded.aggregate
        found.append(
            RepeatedRun(
                execution_id=earlier,
                requested_by=run.requested_by,
                requested_at=run.created_on,
                cause=run.cause,
            )
        )
        earlier = run.cause.execution_id
    return found
