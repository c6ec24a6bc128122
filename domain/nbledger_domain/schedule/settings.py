"""What a schedule is to be like."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID, uuid5

import msgspec
from msgspec import Meta

from nbledger_domain.errors import Fault
from nbledger_domain.execution.values import RetryPolicy
from nbledger_domain.schedule.cron import DEFAULT_ZONE, Cron, CronError, next_after, split_zone
from nbledger_domain.schedule.cron import cron as cron_of
from nbledger_domain.vocabulary.priorities import Priority

Overlap = Literal["skip", "queueOne", "queueAll", "cancelPrevious", "allow"]

_REMEMBERED: Final = 2048
"""Ids are asked for several times while a batch of firings is dealt with."""

CATCH_UP_SECONDS: Final = 3600
LEAST_CATCH_UP_SECONDS: Final = 60
"""Another scheduler takes over within ten seconds: what is late by that must not be missed."""

CatchUp = Annotated[int, Meta(ge=LEAST_CATCH_UP_SECONDS, le=31_536_000)]
Jitter = Annotated[int, Meta(ge=0, le=86_400)]
MaxRuns = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Failures = Annotated[int, Meta(ge=1, le=1_000)]


class ScheduleSettings(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"
):
    """When a notebook runs by itself, and how.

    ``cron`` has five fields and is read in ``time_zone``; firings are due from ``start`` to
    ``end``, both included, until ``max_runs`` of them have run. Each run has ``timeout`` seconds,
    the service's default without, each of its cells ``cell_timeout``, and the run ``priority``,
    ``retry_policy`` and ``tags``. ``overlap`` says what becomes of a
    firing while an earlier one still runs. One that is late by more than ``catch_up_seconds`` is
    missed. Each fires up to ``jitter_seconds`` later than it is due. After so many failed runs
    without another between them as ``pause_after_failures`` says the schedule is paused.
    """

    cron: str
    time_zone: str = DEFAULT_ZONE
    start: datetime | None = None
    end: datetime | None = None
    max_runs: MaxRuns | None = None
    parameters: dict[str, Any] = {}
    timeout: float | None = None
    cell_timeout: float | None = None
    priority: Priority = "Normal"
    retry_policy: RetryPolicy | None = None
    tags: tuple[str, ...] = ()
    overlap: Overlap = "skip"
    catch_up_seconds: CatchUp = CATCH_UP_SECONDS
    jitter_seconds: Jitter = 0
    pause_after_failures: Failures | None = None

    @classmethod
    def of(cls, value: "str | ScheduleSettings") -> Self:
        """What a notebook's ``scheduleExecution`` says. Raises :class:`CronError`."""
        if isinstance(value, str):
            expression, zone = split_zone(value)
            settings = cls(cron=expression, time_zone=zone or DEFAULT_ZONE)
        else:
            expression, zone = split_zone(value.cron)
            settings = cls(
                **{
                    **{name: getattr(value, name) for name in value.__struct_fields__},
                    "cron": expression,
                    "time_zone": zone or value.time_zone,
                }
            )
        faults = settings.faults()
        if faults:
            raise CronError(faults[0].reason)
        return settings

    @property
    def rule(self) -> Cron:
        """The expression. Raises :class:`CronError`."""
        return cron_of(self.cron, self.time_zone)

    def faults(self) -> list[Fault]:
        """Everything that is wrong with them, by member."""
        found: list[Fault] = []
        expression, zone = split_zone(self.cron)
        if zone is not None and self.time_zone not in (DEFAULT_ZONE, zone):
            found.append(Fault("/timeZone", f"is not {zone}, which cron begins with"))
        zone = zone or self.time_zone
        for pointer, each in (
            ("/cron", (expression, DEFAULT_ZONE)),
            ("/timeZone", ("@daily", zone)),
        ):
            try:
                cron_of(*each)
            except CronError as error:
                found.append(Fault(pointer, str(error)))
        for name, moment in (("start", self.start), ("end", self.end)):
            if moment is not None and moment.tzinfo is None:
                found.append(Fault(f"/{name}", "must tell its zone, as 2026-01-31T02:00:00Z does"))
        if not found and self.start and self.end and self.end < self.start:
            found.append(Fault("/end", "is before start"))
        return found

    def first_after(self, moment: datetime) -> datetime | None:
        """The first time after ``moment`` at which it is due; ``None`` when it is no more."""
        if self.start is not None and self.start > moment:
            moment = self.start.astimezone(UTC) - timedelta(microseconds=1)
        due = next_after(self.cron, self.time_zone, moment)
        if due is None or (self.end is not None and due > self.end):
            return None
        return due

    def upcoming(
        self, after: datetime, *, count: int, through: datetime | None = None
    ) -> list[datetime]:
        """The next times after this moment at which it is due, at most ``count``.

        None is later than ``through``.
        """
        found: list[datetime] = []
        moment = self.first_after(after)
        while moment is not None and len(found) < count and (through is None or moment <= through):
            found.append(moment)
            moment = self.first_after(moment)
        return found

    def fires_at(self, firing_id: UUID, due: datetime) -> datetime:
        """When the firing that is due then fires: the same each time it is asked."""
        if not self.jitter_seconds:
            return due
        share = int.from_bytes(firing_id.bytes[:6], "big") / 2**48
        return due + timedelta(seconds=round(self.jitter_seconds * share, 3))


@lru_cache(maxsize=_REMEMBERED)
def schedule_id_of(notebook_id: UUID) -> UUID:
    """The id of the notebook's schedule, which has at most one."""
    return uuid5(notebook_id, "schedule")


@lru_cache(maxsize=_REMEMBERED)
def firing_id_of(schedule_id: UUID, due: datetime) -> UUID:
    """The id of what is due then: whoever fires it fires the same."""
    return uuid5(schedule_id, due.astimezone(UTC).isoformat())


@lru_cache(maxsize=_REMEMBERED)
def execution_id_of(firing_id: UUID) -> UUID:
    """The id of the run that a firing starts."""
    return uuid5(firing_id, "execution")
