"""Aggregates in tests: builders, given/when/then, and what a state machine of one begins with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar, cast
from uuid import UUID, uuid4

import pytest
from eventsourcing.domain import BaseAggregate
from hypothesis.stateful import RuleBasedStateMachine, invariant

from nbledger_domain import events
from nbledger_domain.cells import Cell
from nbledger_domain.errors import DomainError
from nbledger_domain.events import DomainEvent
from nbledger_domain.execution import (
    CellError,
    CellStatus,
    Execution,
    Output,
    PlannedCell,
    Representation,
    RunOptions,
)
from nbledger_domain.notebook import Environment, Integration, Notebook

AT = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)
OUTPUT = Output(output_type="stream", representations=[Representation("text/plain", "0" * 64, 3)])

_Aggregate = TypeVar("_Aggregate", bound=BaseAggregate[UUID])
Step = Callable[[_Aggregate], object]


def a_notebook(cells: Sequence[Cell] = (), **others: Any) -> Notebook:
    """A new notebook."""
    given: dict[str, Any] = {
        "name": "Process Mining Analysis",
        "description": "",
        "kernel_type": "python3",
        "integration": Integration(),
        "environment": Environment(),
        "created_by": "user123",
        "at": AT,
    }
    return Notebook.create(uuid4(), cells=list(cells), **{**given, **others})


def an_execution(*cell_types: str, **others: Any) -> Execution:
    """A request to run cells of these types, named ``cell-001`` and so on."""
    types = cell_types or ("markdown", "code", "code")
    given: dict[str, Any] = {
        "notebook_id": uuid4(),
        "notebook_version": "1.0.0",
        "notebook_stream_version": 1,
        "kernel_type": "python3",
        "cells": [
            PlannedCell(f"cell-{number:03d}", cast("Any", cell_type))
            for number, cell_type in enumerate(types, 1)
        ],
        "parameters": {"include_weekends": False},
        "options": RunOptions(timeout=1800),
        "requested_by": "user123",
        "at": AT,
    }
    return Execution.request(uuid4(), **{**given, **others})


# Steps of a run.


def claimed(execution: Execution) -> None:
    execution.claim("worker", at=AT)


def started(execution: Execution) -> None:
    """Claimed, and its kernel is up."""
    epoch = execution.claim("worker", at=AT)
    execution.start(epoch, language="python", language_version="3.11.7", at=AT)


def running(cell_id: str) -> Step[Execution]:
    return lambda execution: execution.start_cell(execution.epoch, cell_id, at=AT)


def finished(
    cell_id: str, status: CellStatus = CellStatus.SUCCESS, *, epoch: int | None = None
) -> Step[Execution]:
    failed = CellError("KeyError", "'x'", []) if status is CellStatus.ERROR else None
    return lambda execution: execution.finish_cell(
        execution.epoch if epoch is None else epoch,
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


def lost(execution: Execution) -> None:
    execution.lose_attempt(execution.epoch, "lease expired", at=AT)


def cancel_requested(execution: Execution) -> None:
    execution.request_cancel(requested_by="user123", at=AT)


# Given, when, then.


class Decided(Generic[_Aggregate]):
    """What a command has decided, or why it was refused."""

    def __init__(
        self, aggregate: _Aggregate, decided: list[DomainEvent], error: DomainError | None
    ) -> None:
        self.aggregate = aggregate
        self.events = decided
        self._error = error

    def then(self, *kinds: type[DomainEvent]) -> _Aggregate:
        """Exactly events of these kinds; the aggregate as it is now."""
        assert self._error is None, self._error
        assert [type(event) for event in self.events] == list(kinds)
        return self.aggregate

    def refused(self, error: type[DomainError]) -> None:
        """With this error, and nothing was decided."""
        assert isinstance(self._error, error), self.events
        assert self.events == []


class Given(Generic[_Aggregate]):
    """An aggregate to which something has happened."""

    def __init__(self, aggregate: _Aggregate, history: list[DomainEvent]) -> None:
        self._aggregate = aggregate
        self._history = history

    def when(self, command: Step[_Aggregate]) -> Decided[_Aggregate]:
        """Run the command; what it decides replays to the same state."""
        error = None
        try:
            command(self._aggregate)
        except DomainError as refusal:
            error = refusal
        decided = stored_and_read(self._aggregate)
        self._history += decided
        assert_replays(self._aggregate, self._history)
        return Decided(self._aggregate, decided, error)


def given(aggregate: _Aggregate, *steps: Step[_Aggregate]) -> Given[_Aggregate]:
    """The aggregate after these steps."""
    for step in steps:
        step(aggregate)
    return Given(aggregate, stored_and_read(aggregate))


# Replays.


def stored_and_read(aggregate: BaseAggregate[UUID]) -> list[DomainEvent]:
    """The aggregate's pending events, after a way through their stored form."""
    decided = cast("Sequence[DomainEvent]", aggregate.collect_events())
    return [
        events.decode(
            event.TYPE,
            events.encode(event),
            stream_id=event.originator_id,
            version=event.originator_version,
            occurred_at=event.timestamp,
        )
        for event in decided
    ]


def assert_replays(live: BaseAggregate[UUID], history: Sequence[DomainEvent]) -> None:
    """History gives the live state again, and its versions have no gap."""
    replayed: Any = None
    for event in history:
        replayed = event.mutate(replayed)
    assert replayed == live
    assert [event.originator_version for event in history] == list(range(1, len(history) + 1))


class AggregateMachine(RuleBasedStateMachine, Generic[_Aggregate]):
    """Any order of commands: each is refused, or decides events that replay to the live state."""

    aggregate: _Aggregate

    def __init__(self) -> None:
        super().__init__()
        self.history: list[DomainEvent] = []
        self.at = AT

    def tick(self) -> datetime:
        self.at += timedelta(microseconds=1)
        return self.at

    def collect(self) -> list[DomainEvent]:
        """What was decided since the last time."""
        decided = stored_and_read(self.aggregate)
        self.history += decided
        return decided

    def attempt(self, command: Callable[..., object], *args: Any, **kwargs: Any) -> bool:
        """Whether the command decided something; a refusal changes nothing."""
        try:
            command(*args, **kwargs)
        except DomainError:
            assert self.collect() == []
            return False
        self.collect()
        return True

    def refuse(self, error: type[DomainError], command: Callable[..., object]) -> None:
        """The command is refused with this error, and changes nothing."""
        with pytest.raises(error):
            command()
        assert self.collect() == []

    @invariant()
    def replays(self) -> None:
        if self.history:
            assert_replays(self.aggregate, self.history)
