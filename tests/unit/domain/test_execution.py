"""The execution aggregate: a state machine over its commands, and what they mean."""

from datetime import timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from support.aggregates import (
    AT,
    OUTPUT,
    AggregateMachine,
    an_execution,
    cancel_requested,
    claimed,
    finished,
    given,
    lost,
    running,
    started,
)

from nbledger_domain import events
from nbledger_domain.errors import ExecutionEndedError, IllegalTransitionError, StaleEpochError
from nbledger_domain.execution import (
    TERMINAL_EVENTS,
    CellStatus,
    Execution,
    ExecutionStatus,
    Phase,
    Resources,
    TerminationCode,
)

NOTHING_USED = Resources()
ENDINGS = ["complete", "fail", "time_out", "kernel_died", "cancel"]


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


class ExecutionMachine(AggregateMachine[Execution]):
    """Any order of commands by several workers: refused, or an event that replays."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[int] = []

    @initialize()
    def create(self) -> None:
        self.aggregate = an_execution()
        self.collect()

    @rule(worker=st.sampled_from(["a", "b"]))
    def claim(self, worker: str) -> None:
        before = self.aggregate.epoch
        if self.attempt(self.aggregate.claim, worker, at=AT):
            assert self.aggregate.epoch == before + 1
            self.epochs.append(self.aggregate.epoch)

    @rule(data=st.data())
    @precondition(lambda self: self.epochs)
    def start(self, data: st.DataObject) -> None:
        epoch = data.draw(st.sampled_from(self.epochs))
        self.attempt(self.aggregate.start, epoch, language="python", language_version="3", at=AT)

    @rule(data=st.data())
    @precondition(lambda self: self.epochs)
    def start_cell(self, data: st.DataObject) -> None:
        epoch = data.draw(st.sampled_from(self.epochs))
        cell_id = data.draw(st.sampled_from(["cell-002", "cell-003", "cell-999"]))
        stale = epoch != self.aggregate.epoch
        accepted = self.attempt(self.aggregate.start_cell, epoch, cell_id, at=AT)
        assert not (accepted and stale), "a stale worker was heard"

    @rule(data=st.data(), status=st.sampled_from(CellStatus))
    @precondition(lambda self: self.epochs)
    def finish_cell(self, data: st.DataObject, status: CellStatus) -> None:
        epoch = data.draw(st.sampled_from(self.epochs))
        cell_id = data.draw(st.sampled_from(["cell-002", "cell-003", "cell-999"]))
        stale = epoch != self.aggregate.epoch
        accepted = self.attempt(finished(cell_id, status, epoch=epoch), self.aggregate)
        assert not (accepted and stale), "a stale worker was heard"

    @rule()
    def request_cancel(self) -> None:
        self.attempt(cancel_requested, self.aggregate)

    @rule(data=st.data())
    @precondition(lambda self: self.epochs)
    def lose_attempt(self, data: st.DataObject) -> None:
        epoch = data.draw(st.sampled_from(self.epochs))
        had_run = self.aggregate.has_run_cells
        if self.attempt(self.aggregate.lose_attempt, epoch, "lease expired", at=AT):
            assert self.aggregate.ended or not had_run, "cells would run twice"

    @rule(data=st.data(), how=st.sampled_from(ENDINGS))
    @precondition(lambda self: self.epochs)
    def end(self, data: st.DataObject, how: str) -> None:
        epoch = data.draw(st.sampled_from(self.epochs))
        stale = epoch != self.aggregate.epoch
        accepted = self.attempt(end, self.aggregate, epoch, how)
        assert not (accepted and stale), "a stale worker was heard"

    @invariant()
    def has_at_most_one_terminal_event(self) -> None:
        if not self.history:
            return
        terminal = [event for event in self.history if isinstance(event, TERMINAL_EVENTS)]
        assert len(terminal) == (1 if self.aggregate.ended else 0)
        if terminal:
            assert self.history[-1] is terminal[0]
        assert (self.aggregate.phase is None) == self.aggregate.ended
        assert (self.aggregate.termination_code is None) != self.aggregate.ended


TestExecutionMachine = ExecutionMachine.TestCase


@pytest.mark.parametrize("how", ENDINGS)
def test_a_run_ends_once(how: str) -> None:
    execution = an_execution()
    over = given(execution, started, running("cell-002"), finished("cell-002"))
    assert over.when(lambda it: end(it, 1, how)).aggregate.ended
    for again in ENDINGS:
        with pytest.raises(ExecutionEndedError):
            end(execution, 1, again)


def test_a_waiting_execution_is_cancelled_at_once() -> None:
    execution = given(an_execution()).when(cancel_requested).aggregate
    assert execution.status is ExecutionStatus.CANCELLED
    assert execution.termination_code is TerminationCode.CANCELLED


def test_a_second_worker_cannot_claim_what_is_held() -> None:
    given(an_execution(), claimed).when(claimed).refused(IllegalTransitionError)


def test_a_lost_attempt_is_repeated_only_before_the_first_cell() -> None:
    execution = given(an_execution(), claimed).when(lost).then(Execution.AttemptLost)
    assert execution.phase is Phase.QUEUED
    with pytest.raises(StaleEpochError):
        execution.start(1, language="python", language_version="3", at=AT)
    started(execution)
    execution.start_cell(2, "cell-002", at=AT + timedelta(seconds=1))
    lost(execution)
    assert execution.status is ExecutionStatus.ERROR
    assert execution.termination_code is TerminationCode.WORKER_LOST


@pytest.mark.parametrize("end", ["lose", "cancel", "fail"])
def test_of_a_cell_whose_end_nobody_has_seen_output_may_be_lost(end: str) -> None:
    def put_out(execution: Execution) -> None:
        execution.save_outputs(
            1, execution.running_cell or "", outputs=[OUTPUT], output_count=2, output_bytes=7, at=AT
        )

    def over(execution: Execution) -> None:
        if end == "cancel":
            cancel_requested(execution)
        if end == "fail":
            execution.fail(
                1, TerminationCode.INTERNAL_ERROR, detail="", resources=NOTHING_USED, at=AT
            )
        else:
            lost(execution)

    first = (running("cell-002"), put_out, finished("cell-002"))
    decided = given(an_execution(), started, *first, running("cell-003"), put_out).when(over)
    assert decided.aggregate.ended
    flagged = [each for each in decided.events if isinstance(each, Execution.OutputTruncated)]
    assert [(each.cell_id, each.output_bytes, each.kept_bytes) for each in flagged] == [
        ("cell-003", 7, 3)
    ]
    warned = [each.warning for each in decided.events if isinstance(each, Execution.Warned)]
    assert warned == ["Output of cell cell-003 may be lost: nobody has seen its end."]


def test_a_cancel_that_was_asked_for_wins_over_a_lost_worker() -> None:
    execution = given(an_execution(), claimed, cancel_requested).when(lost).aggregate
    assert execution.status is ExecutionStatus.CANCELLED


@pytest.mark.parametrize("tags", [(), ("nightly", "a b")])
def test_tags_are_in_the_request_where_there_are_any(tags: tuple[str, ...]) -> None:
    (requested,) = an_execution(tags=tags).collect_events()
    assert isinstance(requested, Execution.Requested)
    data = events.encode(requested)
    assert (b'"tags"' in data) is bool(tags)
    read = events.decode(
        requested.TYPE,
        data,
        stream_id=requested.originator_id,
        version=1,
        occurred_at=requested.timestamp,
    )
    assert isinstance(read, Execution.Requested)
    assert (read.tags or []) == list(tags)
