"""Automatic execution as the API shows it: in a notebook, and in full."""

from typing import Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_application.automation.standing import AutomationStanding, Gathering, WaitReason
from nbledger_domain.automation import (
    AutoExecution,
    AutomationSettings,
    ChangeKind,
    bound_dataset,
)
from nbledger_domain.execution import RetryPolicy
from nbledger_domain.notebook import Notebook
from nbledger_http.replies.responses import with_members
from nbledger_http.representations.schedules import ScheduledNotebook, with_schedule
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.postgres.event_store.moments import Moment
from nbledger_projections.read_models.humanize import timestamp
from nbledger_projections.read_models.triggers import TriggerDocument

_State = Literal["off", "idle", "waiting", "running"]


class AutomationSummary(msgspec.Struct, rename="camel", kw_only=True):
    """What a notebook's `autoExecution` means, with the defaults of what it leaves out."""

    on: list[ChangeKind]
    quiet_seconds: int
    max_wait_seconds: int
    min_interval_seconds: int
    cell_timeout: float | UnsetType = UNSET
    retry_policy: RetryPolicy | UnsetType = UNSET
    tags: list[str]


class ShownNotebook(ScheduledNotebook, rename="camel", kw_only=True):
    """A notebook, with its schedule and what its automatic execution means where it has them."""

    automatic: AutomationSummary | UnsetType = UNSET


class GatheringDocument(msgspec.Struct, rename="camel", kw_only=True):
    """Changes that wait to become a run, since the first of them, and what for.

    `waitsFor` is quiet (the time without a change), interval (the time since the run before it),
    run (the end of an automatic run), or queue (as many runs wait as may). `dueAt` is absent while
    a run goes on.
    """

    trigger_id: UUID
    changes: int
    since: str
    waits_for: WaitReason
    due_at: str | UnsetType = UNSET


class AutomationDocument(msgspec.Struct, rename="camel", kw_only=True):
    """How it stands with a notebook's automatic execution.

    `state` is off, idle, waiting (changes are gathered) or running (the run of `executionId` goes
    on; changes may be gathered beside it). `datasetId` is the dataset whose new versions start
    runs. `triggers` are the last ones with what became of each, the newest first.
    """

    notebook_id: UUID
    state: _State
    automatic: AutomationSummary | UnsetType = UNSET
    dataset_id: UUID | UnsetType = UNSET
    set_by: str | UnsetType = UNSET
    execution_id: UUID | UnsetType = UNSET
    gathering: GatheringDocument | UnsetType = UNSET
    triggers: list[TriggerDocument]


class _Integration(msgspec.Struct, rename="camel"):
    auto_execution: AutoExecution = False


class _Notebook(msgspec.Struct):
    integration: _Integration


_SWITCHED_ON = (b'"autoExecution":true', b'"autoExecution":{')

_decode = msgspec.json.Decoder(_Notebook).decode


async def shown_notebook(
    store: EventStore,
    notebook_id: UUID,
    document: bytes,
    moment: Moment | None = None,
    runs_then: int = 0,
) -> bytes:
    """The notebook, with its schedule and what its automatic execution means, now or then."""
    document = await with_schedule(store, notebook_id, document, moment, runs_then)
    if not any(each in document for each in _SWITCHED_ON):
        return document
    settings = AutomationSettings.of(_decode(document).integration.auto_execution)
    return document if settings is None else with_members(document, automatic=summary(settings))


def summary(settings: AutomationSettings) -> AutomationSummary:
    """What the settings mean."""
    return AutomationSummary(
        on=list(settings.on),
        quiet_seconds=settings.quiet_seconds,
        max_wait_seconds=settings.longest_wait,
        min_interval_seconds=settings.min_interval_seconds,
        cell_timeout=UNSET if settings.cell_timeout is None else settings.cell_timeout,
        retry_policy=settings.retry_policy or UNSET,
        tags=list(settings.tags),
    )


def full(
    notebook: Notebook, standing: AutomationStanding | None, triggers: list[TriggerDocument]
) -> AutomationDocument:
    """All that is told of a notebook's automatic execution."""
    document = AutomationDocument(notebook_id=notebook.id, state="off", triggers=triggers)
    integration = notebook.integration
    settings = AutomationSettings.of(integration.auto_execution)
    if settings is None:
        return document
    document.state = "idle"
    document.automatic = summary(settings)
    document.dataset_id = bound_dataset(settings, integration.dataset_binding) or UNSET
    if standing is not None:
        document.set_by = standing.set_by
        if standing.gathering is not None:
            document.state = "waiting"
            document.gathering = _gathering(standing.gathering)
        if standing.running is not None:
            document.state = "running"
            document.execution_id = standing.running
    return document


def _gathering(found: Gathering) -> GatheringDocument:
    return GatheringDocument(
        trigger_id=found.trigger_id,
        changes=found.changes,
        since=timestamp(found.since),
        waits_for=found.waits_for,
        due_at=UNSET if found.due_at is None else timestamp(found.due_at),
    )
