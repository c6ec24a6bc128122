"""How the settings say that kernels are kept apart and bounded, checked against the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from nbledger_infrastructure import settings
from nbledger_workers.kernel.isolation import Isolation, available
from nbledger_workers.kernel.protocol import Limits

log = structlog.get_logger(__name__)

_MB: Final = 1_000_000
_NEED_NAMESPACES: Final = ("network", "read_only_system")


class IsolationMissingError(Exception):
    """This machine does not offer the isolation that the settings ask for."""


def isolation(
    worker: settings.Worker, limits: settings.Limits, hidden: Sequence[Path] = ()
) -> Isolation:
    """What every kernel of the worker gets; takes a tenth of a second, for it is tried.

    ``hidden`` are folders to hide beside those of the settings.

    Raises :class:`IsolationMissingError`, which names what is missing.
    """
    wanted = Isolation(
        level="namespaces",
        network=worker.network,
        read_only=worker.read_only_system,
        hidden=(*worker.hidden_folders, *map(str, hidden)),
        shared_memory=limits.memory_mb * _MB,
        user=_user(worker.run_as),
    )
    lesser = Isolation(user=wanted.user)
    if worker.isolation == "process":
        needing = _needing_namespaces(worker)
        if needing:
            raise IsolationMissingError(
                f'worker.isolation is "process", and {" and ".join(needing)} need "namespaces"'
            )
        return _tried(lesser, 'worker.isolation = "process"')
    fault = available(wanted)
    if fault is None:
        log.info("kernels are isolated", by=wanted.level, network=wanted.network)
        return wanted
    if worker.isolation == "namespaces":
        raise IsolationMissingError(
            f'worker.isolation = "namespaces" cannot be had on this machine: {fault}'
        )
    needing = _needing_namespaces(worker)
    if needing:
        raise IsolationMissingError(
            f"{' and '.join(needing)} cannot be had on this machine: {fault}"
        )
    log.warning("kernels are isolated as processes only", missing=fault)
    return _tried(lesser, "worker.run_as")


def for_run(every: Isolation, folder: Path, runtime_dir: Path) -> Isolation:
    """That of one kernel, whose work folder and folder of sockets these are.

    Other runs have their folders beside it: they are hidden.
    """
    return replace(
        every,
        hidden=(*every.hidden, str(folder.parent)),
        folders=(str(folder), str(runtime_dir)),
        temporary=str(folder / ".tmp"),
        visible=_interpreter(),
    )


def run_limits(limits: settings.Limits) -> Limits:
    """The limits that end a run, as its supervisor takes them."""
    return Limits(
        memory_bytes=limits.memory_mb * _MB,
        cpu_seconds=float(limits.cpu_seconds),
        processes=limits.processes,
        open_files=limits.open_files,
        disk_bytes=limits.disk_mb * _MB,
    )


def _tried(wanted: Isolation, what: str) -> Isolation:
    fault = available(wanted)
    if fault is not None:
        raise IsolationMissingError(f"{what} cannot be had on this machine: {fault}")
    return wanted


def _needing_namespaces(worker: settings.Worker) -> list[str]:
    default = settings.Worker()
    return [
        f"worker.{name}"
        for name in _NEED_NAMESPACES
        if getattr(worker, name) != getattr(default, name)
    ]


def _user(name: str) -> tuple[int, int] | None:
    if not name:
        return None
    import pwd  # noqa: PLC0415 - POSIX only

    try:
        found = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        if not name.isdigit():
            raise IsolationMissingError(f"worker.run_as: there is no user {name!r}") from None
        user = int(name), int(name)
    else:
        user = found.pw_uid, found.pw_gid
    if os.geteuid() != 0:
        if user[0] == os.geteuid():
            return None
        raise IsolationMissingError(
            f"worker.run_as = {name!r} needs a worker that is root, and this one is user"
            f" {os.geteuid()}"
        )
    return user


def _interpreter() -> tuple[str, ...]:
    """Where Python and what it imports lie, which may be below a folder that is covered."""
    places = [
        sys.prefix,
        sys.base_prefix,
        *sys.path,
        *os.environ.get("JUPYTER_PATH", "").split(":"),
    ]
    return tuple(dict.fromkeys(place for place in places if Path(place).is_absolute()))
