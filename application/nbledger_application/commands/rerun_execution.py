"""Run an ended execution again: all of it, or what failed of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import msgspec

from nbledger_application.caller import Caller
from nbledger_application.commands.execute_notebook import (
    KernelLanguage,
    RunPreview,
    RunRequest,
    plan_run,
    request_run,
)
from nbledger_application.commands.loading import load_execution, load_notebook
from nbledger_application.idempotency import RequestKey
from nbledger_application.queue import NO_LIMITS, ShareLimits
from nbledger_domain.cells import Cell, select_range
from nbledger_domain.errors import (
    ExecutionNotFoundError,
    ExecutionRunningError,
    Fault,
    InputsUnavailableError,
    InvalidInputError,
    NotebookNotFoundError,
    NothingToRepairError,
)
from nbledger_domain.execution import Cause, CellRange, Execution, GivenDataset
from nbledger_domain.execution.repetition import RepetitionKind, first_failed, has_failed
from nbledger_domain.named_datasets import named
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure import aggregates, datasets
from nbledger_infrastructure.aggregates import Loaded
from nbledger_infrastructure.datasets.given import versions_given
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Executions

Which = Literal["same", "newest"]


class Repetition(msgspec.Struct, frozen=True, kw_only=True):
    """What is run again, and with what.

    ``version`` is the notebook's, ``datasets`` are those that the run names: as they were, or as
    they are. ``cells`` are those of the run before, or only those from its first failed one on.
    """

    kind: RepetitionKind
    version: Which = "same"
    datasets: Which = "same"
    cells: Literal["all", "fromFailed"] = "all"


RERUN = Repetition(kind="rerun")
"""Everything as it was."""

Change = Callable[[Notebook, Sequence[Cell], KernelLanguage, RunRequest], RunRequest]
"""What is to be otherwise: of the notebook and those of its cells, the run as it would be."""


def unchanged(
    _notebook: Notebook, _cells: Sequence[Cell], _kernel: KernelLanguage, run: RunRequest
) -> RunRequest:
    """Parameters, options and tags of the run before."""
    return run


class Repeated(msgspec.Struct, frozen=True):
    """The new execution, and what is to be said of it."""

    execution_id: UUID
    warnings: list[str]


class _MadeError(Exception):
    """An earlier call, or another one at the same time, has made the execution."""

    def __init__(self, repeated: Repeated) -> None:
        super().__init__()
        self.repeated = repeated


async def rerun_execution(
    store: EventStore,
    pool: Pool,
    caller: Caller,
    notebook_id: UUID,
    execution_id: UUID,
    *,
    asked: Repetition = RERUN,
    change: Change = unchanged,
    executions: Executions,
    limits: ShareLimits = NO_LIMITS,
    key: RequestKey | None = None,
    new_execution_id: UUID | None = None,
) -> Repeated:
    """Record the request of a run that repeats an ended one, and names it as its cause.

    With ``new_execution_id`` the call may be repeated: where it has been made, what it made is
    returned. ``key`` and ``limits`` are as in :func:`execute_notebook`.

    Raises :class:`ExecutionNotFoundError` (also where the notebook is deleted),
    :class:`ExecutionRunningError`, :class:`NothingToRepairError`,
    :class:`InputsUnavailableError`, :class:`InvalidInputError` where the newest version lacks cells
    of the run, and what :func:`execute_notebook` and ``change`` raise.
    """

    async def plan() -> RunPreview:
        if new_execution_id is not None:
            made = await aggregates.load(store, Execution, new_execution_id)
            if made is not None and made.aggregate.cause.execution_id == execution_id:
                raise _MadeError(Repeated(new_execution_id, made.aggregate.warnings))
        return await plan_rerun(
            *(store, pool, caller, notebook_id, execution_id),
            asked=asked,
            change=change,
            executions=executions,
        )

    try:
        new_id, _, warnings = await request_run(
            *(store, pool, caller, notebook_id, plan),
            limits=limits,
            key=key,
            execution_id=new_execution_id,
        )
    except _MadeError as found:
        return found.repeated
    return Repeated(new_id, warnings)


async def plan_rerun(
    store: EventStore,
    pool: Pool,
    caller: Caller,
    notebook_id: UUID,
    execution_id: UUID,
    *,
    asked: Repetition = RERUN,
    change: Change = unchanged,
    executions: Executions,
) -> RunPreview:
    """What :func:`rerun_execution` would record now; raises what it raises."""
    earlier = await _ended(store, caller, notebook_id, execution_id, asked)
    run = earlier.aggregate
    notebook = await _notebook(store, caller, run, asked.version)

    def decide(notebook: Notebook, kernel: KernelLanguage) -> RunRequest:
        found = _as_before(run, notebook, asked, executions)
        return change(notebook, _cells_of(run, notebook, found.cell_range), kernel, found)

    planned = await plan_run(
        pool, notebook, decide, queue_without_worker=executions.queue_without_worker
    )
    given: Sequence[GivenDataset] = ()
    warnings: list[str] = []
    if asked.datasets == "same":
        given, warnings = await _same_datasets(
            store, caller, earlier, notebook, planned.asked.parameters
        )
    recorded = msgspec.structs.replace(planned.asked, warnings=[*planned.asked.warnings, *warnings])
    return msgspec.structs.replace(
        planned,
        asked=recorded,
        warnings=[*warnings, *planned.warnings],
        cause=Cause(kind=asked.kind, execution_id=execution_id),
        datasets=given,
    )


async def _ended(
    store: EventStore, caller: Caller, notebook_id: UUID, execution_id: UUID, asked: Repetition
) -> Loaded[Execution]:
    """The execution before, which may be repeated so."""
    earlier = await load_execution(store, caller, notebook_id, execution_id)
    if not earlier.aggregate.ended:
        raise ExecutionRunningError(execution_id)
    if asked.kind == "repair" and not has_failed(earlier.aggregate):
        raise NothingToRepairError(execution_id)
    return earlier


async def _notebook(store: EventStore, caller: Caller, run: Execution, version: Which) -> Notebook:
    try:
        newest = (await load_notebook(store, caller, run.notebook_id)).aggregate
    except NotebookNotFoundError:
        raise ExecutionNotFoundError(run.id) from None
    if version == "newest" or newest.version == run.notebook_stream_version:
        return newest
    then = await load_notebook(
        store, caller, run.notebook_id, up_to_version=run.notebook_stream_version
    )
    return then.aggregate


def _as_before(
    run: Execution, notebook: Notebook, asked: Repetition, executions: Executions
) -> RunRequest:
    """The run with what was asked for then, as far as that may still be."""
    warnings: list[str] = []
    cell_range = run.cell_range
    start = first_failed(run) if asked.cells == "fromFailed" else None
    if start is not None and notebook.cells:
        end = notebook.cells[-1].cell_id if cell_range is None else cell_range.end_cell
        cell_range = CellRange(start, end)
        warnings.append(
            f"/cells: the run begins with {start!r} in a fresh kernel, without what the cells "
            "before it set"
        )
    options = run.options
    if options.timeout > executions.max_timeout:
        options = msgspec.structs.replace(options, timeout=executions.max_timeout)
        warnings.append(
            f"/timeout: {run.options.timeout:g} seconds are more than may be now; "
            f"it is {options.timeout:g}"
        )
    return RunRequest(cell_range, run.parameters, options, warnings, list(run.tags))


def _cells_of(run: Execution, notebook: Notebook, cell_range: CellRange | None) -> Sequence[Cell]:
    """The cells to run; says what is wrong where the notebook has them no more."""
    if cell_range is None:
        return notebook.cells
    try:
        return select_range(notebook.cells, cell_range.start_cell, cell_range.end_cell)
    except InvalidInputError as error:
        reason = error.faults[0].reason
        raise InvalidInputError(
            [
                Fault(
                    "/version",
                    f"version {notebook.notebook_version} does not have the cells of execution "
                    f"{run.id}: {reason}; ask for the same version, or execute the notebook",
                )
            ]
        ) from None


async def _same_datasets(
    store: EventStore,
    caller: Caller,
    earlier: Loaded[Execution],
    notebook: Notebook,
    parameters: Mapping[str, Any],
) -> tuple[list[GivenDataset], list[str]]:
    """The versions that the run before was given of the datasets that this one names; warnings.

    What only this one names comes in its newest version. Raises :class:`InputsUnavailableError`.
    """
    run = earlier.aggregate
    wanted = sorted(set(named(notebook.integration.dataset_binding, parameters).values()))
    if not wanted:
        return [], []
    then = await versions_given(store, earlier.stream, run, wanted)
    # One that came to nothing was at least to be given what it asked for.
    given: Mapping[UUID, int | None] = run.pinned if then is None else then
    reasons: list[str] = []
    warnings: list[str] = []
    found: list[GivenDataset] = []
    named_then = set(named(notebook.integration.dataset_binding, run.parameters).values())
    for dataset_id in wanted:
        version = given.get(dataset_id)
        if dataset_id not in given:
            if then is not None and dataset_id in named_then:
                warnings.append(
                    f"/datasets: dataset {dataset_id} was not held when the run before needed it; "
                    "if it is held now, it comes in its newest version"
                )
        elif version is None:
            reasons.append(f"which version of dataset {dataset_id} it was given is not recorded")
        elif not await _is_held(store, caller, dataset_id, version):
            reasons.append(f"version {version} of dataset {dataset_id} is not held any more")
        else:
            found.append(GivenDataset(dataset_id, version))
    if reasons:
        raise InputsUnavailableError(reasons)
    if then is None and len(found) < len(wanted):
        warnings.append(
            "/datasets: the run before ended before it was given any; they come in their newest "
            "versions"
        )
    return found, warnings


async def _is_held(store: EventStore, caller: Caller, dataset_id: UUID, version: int) -> bool:
    held = await datasets.head(
        store, caller.tenant_id, caller.project_id, dataset_id, version=version
    )
    return held is not None
