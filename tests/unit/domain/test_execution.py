"""The execution aggregate: a state machine over its commands, and what they mean."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.replaying import assert_replays, stored_and_read

from nbledger_domain import events
from nbledger_domain.errors import (
    DomainError,
    ExecutionEndedError,
    IllegalTransitionError,
    StaleEpochError,
)
from nbledger_domain.events import DomainEvent
from nbledger_domain.execution import (
    TERMINAL_EVENTS,
    CellError,
    CellStatus,
    Execution,
    ExecutionStatus,
    Output,
    Phase,
    PlannedCell,
    Representation,
    Resources,
    RunOptions,
    TerminationCode,
)

AT = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)
NOTHING_USED = Resources()
CELLS = [
    PlannedCell("cell-001", "markdown"),
    PlannedCell("cell-002", "code"),
    PlannedCell("cell-003", "code"),
]
OUTPUT = Output(output_type="stream", representations=[Representation("text/plain", "0" * 64, 3)])
ENDINGS = ["complete", "fail", "time_out", "kernel_died", "cancel"]


def request(cells: list[PlannedCell] = CELLS, tags: tuple[str, ...] = ()) -> Execution:
    return Execution.request(
        uuid4(),
        notebook_id=uuid4(),
        notebook_version="1.0.0",
        notebook_stream_version=1,
        kernel_type="python3",
        cells=cells,
        parameters={"include_weekends": False},
        options=RunOptions(timeout=1800),
        requested_by="user123",
        at=AT,
        tags=tags,
    )


def finish(execution: Execution, epoch: int, cell_id: str, status: CellStatus) -> None:
    failed = CellError("KeyError", "'x'", []) if status is CellStatus.ERROR else None
    execution.finish_cell(
        epoch,
        cell_id,
        status=status,
        execution_count=1,
        duration=0.5,
        outputs=[OUTPUT],
        output_count=1,
        output_bytes=3,
        error=failed,
        at=AT,
    )


def end(execution: Execution, epoch: int, how: str) -> None:
    if how == "complete":
        execution.complete(epoch, resources=NOTHING_USED, at=AT)
    elif how == "fail":
        execution.fail(epoch, TerminationCode.CELL_ERROR, detail="", resources=NOTHING_USED, at=AT)
    elif how == "time_out":
        execution.time_out(
            epoch, TerminationCode.RUN_TIMEOUT, detail="", resources=NOTHING_USED, at=AT
        )
    elif how == "kernel_died":
        execution.kernel_died(epoch, detail="", resources=NOTHING_USED, at=AT)
    else:
        execution.cancel(epoch, resources=NOTHING_USED, at=AT)


class ExecutionMachine(RuleBasedStateMachine):
    """Any order of commands by several workers: refused, or an event that replays."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[DomainEvent] = []
        self.epochs: list[int] = []

    @initialize()
    def create(self) -> None:
        self.execution = request()
        self.collect()

    def collect(self) -> list[DomainEvent]:
        decided = stored_and_read(self.execution)
        self.history += decided
        return decided

    def attempt(self, command: Any, *args: Any, **kwargs: Any) -> bool:
        """Run a command: it either decides something, or refuses and changes nothing."""
        try:
            command(*args, **kwargs)
        except DomainError:
            assert self.collect() == []
            return False
        self.collect()
        return True

    @rule(worker=st.sampled_from(["a", "b"]))
    def claim(self, worker: str) -> None:
        before = self.execution.epoch
        if self.attempt(self.execution.claim, worker, at=AT):
            assert self.execution.epoch == before + 1
            self.epochs.append(self.execution.epoch)

    @rule(data=st.data())
    @precondition(lambda self: self.epochs)
    def start(self, data: st.DataObject) -> None:
        epoch = data.draw(st.sampled_from(self.epochs))
        self.attempt(self.execution.start, epoch, language="python", language_version="3", at=AT)

    @rule(data=st.data())
    @precondition(lambda self: self.epochs)
    def start_cell(self, data: st.DataObject) -> None:
        epoch = data.draw(st.sampled_from(self.epochs))
        cell_id = data.draw(st.sampled_from(["cell-002", "cell-003", "cell-999"]))
        stale = epoch != self.execution.epoch
        accepted = self.attempt(self.execution.start_cell, epoch, cell_id, at=AT)
        assert not (accepted and stale), "a stale worker was heard"

    @rule(data=st.data(), status=st.sampled_from(CellStatus))
    @precondition(lambda self: self.epochs)
    def finish_cell(self, data: st.DataObject, status: CellStatus) -> None:
        epoch = data.draw(st.sampled_from(self.epochs))
        cell_id = data.draw(st.sampled_from(["cell-002", "cell-003", "cell-999"]))
        stale = epoch != self.execution.epoch
        accepted = self.attempt(finish, self.execution, epoch, cell_id, status)
        assert not (accepted and stale), "a stale worker was heard"

    @rule()
    def request_cancel(self) -> None:
        self.attempt(self.execution.request_cancel, requested_by="user123", at=AT)

    @rule(data=st.data())
    @precondition(lambda self: self.epochs)
    def lose_attempt(self, data: st.DataObject) -> None:
        epoch = data.draw(st.sampled_from(self.epochs))
        had_run = self.execution.has_run_cells
        if self.attempt(self.execution.lose_attempt, epoch, "lease expired", at=AT):
            assert self.execution.ended or not had_run, "cells would run twice"

    @rule(data=st.data(), how=st.sampled_from(ENDINGS))
    @precondition(lambda self: self.epochs)
    def end(self, data: st.DataObject, how: str) -> None:
        epoch = data.draw(st.sampled_from(self.epochs))
        stale = epoch != self.execution.epoch
        accepted = self.attempt(end, self.execution, epoch, how)
        assert not (accepted and stale), "a stale worker was heard"

    @invariant()
    def replays_with_at_most_one_terminal_event(self) -> None:
        if not self.history:
            return
        assert_replays(self.execution, self.history)
        terminal = [event for event in self.history if isinstance(event, TERMINAL_EVENTS)]
        assert len(terminal) == (1 if self.execution.ended else 0)
        if terminal:
            assert self.history[-1] is terminal[0]
        assert (self.execution.phase is None) == self.execution.ended
        assert (self.execution.termination_code is None) != self.execution.ended


TestExecutionMachine = ExecutionMachine.TestCase


@pytest.mark.parametrize("how", ENDINGS)
def test_a_run_ends_once(how: str) -> None:
    execution = request()
    epoch = execution.claim("worker", at=AT)
    execution.start(epoch, language="python", language_version="3.11", at=AT)
    execution.start_cell(epoch, "cell-002", at=AT)
    finish(execution, epoch, "cell-002", CellStatus.SUCCESS)
    end(execution, epoch, how)
    assert execution.ended
    for again in ENDINGS:
        with pytest.raises(ExecutionEndedError):
            end(execution, epoch, again)


def test_a_waiting_execution_is_cancelled_at_once() -> None:
    execution = request()
    execution.request_cancel(requested_by="user123", at=AT)
    assert execution.status is ExecutionStatus.CANCELLED
    assert execution.termination_code is TerminationCode.CANCELLED


def test_a_second_worker_cannot_claim_what_is_held() -> None:
    execution = request()
    execution.claim("first", at=AT)
    with pytest.raises(IllegalTransitionError):
        execution.claim("second", at=AT)


def test_a_lost_attempt_is_repeated_only_before_the_first_cell() -> None:
    execution = request()
    epoch = execution.claim("first", at=AT)
    execution.lose_attempt(epoch, "lease expired", at=AT)
    assert execution.phase is Phase.QUEUED
    with pytest.raises(StaleEpochError):
        execution.start(epoch, language="python", language_version="3", at=AT)
    epoch = execution.claim("second", at=AT)
    execution.start(epoch, language="python", language_version="3", at=AT)
    execution.start_cell(epoch, "cell-002", at=AT + timedelta(seconds=1))
    execution.lose_attempt(epoch, "lease expired", at=AT)
    assert execution.status is ExecutionStatus.ERROR
    assert execution.termination_code is TerminationCode.WORKER_LOST


@pytest.mark.parametrize("end", ["lose", "cancel", "fail"])
def test_of_a_cell_whose_end_nobody_has_seen_output_may_be_lost(end: str) -> None:
    execution = request()
    epoch = execution.claim("first", at=AT)
    execution.start(epoch, language="python", language_version="3", at=AT)
    for cell_id, status in (("cell-002", CellStatus.SUCCESS), ("cell-003", None)):
        execution.start_cell(epoch, cell_id, at=AT)
        execution.save_outputs(
            epoch, cell_id, outputs=[OUTPUT], output_count=2, output_bytes=7, at=AT
        )
        if status is not None:
            finish(execution, epoch, cell_id, status)
    execution.collect_events()
    if end == "cancel":
        execution.request_cancel(requested_by="user123", at=AT)
    if end == "fail":
        execution.fail(
            epoch, TerminationCode.INTERNAL_ERROR, detail="", resources=NOTHING_USED, at=AT
        )
    else:
        execution.lose_attempt(epoch, "lease expired", at=AT)
    assert execution.ended
    events = execution.collect_events()
    flagged = [each for each in events if isinstance(each, Execution.OutputTruncated)]
    assert [(each.cell_id, each.output_bytes, each.kept_bytes) for each in flagged] == [
        ("cell-003", 7, 3)
    ]
    warned = [each.warning for each in events if isinstance(each, Execution.Warned)]
    assert warned == ["Output of cell cell-003 may be lost: nobody has seen its end."]


def test_a_cancel_that_was_asked_for_wins_over_a_lost_worker() -> None:
    execution = request()
    epoch = execution.claim("first", at=AT)
    execution.request_cancel(requested_by="user123", at=AT)
    execution.lose_attempt(epoch, "lease expired", at=AT)
    assert execution.status is ExecutionStatus.CANCELLED


@pytest.mark.parametrize("tags", [(), ("nightly", "a b")])
def test_tags_are_in_the_request_where_there_are_any(tags: tuple[str, ...]) -> None:
    (requested,) = stored_and_read(request(tags=tags))
    assert isinstance(requested, Execution.Requested)
    assert (requested.tags or []) == list(tags)
    assert (b'"tags"' in events.encode(requested)) is bool(tags)
    live: Any = requested.mutate(None)
    assert_replays(live, [requested])
