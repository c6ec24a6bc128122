"""Why executions end: each code with whose doing it is, and what it means."""

from enum import StrEnum
from typing import Self


class TerminationCategory(StrEnum):
    """Whose doing the end of an execution was."""

    SUCCESS = "success"
    USER_ERROR = "user_error"
    CANCELLED = "cancelled"
    LIMIT = "limit"
    PLATFORM = "platform"


class TerminationCode(StrEnum):
    """Why an execution ended.

    ``category`` says whose doing it was, ``meaning`` is a phrase for people without a full stop.
    """

    category: TerminationCategory
    meaning: str

    def __new__(cls, code: str, category: TerminationCategory, meaning: str) -> Self:
        """A member whose value is the code alone."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.category = category
        member.meaning = meaning
        return member

    SUCCESS = "success", TerminationCategory.SUCCESS, "every cell has run"

    CELL_ERROR = "cell_error", TerminationCategory.USER_ERROR, "a cell raised an exception"
    ENVIRONMENT_FAILED = (
        *("environment_failed", TerminationCategory.USER_ERROR),
        "a package that the notebook asks for could not be provided",
    )
    # A kernel dies by what the notebook makes it do, but for what nobody can tell.
    KERNEL_DIED = "kernel_died", TerminationCategory.USER_ERROR, "the kernel ended by itself"

    CANCELLED = "cancelled", TerminationCategory.CANCELLED, "somebody asked for it"
    NOTEBOOK_DELETED = (
        *("notebook_deleted", TerminationCategory.CANCELLED),
        "its notebook was deleted by force",
    )

    RUN_TIMEOUT = "run_timeout", TerminationCategory.LIMIT, "the run took too long"
    CELL_TIMEOUT = "cell_timeout", TerminationCategory.LIMIT, "a cell took too long"
    QUEUE_TIMEOUT = "queue_timeout", TerminationCategory.LIMIT, "no worker took it in time"
    MEMORY_LIMIT = "memory_limit", TerminationCategory.LIMIT, "it used more memory than it may"
    CPU_LIMIT = "cpu_limit", TerminationCategory.LIMIT, "it used more CPU time than it may"
    PROCESS_LIMIT = "process_limit", TerminationCategory.LIMIT, "it had more processes than it may"
    DISK_LIMIT = "disk_limit", TerminationCategory.LIMIT, "it used more disk than it may"

    KERNEL_START_FAILED = (
        *("kernel_start_failed", TerminationCategory.PLATFORM),
        "no kernel could be started",
    )
    WORKER_LOST = (
        *("worker_lost", TerminationCategory.PLATFORM),
        "its worker was lost after cells had begun",
    )
    ARTIFACT_STORE_UNAVAILABLE = (
        *("artifact_store_unavailable", TerminationCategory.PLATFORM),
        "its outputs could not be kept",
    )
    INTERNAL_ERROR = "internal_error", TerminationCategory.PLATFORM, "the service itself failed"
