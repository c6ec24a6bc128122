"""Notebooks whose runs end as a test says, without a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from nbledger_application import repository
from nbledger_domain.execution import (
    CellError,
    CellStatus,
    Execution,
    GivenDataset,
    Resources,
    TerminationCode,
)
from nbledger_infrastructure import aggregates, clock
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata

BY = Metadata(actor="worker:w1")


async def end(
    store: EventStore,
    execution_id: UUID,
    *,
    failing: str | None = None,
    lost: int = 0,
    datasets: Mapping[UUID, int] | None = None,
    packages: Sequence[str] | None = None,
    language_version: str = "3.12.3",
) -> None:
    """Run the code cells; the run fails at the cell ``failing``, or completes.

    ``lost`` attempts go before, ``datasets`` are recorded as given unless they are ``None``.
    """
    loaded = await aggregates.load(store, Execution, execution_id)
    assert loaded is not None
    execution = loaded.aggregate
    for _ in range(lost):
        epoch = execution.claim("w0", at=clock.now())
        execution.lose_attempt(epoch, "gone", at=clock.now())
    epoch = execution.claim("w1", at=clock.now())
    if packages is not None:
        execution.prepare_environment(
            epoch, "ready", environment="e", packages=packages, at=clock.now()
        )
    execution.start(epoch, language="python", language_version=language_version, at=clock.now())
    if datasets is not None:
        given = [GivenDataset(each, version) for each, version in datasets.items()]
        execution.give_datasets(epoch, given, at=clock.now())
    for cell in execution.cells:
        if cell.cell_type != "code":
            continue
        execution.start_cell(epoch, cell.cell_id, at=clock.now())
        failed = cell.cell_id == failing
        _finish(execution, epoch, cell.cell_id, failed=failed)
        if failed and not execution.options.continue_on_error:
            break
    if failing is None or execution.options.continue_on_error:
        execution.complete(epoch, resources=Resources(), at=clock.now())
    else:
        execution.fail(
            epoch,
            TerminationCode.CELL_ERROR,
            detail="failed",
            resources=Resources(),
            at=clock.now(),
        )
    await repository.save(store, execution, loaded.stream, BY)


def _finish(execution: Execution, epoch: int, cell_id: str, *, failed: bool) -> None:
    told: dict[str, Any] = {"outputs": [], "output_count": 0, "output_bytes": 0}
    execution.finish_cell(
        epoch,
        cell_id,
        status=CellStatus.ERROR if failed else CellStatus.SUCCESS,
        execution_count=1,
        duration=0.1,
        error=CellError("ValueError", "wrong", []) if failed else None,
        at=clock.now(),
        **told,
    )
