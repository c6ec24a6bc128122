"""Whose doing the end of an execution was."""

from enum import StrEnum
from typing import assert_never

from nbledger_domain.execution import TerminationCode


class TerminationCategory(StrEnum):
    """What a termination code comes down to."""

    SUCCESS = "success"
    USER_ERROR = "user_error"
    CANCELLED = "cancelled"
    LIMIT = "limit"
    PLATFORM = "platform"


def category(code: TerminationCode) -> TerminationCategory:
    """The category of a termination code. Every code has one: type checkers see to it."""
    match code:
        case TerminationCode.SUCCESS:
            return TerminationCategory.SUCCESS
        case (
            TerminationCode.CELL_ERROR
            | TerminationCode.ENVIRONMENT_FAILED
            | TerminationCode.KERNEL_DIED
        ):
            # A kernel dies by what the notebook makes it do, but for what nobody can tell.
            return TerminationCategory.USER_ERROR
        case TerminationCode.CANCELLED | TerminationCode.NOTEBOOK_DELETED:
            return TerminationCategory.CANCELLED
        case (
            TerminationCode.RUN_TIMEOUT
            | TerminationCode.CELL_TIMEOUT
            | TerminationCode.QUEUE_TIMEOUT
            | TerminationCode.MEMORY_LIMIT
            | TerminationCode.CPU_LIMIT
            | TerminationCode.PROCESS_LIMIT
            | TerminationCode.DISK_LIMIT
            | TerminationCode.OUTPUT_LIMIT
        ):
            return TerminationCategory.LIMIT
        case (
            TerminationCode.KERNEL_START_FAILED
            | TerminationCode.WORKER_LOST
            | TerminationCode.ARTIFACT_STORE_UNAVAILABLE
            | TerminationCode.INTERNAL_ERROR
        ):
            return TerminationCategory.PLATFORM
    assert_never(code)
