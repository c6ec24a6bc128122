"""Ask for a run of a notebook."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from nbledger_application import repository
from nbledger_application.caller import Caller
from nbledger_application.commands.loading import load_notebook
from nbledger_application.idempotency import RequestKey
from nbledger_application.preconditions import UNCONDITIONAL, Precondition
from nbledger_application.queue import NO_LIMITS, ShareLimits
from nbledger_application.reactions import deletions
from nbledger_domain.cells import Cell, select_range
from nbledger_domain.errors import (
    KernelUnavailableError,
    NothingToExecuteError,
    QueueFullError,
)
from nbledger_domain.execution import (
    Cause,
    CellRange,
    Execution,
    GivenDataset,
    PlannedCell,
    RunOptions,
)
from nbledger_domain.notebook import Notebook
from nbledger_domain.vocabulary.languages import BY_NAME, LANGUAGES, Language
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres import worker_registry
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import (
    AppendResult,
    EventStore,
    LimitReachedError,
)
from nbledger_infrastructure.postgres.worker_registry import OfferedKernel

GUARDED_ATTEMPTS = 3


class KernelLanguage(msgspec.Struct, frozen=True):
    """What is ``known`` of a kernel's language; ``None`` if parameters cannot be written in it."""

    known: bool
    language: Language | None = None


class RunRequest(msgspec.Struct, frozen=True):
    """What a run of a notebook is to be like; ``warnings`` tell what of it is doubtful."""

    cell_range: CellRange | None
    parameters: dict[str, Any]
    options: RunOptions
    warnings: list[str]
    tags: list[str] = []


class RunPreview(msgspec.Struct, frozen=True):
    """What a run would be: of which notebook, of which of its cells, on which kernel.

    ``warnings`` have those of the request, and of now. ``offer`` is ``None`` where no worker could
    run it now. ``cause`` and ``datasets`` are those of :meth:`Execution.request`.
    """

    notebook: Notebook
    asked: RunRequest
    cells: Sequence[Cell]
    warnings: list[str]
    offer: OfferedKernel | None
    cause: Cause | None = None
    datasets: Sequence[GivenDataset] = ()


async def execute_notebook(
    store: EventStore,
    pool: Pool,
    caller: Caller,
    notebook_id: UUID,
    decide: Callable[[Notebook, KernelLanguage], RunRequest],
    *,
    queue_without_worker: bool,
    precondition: Precondition = UNCONDITIONAL,
    limits: ShareLimits = NO_LIMITS,
    key: RequestKey | None = None,
) -> tuple[UUID, AppendResult, list[str]]:
    """Record the request; returns the execution's id, its place, warnings.

    The warnings are recorded with it, but for that of an absent worker, which holds only now.

    ``decide`` tells what is asked for of the notebook as it is, in the language of its kernel; the
    notebook may have no cells; the ``precondition`` is about its state then. Raises what it raises,
    :class:`NotebookNotFoundError`, :class:`PreconditionFailedError`, :class:`RuledOutError`,
    :class:`NothingToExecuteError`, :class:`QueueFullError` where as many runs wait as ``limits``
    allow, unless the run may ``queue_without_worker`` :class:`KernelUnavailableError`, and
    :class:`KeyUsedError` where an earlier request came with the same ``key``; with it the warnings
    are recorded for its repetitions.
    """

    async def plan() -> RunPreview:
        return await plan_execution(
            store,
            pool,
            caller,
            notebook_id,
            decide,
            queue_without_worker=queue_without_worker,
            precondition=precondition,
        )

    return await request_run(store, pool, caller, notebook_id, plan, limits=limits, key=key)


async def request_run(
    store: EventStore,
    pool: Pool,
    caller: Caller,
    notebook_id: UUID,
    plan: Callable[[], Awaitable[RunPreview]],
    *,
    limits: ShareLimits = NO_LIMITS,
    key: RequestKey | None = None,
    execution_id: UUID | None = None,
) -> tuple[UUID, AppendResult, list[str]]:
    """Record the request of the run that ``plan`` tells, which reads and decides.

    Returns the execution's id (by default a new one), its place, warnings. Raises what ``plan``
    raises, :class:`QueueFullError`, :class:`KeyUsedError`, and :class:`RecordConflictError` after
    ten lost races or where there is an execution with this id.
    """
    run_id = execution_id or new_id()
    attempts = 0

    async def request() -> tuple[UUID, AppendResult, list[str]]:
        nonlocal attempts
        attempts += 1
        position = await deletions.last_position(pool, notebook_id)
        planned = await plan()
        warnings = planned.warnings
        # A deletion may have come in between. Runs of the same notebook that record a lot
        # would defeat the guard for ever, so the last attempt goes without: what slips
        # through is cancelled by the deletions reactor.
        appended = await repository.save(
            store,
            _execution(run_id, planned, caller),
            caller.stream(run_id, notebook_id),
            caller.metadata(),
            subject_unchanged_since=position if attempts <= GUARDED_ATTEMPTS else None,
            limits=limits,
            key=None if key is None else key.answering({"warnings": warnings}),
        )
        assert appended is not None  # noqa: S101 (a request is an event)
        return run_id, appended, warnings

    try:
        return await repository.until_saved(request)
    except LimitReachedError as error:
        raise QueueFullError(error.limit) from error


async def plan_execution(
    store: EventStore,
    pool: Pool,
    caller: Caller,
    notebook_id: UUID,
    decide: Callable[[Notebook, KernelLanguage], RunRequest],
    *,
    queue_without_worker: bool,
    precondition: Precondition = UNCONDITIONAL,
) -> RunPreview:
    """What :func:`execute_notebook` would record now; raises what it raises."""
    notebook = (await load_notebook(store, caller, notebook_id)).aggregate
    precondition.check(notebook.version, notebook.modified_on, "notebook")
    return await plan_run(pool, notebook, decide, queue_without_worker=queue_without_worker)


async def plan_run(
    pool: Pool,
    notebook: Notebook,
    decide: Callable[[Notebook, KernelLanguage], RunRequest],
    *,
    queue_without_worker: bool,
) -> RunPreview:
    """A run of ``notebook``, as it is or was; raises what :func:`execute_notebook` raises."""
    offers = await worker_registry.offers(pool)
    asked = decide(notebook, kernel_language(notebook.kernel_type, offers))
    if not notebook.cells:
        raise NothingToExecuteError(notebook.id)
    of_now = _without_worker(offers, notebook.kernel_type, queue=queue_without_worker)
    cells: Sequence[Cell] = notebook.cells
    if asked.cell_range is not None:
        cells = select_range(cells, asked.cell_range.start_cell, asked.cell_range.end_cell)
    return RunPreview(
        notebook, asked, cells, [*asked.warnings, *of_now], offers.get(notebook.kernel_type)
    )


def _execution(execution_id: UUID, plan: RunPreview, caller: Caller) -> Execution:
    notebook, asked = plan.notebook, plan.asked
    return Execution.request(
        execution_id,
        notebook_id=notebook.id,
        notebook_version=notebook.notebook_version,
        notebook_stream_version=notebook.version,
        kernel_type=notebook.kernel_type,
        cells=[PlannedCell(cell.cell_id, cell.cell_type) for cell in plan.cells],
        parameters=asked.parameters,
        options=asked.options,
        requested_by=caller.actor,
        at=now(),
        cell_range=asked.cell_range,
        warnings=asked.warnings,
        tags=asked.tags,
        cause=plan.cause,
        datasets=plan.datasets,
    )


def kernel_language(kernel_type: str, offers: Mapping[str, OfferedKernel]) -> KernelLanguage:
    """What is known of the language of a kernel type, by itself or by who offers it."""
    if kernel_type in LANGUAGES:
        return KernelLanguage(known=True, language=LANGUAGES[kernel_type])
    if kernel_type in offers:
        return KernelLanguage(
            known=True, language=BY_NAME.get(offers[kernel_type].language.lower())
        )
    return KernelLanguage(known=False)


def _without_worker(
    offers: Mapping[str, OfferedKernel], kernel_type: str, *, queue: bool
) -> list[str]:
    """What to say where no worker could run it now; refuses it unless it is to ``queue``."""
    if kernel_type in offers:
        return []
    if not queue:
        raise KernelUnavailableError(kernel_type, sorted(offers))
    return [f"no live worker offers the kernel type {kernel_type!r}; the execution waits for one"]
