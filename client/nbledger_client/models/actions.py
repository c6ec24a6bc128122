"""Types of the API: actions. Made by `make client-models`."""

from typing import Required, TypedDict

import msgspec

from nbledger_client.answers import Answered


class PassedOver(msgspec.Struct, rename="camel", kw_only=True):
    """An execution to which it was not done: nothing was to be done, or it could not be.

    `reason` is a stable code, `detail` says more where there is more to say.
    """

    execution_id: str
    outcome: str
    reason: str
    detail: str | None = None


class ActionDocument(Answered, rename="camel", kw_only=True):
    """The body that `GET …/execution-actions/{actionId}` answers with.

    `done`, `skipped` and `failed` count executions; while it is Running the others of `total` are
    to come. `passedOver` names those that were skipped or failed, each with its reason, but no
    more than 1,000 of them.
    """

    action_id: str
    action: str
    status: str
    filter: str | None = None
    total: int
    done: int = 0
    skipped: int = 0
    failed: int = 0
    requested_at: str
    requested_by: str
    cancel_requested: bool = False
    ended_at: str | None = None
    passed_over: list[PassedOver] = []


class ActionItemDocument(msgspec.Struct, rename="camel", kw_only=True):
    """An execution action in a list."""

    action_id: str
    action: str
    status: str
    filter: str | None = None
    total: int
    done: int = 0
    skipped: int = 0
    failed: int = 0
    requested_at: str
    requested_by: str
    cancel_requested: bool = False
    ended_at: str | None = None


class ActionList(Answered, rename="camel", kw_only=True):
    """A page of the project's execution actions, newest first."""

    total_count: int
    page: int
    page_size: int
    has_next_page: bool
    actions: list[ActionItemDocument]


class CountedExecutions(Answered, rename="camel", kw_only=True):
    """What would be done, and to how many executions.

    With `tooMany` there are more than the 50,000 that an action takes, counted no further.
    """

    action: str
    count: int
    too_many: bool = False


class ExecutionActionRequest(msgspec.Struct, rename="camel", kw_only=True):
    """What to do, and to which executions: those in `ids`, or those that `filter` finds.

    With a filter, `expectedCount` is how many it is to find. With `dryRun` it is told how many
    there are, and nothing is done.
    """

    action: str
    ids: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    filter: str | msgspec.UnsetType | None = msgspec.UNSET
    expected_count: int | msgspec.UnsetType | None = msgspec.UNSET
    dry_run: bool | msgspec.UnsetType = msgspec.UNSET


class ExecutionActionRequestFields(TypedDict, total=False):
    """What `ExecutionActionRequest` is made of."""

    action: Required[str]
    ids: list[str] | None
    filter: str | None
    expected_count: int | None
    dry_run: bool
