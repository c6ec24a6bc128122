"""The setting ``scheduleExecution`` of a notebook."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nbledger_domain import parameters as notebook_parameters
from nbledger_domain.schedule import CronError, Overlap, ScheduleSettings
from nbledger_domain.schedule.settings import (
    CATCH_UP_SECONDS,
    CatchUp,
    Failures,
    Jitter,
    MaxRuns,
)
from nbledger_domain.vocabulary.priorities import Priority
from nbledger_http.requests.declared import FaultReport
from nbledger_http.requests.json_bodies import escaped
from nbledger_http.requests.runs import (
    RetryPolicyBody,
    Seconds,
    Tags,
    check_timeout,
    retry_policy,
    tags,
)
from nbledger_infrastructure.settings import Executions

Text = Annotated[str, Meta(max_length=200)]
Moment = Annotated[
    datetime, Meta(tz=True, extra={"reason": "must be a time such as 2024-01-20T10:30:00.000Z"})
]
CronText = Annotated[
    str,
    Meta(
        max_length=200,
        description="A cron expression of five fields, or a name such as @daily; in another zone "
        "than UTC after `CRON_TZ=Europe/Berlin `.",
    ),
]


class ScheduleSetting(msgspec.Struct, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """When the notebook runs by itself, and how.

    `cron` has five fields, or is one of @yearly, @monthly, @weekly, @daily, @hourly; it is read in
    `timeZone`. It is due from `start` to `end`, until `maxRuns` have run. `overlap` says what
    becomes of a firing while an earlier run goes on: it is skipped, waits alone (queueOne) or in
    line (queueAll), has the earlier one cancelled, or runs beside it. A firing that is late by
    `catchUpSeconds` is missed; each comes up to `jitterSeconds` late. After so many failures in a
    row as `pauseAfterFailures` the schedule is paused. `timeout`, `cellTimeout` (seconds),
    `priority`, `retryPolicy` and `tags` are those of the runs, as execute takes them.
    """

    cron: Text
    time_zone: Text | None = "UTC"
    start: Moment | None = None
    end: Moment | None = None
    max_runs: MaxRuns | None = None
    parameters: dict[str, Any] | None = None
    timeout: Seconds | None = None
    cell_timeout: Seconds | None = None
    priority: Priority | None = "Normal"
    retry_policy: RetryPolicyBody | None = None
    tags: Tags | None = None
    overlap: Overlap | None = "skip"
    catch_up_seconds: CatchUp | None = CATCH_UP_SECONDS
    jitter_seconds: Jitter | None = 0
    pause_after_failures: Failures | None = None


Setting = str | ScheduleSettings | None


def schedule_setting(
    asked: str | ScheduleSetting | ScheduleSettings | None,
    before: Setting,
    report: FaultReport,
    pointer: str,
    limits: Executions,
) -> Setting:
    """The schedule that is asked for in place of ``before``; an empty text is none."""
    if isinstance(asked, ScheduleSetting):
        check_timeout(asked.timeout, f"{pointer}/timeout", limits, report)
        check_timeout(asked.cell_timeout, f"{pointer}/cellTimeout", limits, report)
        return _settings(asked, report, pointer)
    if not isinstance(asked, str):
        return asked
    text = asked.strip()
    if not text or text == before:
        return text or None
    try:
        ScheduleSettings.of(text)
    except CronError as error:
        report.fault(pointer, str(error))
    return text


def _settings(asked: ScheduleSetting, report: FaultReport, pointer: str) -> ScheduleSettings:
    parameters = asked.parameters or {}
    for each in notebook_parameters.validate(parameters, "python"):
        report.fault(f"{pointer}/parameters/{escaped(each.name)}", each.reason)
    settings = ScheduleSettings(
        cron=asked.cron.strip(),
        time_zone=asked.time_zone or "UTC",
        start=_in_utc(asked.start),
        end=_in_utc(asked.end),
        max_runs=asked.max_runs,
        parameters=parameters,
        timeout=asked.timeout,
        cell_timeout=asked.cell_timeout,
        priority=asked.priority or "Normal",
        retry_policy=retry_policy(asked.retry_policy),
        tags=tuple(tags(asked.tags)),
        overlap=asked.overlap or "skip",
        catch_up_seconds=(
            CATCH_UP_SECONDS if asked.catch_up_seconds is None else asked.catch_up_seconds
        ),
        jitter_seconds=asked.jitter_seconds or 0,
        pause_after_failures=asked.pause_after_failures,
    )
    for fault in settings.faults():
        report.fault(f"{pointer}{fault.pointer}", fault.reason)
    return settings


def _in_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)
