"""What of an ended run there is to do again."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from nbledger_domain.errors import IllegalTransitionError
from nbledger_domain.execution import (
    CellError,
    CellStatus,
    Execution,
    GivenDataset,
    PlannedCell,
    Resources,
    RunOptions,
    TerminationCode,
)
from nbledger_domain.execution.repetition import first_failed, has_failed

AT = datetime(2026, 1, 1, tzinfo=UTC)
DATASET = UUID(int=7)


def started() -> Execution:
    run = Execution.request(
        UUID(int=1),
        notebook_id=UUID(int=2),
        notebook_version="1.0.0",
        notebook_stream_version=1,
        kernel_type="python3",
        cells=[
            PlannedCell("text", "markdown"),
            PlannedCell("a", "code"),
            PlannedCell("b", "code"),
            PlannedCell("c", "code"),
        ],
        parameters={},
        options=RunOptions(timeout=60),
        requested_by="ann",
        at=AT,
        datasets=[GivenDataset(DATASET, 3)],
    )
    run.claim("w", at=AT)
    return run


def finish(run: Execution, cell_id: str, status: CellStatus) -> None:
    run.start_cell(1, cell_id, at=AT)
    run.finish_cell(
        1,
        cell_id,
        status=status,
        execution_count=1,
        duration=1,
        outputs=[],
        output_count=0,
        output_bytes=0,
        error=CellError("E", "", []) if status is CellStatus.ERROR else None,
        at=AT,
    )


def test_a_repair_begins_at_the_first_cell_that_failed() -> None:
    run = started()
    run.start(1, language="python", language_version="3", at=AT)
    finish(run, "a", CellStatus.SUCCESS)
    finish(run, "b", CellStatus.ERROR)
    run.fail(1, TerminationCode.CELL_ERROR, detail="", resources=Resources(), at=AT)
    assert (first_failed(run), has_failed(run)) == ("b", True)


@pytest.mark.parametrize("how", ["died", "cancelled"])
def test_a_run_that_ended_in_a_cell_failed_there(how: str) -> None:
    run = started()
    run.start(1, language="python", language_version="3", at=AT)
    finish(run, "a", CellStatus.SUCCESS)
    run.start_cell(1, "b", at=AT)
    if how == "died":
        run.kernel_died(1, detail="", resources=Resources(), at=AT)
    else:
        run.request_cancel(requested_by="ann", at=AT)
        run.cancel(1, resources=Resources(), at=AT)
    assert (first_failed(run), has_failed(run)) == ("b", True)


def test_a_run_that_came_to_no_cell_begins_with_its_first_one() -> None:
    run = started()
    run.fail(1, TerminationCode.ENVIRONMENT_FAILED, detail="", resources=Resources(), at=AT)
    assert (first_failed(run), has_failed(run)) == ("a", True)


def test_errors_that_were_passed_over_can_be_repaired_and_a_success_cannot() -> None:
    for status, failed in ((CellStatus.ERROR, True), (CellStatus.SUCCESS, False)):
        run = started()
        run.start(1, language="python", language_version="3", at=AT)
        finish(run, "a", CellStatus.SUCCESS)
        finish(run, "b", CellStatus.SUCCESS)
        finish(run, "c", status)
        run.complete(1, resources=Resources(), at=AT)
        assert has_failed(run) is failed
        assert first_failed(run) == ("c" if failed else None)


def test_datasets_are_recorded_before_the_first_cell() -> None:
    run = started()
    assert (run.pinned, run.given) == ({DATASET: 3}, None)
    run.give_datasets(1, [GivenDataset(DATASET, 4)], at=AT)
    run.start(1, language="python", language_version="3", at=AT)
    # A kernel that was found dead is given them once more.
    run.give_datasets(1, [GivenDataset(DATASET, 3)], at=AT)
    assert run.given == {DATASET: 3}
    run.start_cell(1, "a", at=AT)
    with pytest.raises(IllegalTransitionError):
        run.give_datasets(1, [], at=AT)
