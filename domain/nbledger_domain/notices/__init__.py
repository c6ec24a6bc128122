"""Notices: what the service tells by itself, each in a stream of its own.

The id of a stream follows from what is told, so that whoever tells it again tells the same, and the
store refuses the second.
"""

from nbledger_domain.notices.automation import (
    AutomationNotice,
    automation_id_of,
    automation_notice_id,
)
from nbledger_domain.notices.kernels import KernelNotice, OutageEnd, kernel_notice_id
from nbledger_domain.notices.runs import RunNotice, run_notice_id
from nbledger_domain.notices.schedules import ScheduleNotice, schedule_notice_id

__all__ = [
    "AutomationNotice",
    "KernelNotice",
    "OutageEnd",
    "RunNotice",
    "ScheduleNotice",
    "automation_id_of",
    "automation_notice_id",
    "kernel_notice_id",
    "run_notice_id",
    "schedule_notice_id",
]
