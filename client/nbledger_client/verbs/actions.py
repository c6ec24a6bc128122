"""Something done to many executions at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol, Unpack

from nbledger_client.core.requests import Call, Id, Repeat, json_body, path_of
from nbledger_client.core.steps import Items, Steps
from nbledger_client.core.verbs import AwaitingGroup, BlockingGroup, Group, listing, procedure, verb
from nbledger_client.errors import NbledgerError
from nbledger_client.models.actions import (
    ActionDocument,
    ActionItemDocument,
    ActionList,
    CountedExecutions,
    ExecutionActionRequest,
)
from nbledger_client.models.histories import ChangedEntry
from nbledger_client.verbs.shared import HistoryFields, history, keyed

WAIT_SECONDS = 30


class ActionNotEndedError(NbledgerError, TimeoutError):
    """The action has not ended in the time given; `action` is how far it is."""

    def __init__(self, action: ActionDocument) -> None:
        super().__init__(f"Action {action.action_id} has not ended.")
        self.action = action


class HasActionId(Protocol):
    """What tells of an action."""

    action_id: str


Action = Id | HasActionId
"""An action: its id, or what was read of it."""


class ActionVerbs(Group):
    """Executions cancelled or rerun by the dozen."""

    @verb("createExecutionAction")
    def start(
        self,
        action: str,
        *,
        ids: Sequence[Id] | None = None,
        filter: str | None = None,
        expected_count: int | None = None,
        idempotency_key: str | None = None,
    ) -> Call[ActionDocument]:
        """Cancel or rerun executions: those with these ids, or those that a filter finds.

        With a filter, ``expected_count`` is how many it is to find; :meth:`count` tells.

        >>> begun = client.actions.start("rerun", ids=[run.execution_id])
        >>> client.actions.wait(begun).done
        1
        """
        return Call(
            "POST",
            "execution-actions",
            ActionDocument,
            headers=keyed(idempotency_key),
            body=json_body(_asked(action, ids, filter, expected_count, dry_run=False)),
            repeat=Repeat.BY_KEY,
        )

    @verb("createExecutionAction")
    def count(
        self, action: str, *, ids: Sequence[Id] | None = None, filter: str | None = None
    ) -> Call[CountedExecutions]:
        """Count the executions that it would be done to.

        >>> client.actions.count("cancel", filter="status = Running AND tag:none").count
        0
        """
        body = json_body(_asked(action, ids, filter, None, dry_run=True))
        return Call("POST", "execution-actions", CountedExecutions, body=body)

    @verb("getExecutionAction")
    def get(self, action: Action, *, wait: int = 0) -> Call[ActionDocument]:
        """Read how far an action is; with ``wait`` the server waits for its end.

        >>> begun = client.actions.start("rerun", ids=[run.execution_id])
        >>> client.actions.get(begun).total
        1
        """
        return Call("GET", _path(action), ActionDocument, wait=wait)

    @procedure("getExecutionAction")
    def wait(self, action: Action, *, timeout: float | None = None) -> Steps[ActionDocument]:
        """Wait for the end of an action, for ever or for ``timeout`` seconds.

        >>> begun = client.actions.start("rerun", ids=[run.execution_id])
        >>> client.actions.wait(begun, timeout=60).failed
        0
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = WAIT_SECONDS if deadline is None else max(deadline - time.monotonic(), 0)
            wait = min(WAIT_SECONDS, -int(-left // 1))
            found = yield from self._talk.ask(Call("GET", _path(action), ActionDocument, wait=wait))
            if found.ended_at is not None:
                return found
            if deadline is not None and time.monotonic() >= deadline:
                raise ActionNotEndedError(found)

    @verb("cancelExecutionAction")
    def cancel(self, action: Action) -> Call[ActionDocument]:
        """Ask for the end of an action: what it has not done yet, it does not do.

        >>> begun = client.actions.start("rerun", ids=[run.execution_id])
        >>> try:
        ...     asked = client.actions.cancel(begun).cancel_requested
        ... except ActionEndedError:
        ...     asked = True
        >>> asked
        True
        """
        return Call("POST", f"{_path(action)}/cancel", ActionDocument)

    @listing("listExecutionActions")
    def list(self, *, page_size: int = 100) -> Items[ActionItemDocument]:
        """List the actions of the project, newest first.

        >>> begun = client.actions.start("rerun", ids=[run.execution_id])
        >>> next(client.actions.list()).action_id == begun.action_id
        True
        """
        query = {"pageSize": page_size}
        return self._pages("execution-actions", ActionList, lambda found: found.actions, query)

    @listing("getExecutionActionHistory")
    def history(self, action: Action, **asked: Unpack[HistoryFields]) -> Items[ChangedEntry]:
        """Read the events of an action.

        >>> begun = client.actions.start("rerun", ids=[run.execution_id])
        >>> next(client.actions.history(begun)).type
        'action.requested.v1'
        """
        return history(self._talk, f"{_path(action)}/history", asked)


def _path(action: Action) -> str:
    return path_of("execution-actions", getattr(action, "action_id", action))


def _asked(
    action: str,
    ids: Sequence[Id] | None,
    filter: str | None,
    expected_count: int | None,
    *,
    dry_run: bool,
) -> ExecutionActionRequest:
    asked = ExecutionActionRequest(action=action)
    if ids is not None:
        asked.ids = [str(each) for each in ids]
    if filter is not None:
        asked.filter = filter
    if expected_count is not None:
        asked.expected_count = expected_count
    if dry_run:
        asked.dry_run = True
    return asked


class Actions(ActionVerbs, BlockingGroup):
    """Executions cancelled or rerun by the dozen."""


class AsyncActions(ActionVerbs, AwaitingGroup):
    """Executions cancelled or rerun by the dozen, awaited."""
