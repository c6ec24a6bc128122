"""The executions that an action is about, as the event store has them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.execution import TERMINAL_EVENTS, Execution, Phase
from nbledger_domain.execution_action import ExecutionAction
from nbledger_domain.filtering import Facts
from nbledger_domain.filtering.fields import MAX_NAME
from nbledger_infrastructure.actors import ACTIONS
from nbledger_infrastructure.aggregates import replay
from nbledger_infrastructure.postgres.event_store import EventStore, Metadata, RecordedEvent, Stream

# Each part is by itself a look-up of one stream: no plan may read all events for them.
# A client may have sent the action's id as the id of a request: who acted has to be looked at, too.
_FIND: Final = f"""
SELECT asked.id, first.subject_id, first.tenant_id, first.project_id,
    last.type = ANY($3) AS ended, cancelled.by_us AS ours
FROM unnest($1::uuid[]) AS asked (id)
CROSS JOIN LATERAL (
    SELECT subject_id, tenant_id, project_id FROM event
    WHERE stream_id = asked.id AND version = 1 AND type = ANY($5) AND data IS NOT NULL
    OFFSET 0
) AS first
CROSS JOIN LATERAL (
    SELECT type FROM event WHERE stream_id = asked.id ORDER BY version DESC LIMIT 1
) AS last
CROSS JOIN LATERAL (
    SELECT count(*) > 0 AS by_us FROM event
    WHERE stream_id = asked.id AND type = ANY($4)
        AND metadata ->> 'correlationId' = $2 AND metadata ->> 'actor' = '{ACTIONS}'
) AS cancelled
"""  # noqa: S608 (constants)

_ENDED: Final = [name for event in TERMINAL_EVENTS for name in EVENT_TYPES.stored_names(event.TYPE)]
_CANCELLED: Final = EVENT_TYPES.stored_names(Execution.CancelRequested.TYPE)
_REQUESTED: Final = EVENT_TYPES.stored_names(Execution.Requested.TYPE)


class Work(msgspec.Struct, frozen=True):
    """An action as far as it is, where its events are, and what is recorded with what it does."""

    action: ExecutionAction
    stream: Stream
    metadata: Metadata


class Target(msgspec.Struct, frozen=True):
    """An execution: where its events are, and whether it has ``ended``.

    ``ours`` says that the action has asked it to stop already.
    """

    stream: Stream
    ended: bool
    ours: bool

    @property
    def notebook_id(self) -> UUID:
        """Its notebook."""
        return self.stream.subject_id


async def find(
    store: EventStore, owner: Stream, execution_ids: Sequence[UUID]
) -> dict[UUID, Target]:
    """Those of the executions that are in the project of the action, whose stream ``owner`` is."""
    async with store.reading() as connection:
        rows = await connection.fetch(
            *(_FIND, execution_ids, str(owner.stream_id), _ENDED, _CANCELLED, _REQUESTED)
        )
    found = (Target(Stream(*row[:4]), row["ended"], row["ours"]) for row in rows)
    return {
        each.stream.stream_id: each
        for each in found
        if each.stream.tenant_id == owner.tenant_id and each.stream.project_id == owner.project_id
    }


def is_ours(history: Sequence[RecordedEvent], action_id: UUID) -> bool:
    """Whether the action has asked the execution to stop."""
    return any(
        each.type == Execution.CancelRequested.TYPE
        and each.metadata.correlation_id == str(action_id)
        and each.metadata.actor == ACTIONS
        for each in history
    )


def facts(execution: Execution, history: Sequence[RecordedEvent]) -> Facts:
    """What filters look at of an execution, as its events have it."""
    claims = [each.occurred_at for each in history if each.type == Execution.Claimed.TYPE]
    waits = execution.phase is Phase.QUEUED
    code = execution.termination_code
    return Facts(
        status=execution.status.value,
        phase=None if execution.phase is None else execution.phase.value,
        termination_code=None if code is None else code.value,
        tags=tuple(execution.tags),
        notebook_id=execution.notebook_id,
        requested_by=execution.requested_by[:MAX_NAME],
        cause=execution.cause.kind,
        requested=_to_millisecond(history[0].occurred_at),
        started=_to_millisecond(claims[-1]) if claims and not waits else None,
        ended=_to_millisecond(history[-1].occurred_at) if execution.ended else None,
    )


def replayed(history: Sequence[RecordedEvent]) -> Execution | None:
    """The execution that these events add up to; ``None`` where it is erased."""
    return replay(Execution, history)


def _to_millisecond(at: datetime) -> datetime:
    """As the API shows it."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)
