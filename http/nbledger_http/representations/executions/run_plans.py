"""What a run would be: the answer to a request to execute that runs nothing."""

from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_application.commands.execute_notebook import RunPreview
from nbledger_domain.cells import CellType
from nbledger_domain.execution import Cause, CellRange, GivenDataset
from nbledger_domain.vocabulary.priorities import Priority
from nbledger_http.description.schemas import Session
from nbledger_http.replies.responses import Reply, json_reply
from nbledger_infrastructure.postgres.worker_registry import OfferedKernel


class PlannedCellDocument(msgspec.Struct, rename="camel"):
    """A cell that would be run; only code cells go to the kernel."""

    cell_id: str
    cell_type: CellType


class RunPlanDocument(msgspec.Struct, rename="camel", kw_only=True):
    """What would run now, as it was asked for; `kernel.offered` is false while nothing runs it.

    `cause` is there where it would repeat an execution, `datasets` where it would be given those
    versions and no newer ones.
    """

    dry_run: Literal[True] = True
    notebook_id: UUID
    notebook_version: str
    kernel: Session
    cell_range: CellRange | UnsetType = UNSET
    cells: list[PlannedCellDocument]
    parameters: dict[str, Any]
    tags: list[str]
    cause: Cause | UnsetType = UNSET
    datasets: list[GivenDataset] | UnsetType = UNSET
    priority: Priority
    timeout: float
    cell_timeout: float | UnsetType = UNSET
    continue_on_error: bool
    warnings: list[str]


def session_of(kernel_type: str, offer: OfferedKernel | None) -> Session:
    """What would run a notebook of this kernel type now."""
    return Session(
        kernel_type=kernel_type,
        offered=offer is not None,
        language=None if offer is None else offer.language,
        language_version=None if offer is None else offer.language_version,
    )


def plan_reply(plan: RunPreview) -> Reply:
    """200 with what would run."""
    asked, options = plan.asked, plan.asked.options
    document = RunPlanDocument(
        notebook_id=plan.notebook.id,
        notebook_version=plan.notebook.notebook_version,
        kernel=session_of(plan.notebook.kernel_type, plan.offer),
        cell_range=asked.cell_range or UNSET,
        cells=[PlannedCellDocument(cell.cell_id, cell.cell_type) for cell in plan.cells],
        parameters=asked.parameters,
        tags=asked.tags,
        cause=plan.cause or UNSET,
        datasets=list(plan.datasets) or UNSET,
        priority=options.priority,
        timeout=options.timeout,
        cell_timeout=UNSET if options.cell_timeout is None else options.cell_timeout,
        continue_on_error=options.continue_on_error,
        warnings=plan.warnings,
    )
    return json_reply(msgspec.json.encode(document), headers={"Cache-Control": "private, no-cache"})
