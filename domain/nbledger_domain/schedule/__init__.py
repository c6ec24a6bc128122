"""Schedules: when notebooks run by themselves, and what became of each time."""

from nbledger_domain.schedule.aggregate import Schedule, ScheduleState
from nbledger_domain.schedule.cron import Cron, CronError
from nbledger_domain.schedule.firing import Firing, FiringOutcome, SkipReason, Trigger
from nbledger_domain.schedule.settings import (
    Overlap,
    ScheduleSettings,
    execution_id_of,
    firing_id_of,
    schedule_id_of,
)

__all__ = [
    "Cron",
    "CronError",
    "Firing",
    "FiringOutcome",
    "Overlap",
    "Schedule",
    "ScheduleSettings",
    "ScheduleState",
    "SkipReason",
    "Trigger",
    "execution_id_of",
    "firing_id_of",
    "schedule_id_of",
]
