"""Types of the API: common. Made by `make client-models`."""

import msgspec


class AttemptDocument(msgspec.Struct, rename="camel", kw_only=True):
    """One attempt of a worker: `outcome` is Running, or the code that it ended with."""

    attempt: int
    worker_id: str
    start_time: str
    end_time: str | None = None
    outcome: str
    detail: str | None = None


class RetryPolicy(msgspec.Struct, rename="camel", kw_only=True):
    """When a run whose cells have begun may begin anew, from its first cell.

    `max_attempts` counts the first one too. `retry_on` are the ends that allow another.
    """

    max_attempts: int = 3
    retry_on: list[str] = msgspec.field(default_factory=lambda: ["worker_lost", "kernel_died"])


class AutomationSummary(msgspec.Struct, rename="camel", kw_only=True):
    """What a notebook's `autoExecution` means, with the defaults of what it leaves out."""

    on: list[str]
    quiet_seconds: int
    max_wait_seconds: int
    min_interval_seconds: int
    cell_timeout: float | None = None
    retry_policy: RetryPolicy | None = None
    tags: list[str]


class Cause(msgspec.Struct, rename="camel", kw_only=True):
    """Why there is a run, and by what: the ids that belong to its `kind`.

    A `schedule` names itself, its firing, when that was due, and what triggered it; a `dataset`
    and `cells` name the version that came, the trigger and how many changes it stands for; a
    `rerun` or `repair` names the execution before.
    """

    kind: str
    schedule_id: str | None = None
    firing_id: str | None = None
    due_at: str | None = None
    trigger: str | None = None
    dataset_id: str | None = None
    dataset_version: int | None = None
    notebook_version: str | None = None
    execution_id: str | None = None
    trigger_id: str | None = None
    changes: int | None = None


class CellRange(msgspec.Struct, rename="camel", kw_only=True):
    """From one cell to another, both included."""

    start_cell: str
    end_cell: str


class ErrorDocument(msgspec.Struct, rename="camel", kw_only=True):
    """Why the run failed."""

    termination_code: str
    detail: str


class RepetitionDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A run that repeats this one: it is its `cause`."""

    execution_id: str
    kind: str


class RetryPolicyBody(msgspec.Struct, rename="camel", kw_only=True):
    """When a run whose cells have begun may begin anew, from its first cell, in a new kernel.

    `maxAttempts` counts the first one too. `retryOn` are the ends that allow another attempt.
    """

    max_attempts: int | msgspec.UnsetType = msgspec.UNSET
    retry_on: list[str] | msgspec.UnsetType = msgspec.UNSET


class Session(msgspec.Struct, rename="camel", kw_only=True):
    """What would run the notebook now; `offered` is false while no live worker does."""

    kernel_type: str
    offered: bool
    language: str | None = None
    language_version: str | None = None


class UsualDocument(msgspec.Struct, rename="camel", kw_only=True):
    """How long the last completed runs of the same cells took: the middle half of so many."""

    runs: int
    low_seconds: float
    high_seconds: float
