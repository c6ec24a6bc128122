"""The bodies of requests that change a schedule."""

from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from nbledger_http.requests.declared import FaultReport, read_object
from nbledger_http.requests.schedules.settings import Moment


class ScheduleNote(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why, for whoever reads it later."""

    note: Annotated[str, Meta(max_length=500)] | None = None


class ScheduleBackfill(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """From when to when, both included and over."""

    since: Moment = msgspec.field(name="from")
    through: Moment = msgspec.field(name="to")


class Backfill(NamedTuple):
    """From when to when, both included, and in UTC."""

    since: datetime
    through: datetime


def note(body: dict[str, Any]) -> str | None:
    """Why it is asked for, where the body says so. Raises :class:`InvalidInputError`."""
    report = FaultReport()
    found = read_object(ScheduleNote, body, report)
    report.check()
    return found.note


def backfill(body: dict[str, Any], now: datetime) -> Backfill:
    """What is to be made up for. Raises :class:`InvalidInputError` with every fault."""
    report = FaultReport()
    # What stands in for a wrong one has a zone, too.
    asked = read_object(ScheduleBackfill, body, report, ScheduleBackfill(since=now, through=now))
    for name in ("from", "to"):
        if body.get(name) is None:
            report.fault(f"/{name}", "is required")
    report.check()
    if asked.since > asked.through:
        report.fault("/to", "is before from")
    elif asked.through > now:
        report.fault("/to", "is not over yet")
    report.check()
    return Backfill(asked.since.astimezone(UTC), asked.through.astimezone(UTC))
