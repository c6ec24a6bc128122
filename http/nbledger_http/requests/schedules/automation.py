"""The setting ``autoExecution`` of a notebook."""

from typing import Annotated

import msgspec
from msgspec import Meta

from nbledger_domain.automation import AutoExecution, AutomationSettings, ChangeKind
from nbledger_domain.automation.settings import (
    KINDS,
    QUIET_SECONDS,
    MaxWait,
    MinInterval,
    Quiet,
)
from nbledger_http.requests.declared import FaultReport
from nbledger_http.requests.runs import (
    RetryPolicyBody,
    Seconds,
    Tags,
    check_timeout,
    retry_policy,
    tags,
)
from nbledger_infrastructure.settings import Executions


class AutoExecutionSetting(
    msgspec.Struct, rename="camel", kw_only=True, forbid_unknown_fields=True
):
    """Which changes start a run, and when.

    `on` names dataset (the bound dataset has a new version), cells (the notebook has others), or
    both. A run starts `quietSeconds` after the last change, but no later than `maxWaitSeconds`
    after the first (by default ten times as long, at least 60), and never sooner than
    `minIntervalSeconds` after the start of the one before it. `cellTimeout` (seconds),
    `retryPolicy` and `tags` are those of the runs, as execute takes them.
    """

    on: Annotated[list[ChangeKind], Meta(min_length=1, max_length=10)] | None = None
    quiet_seconds: Quiet | None = QUIET_SECONDS
    max_wait_seconds: MaxWait | None = None
    min_interval_seconds: MinInterval | None = 0
    cell_timeout: Seconds | None = None
    retry_policy: RetryPolicyBody | None = None
    tags: Tags | None = None


AutoExecutionBody = Annotated[
    bool | AutoExecutionSetting,
    Meta(
        description="Whether the notebook runs by itself when its bound dataset has a new version "
        "or its cells change; an object says when."
    ),
]


_Asked = AutoExecution | AutoExecutionSetting


def automation_setting(
    asked: _Asked, report: FaultReport, pointer: str, limits: Executions
) -> AutoExecution:
    """The setting that is asked for."""
    if not isinstance(asked, AutoExecutionSetting):
        return asked
    if asked.on is not None and not asked.on:
        report.fault(f"{pointer}/on", f"must name one of {', '.join(KINDS)}")
    settings = AutomationSettings(
        on=KINDS if asked.on is None else tuple(kind for kind in KINDS if kind in asked.on),
        quiet_seconds=QUIET_SECONDS if asked.quiet_seconds is None else asked.quiet_seconds,
        max_wait_seconds=asked.max_wait_seconds,
        min_interval_seconds=asked.min_interval_seconds or 0,
        cell_timeout=asked.cell_timeout,
        retry_policy=retry_policy(asked.retry_policy),
        tags=tuple(tags(asked.tags)),
    )
    check_timeout(asked.cell_timeout, f"{pointer}/cellTimeout", limits, report)
    if settings.longest_wait < settings.quiet_seconds:
        report.fault(
            f"{pointer}/maxWaitSeconds", f"is less than quietSeconds, {settings.quiet_seconds}"
        )
    return settings


def nothing_starts(setting: AutoExecution, binding: str | None) -> bool:
    """Whether no change could start a run of a notebook with this binding."""
    settings = AutomationSettings.of(setting)
    return settings is not None and settings.on == ("dataset",) and binding is None
