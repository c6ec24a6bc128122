"""Why executions end: codes, whose doing each is, and its title."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class TerminationCode(StrEnum):
    """Why an execution ended."""

    SUCCESS = "success"
    CELL_ERROR = "cell_error"
    ENVIRONMENT_FAILED = "environment_failed"
    KERNEL_DIED = "kernel_died"
    CANCELLED = "cancelled"
    NOTEBOOK_DELETED = "notebook_deleted"
    RUN_TIMEOUT = "run_timeout"
    CELL_TIMEOUT = "cell_timeout"
    QUEUE_TIMEOUT = "queue_timeout"
    MEMORY_LIMIT = "memory_limit"
    CPU_LIMIT = "cpu_limit"
    PROCESS_LIMIT = "process_limit"
    DISK_LIMIT = "disk_limit"
    KERNEL_START_FAILED = "kernel_start_failed"
    WORKER_LOST = "worker_lost"
    ARTIFACT_STORE_UNAVAILABLE = "artifact_store_unavailable"
    INTERNAL_ERROR = "internal_error"


class TerminationCategory(StrEnum):
    """Whose doing the end of an execution was."""

    SUCCESS = "success"
    USER_ERROR = "user_error"
    CANCELLED = "cancelled"
    LIMIT = "limit"
    PLATFORM = "platform"


class Termination(msgspec.Struct, frozen=True):
    """What a termination code means. ``title`` is a phrase for people, without a full stop."""

    category: TerminationCategory
    title: str


_Category = TerminationCategory

TERMINATIONS: Mapping[TerminationCode, Termination] = {
    TerminationCode.SUCCESS: Termination(_Category.SUCCESS, "every cell has run"),
    TerminationCode.CELL_ERROR: Termination(_Category.USER_ERROR, "a cell raised an exception"),
    TerminationCode.ENVIRONMENT_FAILED: Termination(
        _Category.USER_ERROR, "a package that the notebook asks for could not be provided"
    ),
    # A kernel dies by what the notebook makes it do, but for what nobody can tell.
    TerminationCode.KERNEL_DIED: Termination(_Category.USER_ERROR, "the kernel ended by itself"),
    TerminationCode.CANCELLED: Termination(_Category.CANCELLED, "somebody asked for it"),
    TerminationCode.NOTEBOOK_DELETED: Termination(
        _Category.CANCELLED, "its notebook was deleted by force"
    ),
    TerminationCode.RUN_TIMEOUT: Termination(_Category.LIMIT, "the run took too long"),
    TerminationCode.CELL_TIMEOUT: Termination(_Category.LIMIT, "a cell took too long"),
    TerminationCode.QUEUE_TIMEOUT: Termination(_Category.LIMIT, "no worker took it in time"),
    TerminationCode.MEMORY_LIMIT: Termination(_Category.LIMIT, "it used more memory than it may"),
    TerminationCode.CPU_LIMIT: Termination(_Category.LIMIT, "it used more CPU time than it may"),
    TerminationCode.PROCESS_LIMIT: Termination(
        _Category.LIMIT, "it had more processes than it may"
    ),
    TerminationCode.DISK_LIMIT: Termination(_Category.LIMIT, "it used more disk than it may"),
    TerminationCode.KERNEL_START_FAILED: Termination(
        _Category.PLATFORM, "no kernel could be started"
    ),
    TerminationCode.WORKER_LOST: Termination(
        _Category.PLATFORM, "its worker was lost after cells had begun"
    ),
    TerminationCode.ARTIFACT_STORE_UNAVAILABLE: Termination(
        _Category.PLATFORM, "its outputs could not be kept"
    ),
    TerminationCode.INTERNAL_ERROR: Termination(_Category.PLATFORM, "the service itself failed"),
}
"""Every code, with what it means."""
