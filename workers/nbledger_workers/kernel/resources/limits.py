"""Limits of one run: what is bounded, by whom, and how it is said that a bound was passed."""

from __future__ import annotations

import resource
from typing import Final

import msgspec

from nbledger_domain.vocabulary.units import MB
from nbledger_domain.words import counted
from nbledger_workers.kernel.protocol import Limits, Outcome

#: Outcomes that say that a run was ended because it passed a limit.
LIMIT_OUTCOMES: Final = frozenset(
    {Outcome.MEMORY_LIMIT, Outcome.CPU_LIMIT, Outcome.PROCESS_LIMIT, Outcome.DISK_LIMIT}
)

#: The name of the error of a cell that was ended so.
ERROR_NAMES: Final = {
    Outcome.MEMORY_LIMIT: "MemoryLimitExceeded",
    Outcome.CPU_LIMIT: "CpuLimitExceeded",
    Outcome.PROCESS_LIMIT: "ProcessLimitExceeded",
    Outcome.DISK_LIMIT: "DiskLimitExceeded",
}


class Used(msgspec.Struct, frozen=True):
    """What a run uses at a moment: the kernel with all that it has started."""

    memory_bytes: int = 0
    cpu_seconds: float = 0.0
    processes: int = 0
    disk_bytes: int = 0


class Exceeded(msgspec.Struct, frozen=True):
    """Which limit was passed, and how, in words."""

    outcome: Outcome
    detail: str


def check(limits: Limits, used: Used) -> Exceeded | None:
    """The first limit that `used` passes; None when it keeps to all."""
    if limits.memory_bytes and used.memory_bytes > limits.memory_bytes:
        return Exceeded(
            Outcome.MEMORY_LIMIT,
            f"the run used {_size(used.memory_bytes)} of memory;"
            f" the limit is {_size(limits.memory_bytes)}",
        )
    if limits.cpu_seconds and used.cpu_seconds > limits.cpu_seconds:
        return Exceeded(
            Outcome.CPU_LIMIT,
            f"the run used {used.cpu_seconds:.1f} seconds of CPU time;"
            f" the limit is {counted(limits.cpu_seconds, 'second')}",
        )
    if limits.processes and used.processes > limits.processes:
        return Exceeded(
            Outcome.PROCESS_LIMIT,
            f"the run had {used.processes} processes at once; the limit is {limits.processes}",
        )
    if limits.disk_bytes and used.disk_bytes > limits.disk_bytes:
        return Exceeded(
            Outcome.DISK_LIMIT,
            f"the run's files took {_size(used.disk_bytes)} of disk;"
            f" the limit is {_size(limits.disk_bytes)}",
        )
    return None


def process_limits(limits: Limits) -> dict[str, int]:
    """What the system enforces in each process: names of `resource`'s limits without RLIMIT_."""
    bounds = {"CORE": 0}
    if limits.open_files:
        bounds["NOFILE"] = limits.open_files
    if limits.disk_bytes:
        # Of one file; the sum is watched from outside.
        bounds["FSIZE"] = limits.disk_bytes
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if "NOFILE" in bounds and hard != resource.RLIM_INFINITY:
        bounds["NOFILE"] = min(bounds["NOFILE"], hard)
    return bounds


def _size(count: int) -> str:
    """Bytes in words, in the units of the settings."""
    if count >= 1_000_000_000:
        return f"{count / 1_000_000_000:.1f} GB"
    return f"{count / MB:.0f} MB"
