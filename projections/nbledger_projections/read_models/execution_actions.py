"""What is done to many executions at once, as the API shows it: folded from its events."""

from typing import Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_domain.execution_action import ActionKind, ExecutionAction, PassedOver
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.documents import Documents
from nbledger_projections.read_models.humanize import timestamp

NAME: Final = "execution_action"

MOST_TOLD: Final = 1000
"""Of the executions that were passed over, so many are told one by one; history has them all."""

ActionStatus = Literal["Running", "Completed", "Cancelled"]


class _ActionMembers(msgspec.Struct, rename="camel", kw_only=True):
    action_id: UUID
    action: ActionKind
    status: ActionStatus
    filter: str | UnsetType = UNSET
    total: int
    done: int = 0
    skipped: int = 0
    failed: int = 0
    requested_at: str
    requested_by: str
    cancel_requested: bool = False
    ended_at: str | UnsetType = UNSET


class ActionItemDocument(_ActionMembers, rename="camel", kw_only=True):
    """An execution action in a list."""


class ActionDocument(_ActionMembers, rename="camel", kw_only=True):
    """The body that ``GET …/execution-actions/{actionId}`` answers with.

    ``done``, ``skipped`` and ``failed`` count executions; while it is Running the others of
    ``total`` are to come. ``passedOver`` names those that were skipped or failed, each with its
    reason, but no more than 1,000 of them.
    """

    passed_over: list[PassedOver] = []


def _requested(recorded: RecordedEvent, event: ExecutionAction.Requested) -> ActionDocument:
    return ActionDocument(
        action_id=recorded.stream_id,
        action=event.action,
        status="Running",
        filter=event.filter,
        total=event.total,
        requested_at=timestamp(recorded.occurred_at),
        requested_by=event.requested_by,
    )


def _progressed(
    document: ActionDocument, _: RecordedEvent, event: ExecutionAction.Progressed
) -> None:
    skipped = sum(each.outcome == "skipped" for each in event.passed)
    document.done += event.done
    document.skipped += skipped
    document.failed += len(event.passed) - skipped
    room = MOST_TOLD - len(document.passed_over)
    document.passed_over.extend(event.passed[: max(room, 0)])


def _cancel_requested(document: ActionDocument, _: RecordedEvent, __: object) -> None:
    document.cancel_requested = True


def _ended(document: ActionDocument, recorded: RecordedEvent, event: ExecutionAction.Ended) -> None:
    document.status = "Completed" if event.outcome == "completed" else "Cancelled"
    document.ended_at = timestamp(recorded.occurred_at)


def _item(document: ActionDocument) -> ActionItemDocument:
    members: dict[str, Any] = {
        name: getattr(document, name) for name in ActionItemDocument.__struct_fields__
    }
    return ActionItemDocument(**members)


MODEL = Documents(
    NAME,
    ActionDocument,
    key="action_id",
    created=ExecutionAction.Requested,
    create=_requested,
    changes={
        ExecutionAction.Selected.TYPE: lambda *_: None,
        ExecutionAction.Progressed.TYPE: _progressed,
        ExecutionAction.CancelRequested.TYPE: _cancel_requested,
        ExecutionAction.Ended.TYPE: _ended,
    },
    deleted=None,
    item=_item,
)
get = MODEL.get
page = MODEL.page
