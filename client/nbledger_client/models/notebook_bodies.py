"""Types of the API: notebook bodies. Made by `make client-models`."""

from collections.abc import Sequence
from typing import Any, Required, TypedDict

import msgspec

from nbledger_client.models.common import RetryPolicyBody


class AutoExecutionSetting(msgspec.Struct, rename="camel", kw_only=True):
    """Which changes start a run, and when.

    `on` names dataset (the bound dataset has a new version), cells (the notebook has others), or
    both. A run starts `quietSeconds` after the last change, but no later than `maxWaitSeconds`
    after the first (by default ten times as long, at least 60), and never sooner than
    `minIntervalSeconds` after the start of the one before it. `cellTimeout` (seconds),
    `retryPolicy` and `tags` are those of the runs, as execute takes them.
    """

    on: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    quiet_seconds: int | msgspec.UnsetType | None = msgspec.UNSET
    max_wait_seconds: int | msgspec.UnsetType | None = msgspec.UNSET
    min_interval_seconds: int | msgspec.UnsetType | None = msgspec.UNSET
    cell_timeout: float | msgspec.UnsetType | None = msgspec.UNSET
    retry_policy: RetryPolicyBody | dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    tags: list[str] | msgspec.UnsetType | None = msgspec.UNSET


class ChangedCell(msgspec.Struct, rename="camel", kw_only=True):
    """A cell of the new list; what an entry with a known cellId leaves out stays as it is."""

    cell_id: str | msgspec.UnsetType | None = msgspec.UNSET
    cell_type: str | msgspec.UnsetType | None = msgspec.UNSET
    content: str | msgspec.UnsetType | None = msgspec.UNSET
    metadata: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    tags: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    attachments: dict[str, dict[str, Any]] | msgspec.UnsetType | None = msgspec.UNSET


class EnvironmentBody(msgspec.Struct, rename="camel", kw_only=True):
    """What the notebook's code expects to be able to import."""

    packages: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    custom_libraries: list[str] | msgspec.UnsetType | None = msgspec.UNSET


class ScheduleSetting(msgspec.Struct, rename="camel", kw_only=True):
    """When the notebook runs by itself, and how.

    `cron` has five fields, or is one of @yearly, @monthly, @weekly, @daily, @hourly; it is read in
    `timeZone`. It is due from `start` to `end`, until `maxRuns` have run. `overlap` says what
    becomes of a firing while an earlier run goes on: it is skipped, waits alone (queueOne) or in
    line (queueAll), has the earlier one cancelled, or runs beside it. A firing that is late by
    `catchUpSeconds` is missed; each comes up to `jitterSeconds` late. After so many failures in a
    row as `pauseAfterFailures` the schedule is paused. `timeout`, `cellTimeout` (seconds),
    `priority`, `retryPolicy` and `tags` are those of the runs, as execute takes them.
    """

    cron: str
    time_zone: str | msgspec.UnsetType | None = msgspec.UNSET
    start: str | msgspec.UnsetType | None = msgspec.UNSET
    end: str | msgspec.UnsetType | None = msgspec.UNSET
    max_runs: int | msgspec.UnsetType | None = msgspec.UNSET
    parameters: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    timeout: float | msgspec.UnsetType | None = msgspec.UNSET
    cell_timeout: float | msgspec.UnsetType | None = msgspec.UNSET
    priority: str | msgspec.UnsetType | None = msgspec.UNSET
    retry_policy: RetryPolicyBody | dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    tags: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    overlap: str | msgspec.UnsetType | None = msgspec.UNSET
    catch_up_seconds: int | msgspec.UnsetType | None = msgspec.UNSET
    jitter_seconds: int | msgspec.UnsetType | None = msgspec.UNSET
    pause_after_failures: int | msgspec.UnsetType | None = msgspec.UNSET


class IntegrationBody(msgspec.Struct, rename="camel", kw_only=True):
    """How the notebook takes part in data enrichment, and how many runs of it go on at once."""

    enrichment_mode: bool | msgspec.UnsetType | None = msgspec.UNSET
    dataset_binding: str | msgspec.UnsetType | None = msgspec.UNSET
    output_format: str | msgspec.UnsetType | None = msgspec.UNSET
    auto_execution: bool | AutoExecutionSetting | dict[str, Any] | msgspec.UnsetType | None = (
        msgspec.UNSET
    )
    schedule_execution: str | ScheduleSetting | dict[str, Any] | msgspec.UnsetType | None = (
        msgspec.UNSET
    )
    max_concurrent_runs: int | msgspec.UnsetType | None = msgspec.UNSET


class NewCell(msgspec.Struct, rename="camel", kw_only=True):
    """A cell to make; without a cellId it gets the next free one."""

    cell_type: str
    content: str
    cell_id: str | msgspec.UnsetType | None = msgspec.UNSET
    metadata: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    tags: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    attachments: dict[str, dict[str, Any]] | msgspec.UnsetType | None = msgspec.UNSET


class CreateNotebook(msgspec.Struct, rename="camel", kw_only=True):
    """What to create. Cells of a template come before the initial cells."""

    notebook_name: str
    notebook_description: str | msgspec.UnsetType | None = msgspec.UNSET
    kernel_type: str | msgspec.UnsetType | None = msgspec.UNSET
    template: str | msgspec.UnsetType | None = msgspec.UNSET
    integration: IntegrationBody | dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    environment: EnvironmentBody | dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    initial_cells: Sequence[NewCell | dict[str, Any]] | msgspec.UnsetType | None = msgspec.UNSET


class UpdateNotebook(msgspec.Struct, rename="camel", kw_only=True):
    """What to change; a member left out stays. A notebook as read may be sent back whole.

    `dateModified`, if given, guards the update like an entity tag: 409 when it is stale.
    """

    notebook_name: str | msgspec.UnsetType = msgspec.UNSET
    notebook_description: str | msgspec.UnsetType | None = msgspec.UNSET
    kernel_type: str | msgspec.UnsetType | None = msgspec.UNSET
    integration: IntegrationBody | dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    environment: EnvironmentBody | dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    cells: Sequence[ChangedCell | dict[str, Any]] | msgspec.UnsetType | None = msgspec.UNSET
    date_modified: str | msgspec.UnsetType | None = msgspec.UNSET


class AutoExecutionSettingFields(TypedDict, total=False):
    """What `AutoExecutionSetting` is made of."""

    on: list[str] | None
    quiet_seconds: int | None
    max_wait_seconds: int | None
    min_interval_seconds: int | None
    cell_timeout: float | None
    retry_policy: RetryPolicyBody | dict[str, Any] | None
    tags: list[str] | None


class ScheduleSettingFields(TypedDict, total=False):
    """What `ScheduleSetting` is made of."""

    cron: Required[str]
    time_zone: str | None
    start: str | None
    end: str | None
    max_runs: int | None
    parameters: dict[str, Any] | None
    timeout: float | None
    cell_timeout: float | None
    priority: str | None
    retry_policy: RetryPolicyBody | dict[str, Any] | None
    tags: list[str] | None
    overlap: str | None
    catch_up_seconds: int | None
    jitter_seconds: int | None
    pause_after_failures: int | None


class CreateNotebookFields(TypedDict, total=False):
    """What `CreateNotebook` is made of."""

    notebook_name: Required[str]
    notebook_description: str | None
    kernel_type: str | None
    template: str | None
    integration: IntegrationBody | dict[str, Any] | None
    environment: EnvironmentBody | dict[str, Any] | None
    initial_cells: Sequence[NewCell | dict[str, Any]] | None


class UpdateNotebookFields(TypedDict, total=False):
    """What `UpdateNotebook` is made of."""

    notebook_name: str
    notebook_description: str | None
    kernel_type: str | None
    integration: IntegrationBody | dict[str, Any] | None
    environment: EnvironmentBody | dict[str, Any] | None
    cells: Sequence[ChangedCell | dict[str, Any]] | None
    date_modified: str | None
