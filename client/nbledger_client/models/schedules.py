"""Types of the API: schedules. Made by `make client-models`."""

from typing import Any, Required, TypedDict

import msgspec

from nbledger_client.answers import Answered
from nbledger_client.models.common import AutomationSummary, RetryPolicy


class AskedFiring(Answered, rename="camel", kw_only=True):
    """A firing that was asked for, and the id that its run has if it starts."""

    firing_id: str
    due_at: str
    execution_id: str


class AskedFirings(Answered, rename="camel", kw_only=True):
    """The firings that were asked for, in order; those that have run already do not run again."""

    firings: list[AskedFiring]


class GatheringDocument(msgspec.Struct, rename="camel", kw_only=True):
    """Changes that wait to become a run, since the first of them, and what for.

    `waitsFor` is quiet (the time without a change), interval (the time since the run before it),
    run (the end of an automatic run), or queue (as many runs wait as may). `dueAt` is absent while
    a run goes on.
    """

    trigger_id: str
    changes: int
    since: str
    waits_for: str
    due_at: str | None = None


class OutcomeDocument(msgspec.Struct, rename="camel", kw_only=True):
    """How the run of a firing is, or has ended."""

    status: str
    termination_code: str | None = None


class TriggerDocument(msgspec.Struct, rename="camel", kw_only=True):
    """What became of so many `changes`; the newest of them was of this `kind`.

    `chains` are the notebooks whose runs led here, from the first cause on. `execution` is how the
    run is, where that is known.
    """

    trigger_id: str
    outcome: str
    kind: str
    changes: int
    decided_at: str
    reason: str | None = None
    dataset_id: str | None = None
    dataset_version: int | None = None
    chains: list[list[str]] | None = None
    execution_id: str | None = None
    execution: OutcomeDocument | None = None


class AutomationDocument(Answered, rename="camel", kw_only=True):
    """How it stands with a notebook's automatic execution.

    `state` is off, idle, waiting (changes are gathered) or running (the run of `executionId` goes
    on; changes may be gathered beside it). `datasetId` is the dataset whose new versions start
    runs. `triggers` are the last ones with what became of each, the newest first.
    """

    notebook_id: str
    state: str
    automatic: AutomationSummary | None = None
    dataset_id: str | None = None
    set_by: str | None = None
    execution_id: str | None = None
    gathering: GatheringDocument | None = None
    triggers: list[TriggerDocument]


class FailingSeries(msgspec.Struct, rename="camel", kw_only=True):
    """So many runs of the schedule have failed in a row; `told` says that a notice tells so."""

    failures: int
    since: str
    first_execution_id: str
    last_execution_id: str
    termination_code: str
    told: bool


class FiringDocument(msgspec.Struct, rename="camel", kw_only=True):
    """What became of a firing; with `through` of every one from `dueAt` to that moment.

    `execution` is how its run is, where that is known.
    """

    firing_id: str
    due_at: str
    trigger: str
    outcome: str
    decided_at: str
    reason: str | None = None
    through: str | None = None
    count: int | None = None
    execution_id: str | None = None
    execution: OutcomeDocument | None = None


class ScheduleBackfill(msgspec.Struct, rename="camel", kw_only=True):
    """From when to when, both included and over."""

    from_: str
    to: str


class ScheduleDocument(Answered, rename="camel", kw_only=True):
    """A schedule in full; `firings` are the last ones with what became of them, newest first.

    `pauseReason` is requested, or failures: too many runs failed one after the other. `timeout`,
    `cellTimeout` (seconds), `priority`, `retryPolicy` and `tags` are those of its runs; without
    `timeout` they have the default. `warnings` say which of the parameters the notebook, as it is
    now, does not take. `failing` is there where the last run has failed.
    """

    cron: str
    time_zone: str
    description: str
    next_firings: list[str]
    state: str
    schedule_id: str
    notebook_id: str
    pause_reason: str | None = None
    note: str | None = None
    set_by: str
    start: str | None = None
    end: str | None = None
    max_runs: int | None = None
    parameters: dict[str, Any]
    timeout: float | None = None
    cell_timeout: float | None = None
    priority: str
    retry_policy: RetryPolicy | None = None
    tags: list[str]
    overlap: str
    catch_up_seconds: int
    jitter_seconds: int
    pause_after_failures: int | None = None
    firings: list[FiringDocument]
    warnings: list[str]
    failing: FailingSeries | None = None


class ScheduleItem(msgspec.Struct, rename="camel", kw_only=True):
    """A schedule in the list of its project."""

    cron: str
    time_zone: str
    description: str
    next_firings: list[str]
    state: str
    schedule_id: str
    notebook_id: str


class ScheduleList(Answered, rename="camel", kw_only=True):
    """A page of the project's schedules, newest first."""

    total_count: int
    page: int
    page_size: int
    has_next_page: bool
    schedules: list[ScheduleItem]


class ScheduleNote(msgspec.Struct, rename="camel", kw_only=True):
    """Why, for whoever reads it later."""

    note: str | msgspec.UnsetType | None = msgspec.UNSET


class ScheduleBackfillFields(TypedDict, total=False):
    """What `ScheduleBackfill` is made of."""

    from_: Required[str]
    to: Required[str]


class ScheduleNoteFields(TypedDict, total=False):
    """What `ScheduleNote` is made of."""

    note: str | None
