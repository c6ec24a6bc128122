"""Runs of all kinds for the list of executions, and their recorded events without a store."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast, get_args
from uuid import UUID

from support.filters import NOTEBOOKS, PEOPLE, START, TAGS
from support.stories import BY_TESTER, RESOURCES

from nbledger_domain import events
from nbledger_domain.events import DomainEvent
from nbledger_domain.execution import (
    Cause,
    CauseKind,
    Execution,
    PlannedCell,
    RunOptions,
    TerminationCode,
)
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery import runner
from nbledger_projections.read_models.executions import status

TENANT, PROJECT = uuid.uuid4(), uuid.uuid4()
_KINDS = list(get_args(CauseKind))


@dataclass
class Run:
    """An execution, and its events."""

    execution: Execution
    history: list[RecordedEvent]


def drawn(dice: random.Random, position: int, *, tags: Sequence[str] | None = None) -> Run:
    """A run as dice fall, with events from ``position`` on; its times are close to others'."""
    at = START + timedelta(milliseconds=dice.randrange(60_000), microseconds=dice.randrange(1000))
    some = dice.sample(TAGS, dice.randrange(4)) if tags is None else list(tags)
    execution = Execution.request(
        UUID(int=dice.getrandbits(128), version=4),
        notebook_id=dice.choice(NOTEBOOKS),
        notebook_version="1.0.0",
        notebook_stream_version=1,
        kernel_type="python3",
        cells=[PlannedCell("c1", "code")],
        parameters={},
        options=RunOptions(timeout=60),
        requested_by=dice.choice(PEOPLE),
        at=at,
        tags=some,
        cause=Cause(kind=dice.choice(_KINDS)) if dice.random() < 0.7 else None,
    )
    for _ in range(dice.randrange(5)):
        if execution.ended:
            break
        at += timedelta(milliseconds=dice.randrange(20_000))
        _advance(execution, dice, at=at)
    return Run(execution, _recorded(execution, position))


def _advance(execution: Execution, dice: random.Random, *, at: datetime) -> None:
    epoch = execution.epoch
    if execution.phase == "Queued":
        if dice.random() < 0.2:
            execution.request_cancel(requested_by="ann", at=at)
        else:
            execution.claim("w", at=at)
        return
    match dice.randrange(6):
        case 0:
            execution.lose_attempt(epoch, "lost", at=at)
        case 1:
            code = dice.choice([TerminationCode.CELL_ERROR, TerminationCode.WORKER_LOST])
            execution.fail(epoch, code, detail="", resources=RESOURCES, at=at)
        case 2 if execution.phase == "Starting":
            execution.prepare_environment(epoch, "building", at=at)
        case 3:
            execution.complete(epoch, resources=RESOURCES, at=at)
        case 4 if execution.phase == "Starting":
            execution.start(epoch, language="python", language_version="3", at=at)
        case _:
            execution.cancel(epoch, resources=RESOURCES, at=at)


def _recorded(execution: Execution, position: int) -> list[RecordedEvent]:
    decided = cast("Sequence[DomainEvent]", execution.collect_events())
    return [
        RecordedEvent(
            position=position + number,
            stream_id=execution.id,
            version=event.originator_version,
            event_id=uuid.uuid4(),
            type=event.TYPE,
            subject_id=execution.notebook_id,
            tenant_id=TENANT,
            project_id=PROJECT,
            data=events.encode(event),
            metadata=BY_TESTER,
            occurred_at=event.timestamp,
            recorded_at=event.timestamp,
            digest=b"",
            chain=b"",
            stored_type=event.TYPE,
        )
        for number, event in enumerate(decided, 1)
    ]


async def project(pool: Pool, runs: Sequence[Run]) -> None:
    """Fold the events of these runs into the status of executions, and their list."""
    projection = status.MODEL.projection()
    told = [recorded for run in runs for recorded in run.history]
    async with acquire(pool) as connection, connection.transaction():
        await runner.project(connection, projection, told)
