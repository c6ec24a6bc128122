"""How the settings say that kernels are kept apart and bounded, checked against the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from nbledger_domain.vocabulary.units import MB
from nbledger_infrastructure import settings
from nbledger_workers.confinement import places
from nbledger_workers.confinement.run_users import RunUsers, usable_range
from nbledger_workers.kernel.protocol import Limits
from nbledger_workers.kernel.standalone.isolation import (
    LEVELS,
    Isolation,
    Preparation,
    can_close_ports,
    keeps_signals,
)
from nbledger_workers.kernel.standalone.isolation_probe import available

log = structlog.get_logger(__name__)

_ORDER: Final = tuple(reversed(LEVELS))


class IsolationMissingError(Exception):
    """This machine does not offer the isolation that the settings ask for."""


@dataclass(frozen=True)
class Confinement:
    """What every kernel of a worker gets, and what its fork server does for all of them.

    `users` are the first and the last of the user ids that runs get, each its own; None where
    all have that of `every`, or the worker's. `environments` are folders of which a kernel may
    need a part. `missing` says why it is not more, in words;
    `not_stopped` what a notebook can do all the same.
    """

    every: Isolation
    preparation: Preparation
    users: tuple[int, int] | None = None
    environments: tuple[Path, ...] = ()
    missing: str = ""
    not_stopped: tuple[str, ...] = ()

    @property
    def closes_ports(self) -> bool:
        """Whether kernels cannot connect to the TCP ports that are to be closed to them."""
        return self.every.level != "process" and self.every.network == "host" and can_close_ports()

    @property
    def other_user(self) -> bool:
        """Whether kernels are another user than the worker."""
        return self.users is not None or self.every.user is not None

    def describe(self) -> dict[str, object]:
        """For a log or a person: what kernels get, and what that does not stop."""
        user = self.every.user
        own = None if self.users is None else "one for each run, from {}-{}".format(*self.users)
        told: dict[str, object] = {
            "by": self.every.level,
            "network": self.every.network,
            "user": own or (os.geteuid() if user is None else user[0]),
            "closed_ports": list(self.preparation.closed_ports),
            "not_stopped": list(self.not_stopped),
        }
        return {**told, "missing": self.missing} if self.missing else told

    def for_runs(self) -> Callable[[Path, Path], Isolation]:
        """What makes the isolation of one kernel of its work folder and folder of sockets."""
        users = None if self.users is None else RunUsers(*self.users)

        def confine(folder: Path, runtime_dir: Path) -> Isolation:
            one = for_run(self.every, folder, runtime_dir)
            if self.other_user and self.covers:
                needed = (folder, runtime_dir, *self.environments)
                around = [places.closed_around(each) for each in needed]
                one = replace(one, passages=(*one.passages, *filter(None, around)))
            return one if users is None else replace(one, user=users.take(folder))

        return confine

    @property
    def covers(self) -> bool:
        """Whether folders that only their owner passes through are covered for kernels."""
        return self.every.level == "namespaces" or bool(self.every.passages)


def confinement(config: settings.Settings, environments: Sequence[Path] = ()) -> Confinement:
    """What every kernel of the worker gets; takes some tenths of a second, for it is tried.

    ``environments`` are folders to hide beside those of the settings, but for the environment
    that a kernel is started in.

    Raises :class:`IsolationMissingError`, which names what is missing.
    """
    worker = config.worker
    if worker.network == "none" and worker.isolation not in ("auto", "namespaces"):
        raise IsolationMissingError(
            f'worker.isolation is "{worker.isolation}", and worker.network needs "namespaces"'
        )
    wanted, users = _wanted(config, environments)
    levels = _ORDER if worker.isolation == "auto" else (worker.isolation,)
    faults = []
    level, fault = "", None
    for level in levels:
        chosen = _at_level(level, wanted, users, auto=worker.run_as == "auto")
        if (fault := _fault(chosen)) is None:
            break
        if level == "namespaces" and worker.network == "none":
            raise IsolationMissingError(f"worker.network cannot be had on this machine: {fault}")
        faults.append(f"{level}: {fault}")
    else:
        what = "worker.run_as" if worker.isolation == "auto" else f'worker.isolation = "{level}"'
        raise IsolationMissingError(f"{what} cannot be had on this machine: {fault}")
    if chosen.closes_ports:
        prepared = replace(chosen.preparation, closed_ports=places.ports(config))
        chosen = replace(chosen, preparation=prepared)
    return replace(
        chosen,
        environments=tuple(environments),
        missing="; ".join(faults),
        not_stopped=tuple(_not_stopped(chosen)),
    )


def report(confined: Confinement) -> None:
    """Say in the log what kernels get, and what that does not stop."""
    tell = log.warning if confined.not_stopped or confined.missing else log.info
    tell("kernels are isolated", **confined.describe())


def for_run(every: Isolation, folder: Path, runtime_dir: Path) -> Isolation:
    """That of one kernel, whose work folder and folder of sockets these are.

    Other runs have their folders beside it: they are hidden.
    """
    return replace(
        every,
        hidden=(*every.hidden, str(folder.parent)),
        folders=(str(folder), str(runtime_dir)),
        temporary=str(folder / ".tmp"),
    )


def run_limits(limits: settings.RunLimits) -> Limits:
    """The limits that end a run, as its supervisor takes them."""
    return Limits(
        memory_bytes=limits.memory_mb * MB,
        cpu_seconds=float(limits.cpu_seconds),
        processes=limits.processes,
        open_files=limits.open_files,
        disk_bytes=limits.disk_mb * MB,
    )


def _wanted(
    config: settings.Settings, hidden: Sequence[Path]
) -> tuple[Isolation, tuple[int, int] | None]:
    worker = config.worker
    user, users = _users(worker.run_as)
    wanted = Isolation(
        level="namespaces",
        network=worker.network,
        read_only=worker.read_only_system,
        hidden=(*places.hidden(config), *map(str, hidden)),
        visible=places.visible(config),
        writable=tuple(worker.writable_folders),
        shared_memory=config.limits.memory_mb * MB,
        user=user,
    )
    return wanted, users


def _at_level(
    level: str, wanted: Isolation, users: tuple[int, int] | None, *, auto: bool
) -> Confinement:
    """What the level makes of it."""
    if level == "namespaces":
        every = wanted
    elif level == "landlock":
        every = replace(wanted, level=level, shared_memory=0)
    else:
        every = Isolation(level=level, user=wanted.user)
    chosen = Confinement(every, Preparation(level), users)
    if not chosen.other_user:
        return _as_worker(chosen)
    shut = places.closed_to_others(_interpreter())
    if not shut:
        return chosen
    # What is around the interpreter can be covered, and passed through then; itself it cannot.
    around = tuple(dict.fromkeys(shut.values()))
    passing = replace(every, passages=around, visible=wanted.visible)
    if not {str(Path(place).resolve()) for place in shut} & {*around}:
        through = replace(chosen, every=passing)
        if level == "namespaces" or _fault(through) is None:
            return through
    return _as_worker(chosen) if auto else chosen


def _as_worker(chosen: Confinement) -> Confinement:
    """With kernels of the worker's own user, who may be root."""
    hidden = (*chosen.every.hidden, *places.SECRETS) if chosen.every.level != "process" else ()
    return replace(chosen, every=replace(chosen.every, hidden=hidden), users=None)


def _fault(chosen: Confinement) -> str | None:
    user = chosen.every.user if chosen.users is None else (chosen.users[0], chosen.users[0])
    return available(replace(chosen.every, user=user))


def _interpreter() -> list[str]:
    return [
        place for place in (sys.prefix, sys.base_prefix, *sys.path) if Path(place).is_absolute()
    ]


def _not_stopped(chosen: Confinement) -> Iterator[str]:
    """What a notebook can do, in words."""
    every = chosen.every
    if os.geteuid() == 0 and not chosen.other_user:
        yield "kernels run as root, without capabilities"
    if every.level == "process":
        if chosen.other_user:
            yield "reads what everybody may read"
        else:
            yield "reads and writes what the worker's user may, other runs' folders included"
            yield "ends processes of the worker's user"
    elif not every.read_only:
        yield "writes what its user may write"
    if every.level == "landlock":
        yield "connects to sockets in the file system that its user may open"
        if not keeps_signals():
            yield "sends signals to processes of its user"
    if every.level != "process" and every.network == "host" and not keeps_signals():
        yield "connects to abstract sockets of the machine's services"
    if every.network == "host" and not chosen.closes_ports:
        yield "connects to the ports of the database, the broker and the health checks"


def _users(name: str) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """The one user for all, or the range from which each run gets its own."""
    if name == "auto":
        return None, usable_range() if os.geteuid() == 0 and sys.platform == "linux" else None
    first, dash, last = name.partition("-")
    if dash and first.isdigit() and last.isdigit():
        if os.geteuid() != 0:
            raise _needs_root(name)
        if not 0 < int(first) <= int(last):
            raise IsolationMissingError(f"worker.run_as: {name} is no range of user ids")
        return None, (int(first), int(last))
    return _user(name), None


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
        raise _needs_root(name)
    return user


def _needs_root(name: str) -> IsolationMissingError:
    return IsolationMissingError(
        f"worker.run_as = {name!r} needs a worker that is root, and this one is user {os.geteuid()}"
    )
