"""Owning child processes: none outlives its parent, none is waited for without a limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import psutil
import structlog

from nbledger.embedded.errors import EmbeddedError, LeftoverProcessesError
from nbledger_infrastructure.passed_on import INSTANCE_VARIABLE

"""Environment variable that every process of one `nbledger up` carries: the id of its home."""

_EXEC_OWNED = Path(__file__).with_name("_exec_owned.py")
_POLL_SECONDS = 0.05
_LOG_LIMIT_BYTES = 16 * 1024 * 1024

_log = structlog.get_logger(__name__)


class RunAs(NamedTuple):
    """The operating-system user a child runs as."""

    uid: int
    gid: int


class SweptProcess(NamedTuple):
    """A leftover process that was ended; `name` is the command's name, not its arguments."""

    pid: int
    name: str


def spawn(
    argv: Sequence[str | os.PathLike[str]],
    *,
    instance: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log_file: Path | None = None,
    run_as: RunAs | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a child in a process group of its own that ends when the calling *thread* ends.

    Call it from a thread that lives as long as the child shall (the event loop's), not from a
    thread pool: Linux sends the death signal when the thread that made the child ends. Elsewhere
    than on Linux a killed parent leaves the child behind, for `sweep_instance` to find.

    Args:
        argv: the program (looked up on PATH) and its arguments.
        instance: id of the home, set as NBLEDGER_INSTANCE; None leaves the variable as inherited.
        env: the whole environment of the child; None inherits ours.
        cwd: its working folder; None inherits ours.
        log_file: standard output and error are appended here; None inherits ours.
        run_as: the user to become (needs root).
        death_signal: what the child gets when this process dies (Linux).

    Raises:
        EmbeddedError: the program does not exist.
        OSError: the log file cannot be opened or the process cannot be made.
    """
    environment = dict(os.environ if env is None else env)
    if instance is not None:
        environment[INSTANCE_VARIABLE] = instance
    program = shutil.which(os.fspath(argv[0]), path=environment.get("PATH"))
    if program is None:
        raise EmbeddedError(f"program not found: {os.fspath(argv[0])}")
    user = "-" if run_as is None else f"{run_as.uid}:{run_as.gid}"
    shim = [sys.executable, "-I", "-S", str(_EXEC_OWNED), str(os.getpid()), str(int(death_signal))]
    with contextlib.ExitStack() as stack:
        output: IO[bytes] | None = None
        if log_file is not None:
            output = stack.enter_context(
                os.fdopen(os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
            )
        return subprocess.Popen(
            [*shim, user, program, *(os.fspath(argument) for argument in argv[1:])],
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            process_group=0,
        )


async def wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child to end; return its status as `Popen.returncode` gives it (-N: signal N)."""
    await _exited(process)
    return process.wait()


async def terminate(
    process: subprocess.Popen[bytes],
    grace: float,
    *,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> int:
    """End a child made by `spawn` and all that is left of its process group.

    Args:
        process: the child; it may have ended already.
        grace: seconds it has after `stop_signal`; then its whole group is killed.
        stop_signal: the polite request, sent to the child alone so that it ends its own in order.

    Returns:
        its status, as `Popen.returncode` gives it.
    """
    if process.returncode is not None:
        return process.returncode
    process.send_signal(stop_signal)
    try:
        async with asyncio.timeout(grace):
            await _exited(process)
    except TimeoutError:
        _log.warning("child did not end in time, killing it", pid=process.pid, grace=grace)
    # Until it is reaped the child's id is ours, so the group's id cannot have a new owner.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    await _exited(process)
    return process.wait()


async def sweep_instance(instance: str, *, grace: float = 5.0) -> list[SweptProcess]:
    """End every process whose environment says that it belongs to this home.

    Spares the caller and its ancestors. Children of a leftover go with it, also those that run as
    another user or have cleaned their environment.

    Args:
        instance: the id of the home.
        grace: seconds between SIGTERM and SIGKILL, and again for the killed to be gone.

    Returns:
        the processes ended.

    Raises:
        LeftoverProcessesError: some could not be ended (another user's, or stuck in the kernel).
    """
    entry = f"{INSTANCE_VARIABLE}={instance}"
    swept: dict[psutil.Process, SweptProcess] = {}
    # A leftover may have been forking while we looked: look again until a look finds none.
    for _ in range(5):
        found = await asyncio.to_thread(_find, entry)
        if not found:
            break
        swept.update({process: SweptProcess(process.pid, name) for process, name in found.items()})
        await end_processes(list(found), grace=grace)
    if swept:
        _log.info("ended leftover processes", pids=[process.pid for process in swept])
    return list(swept.values())


async def end_processes(
    processes: Sequence[psutil.Process],
    *,
    grace: float,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> None:
    """End processes that are not our children: `stop_signal`, then SIGKILL, then wait, bounded.

    Raises:
        LeftoverProcessesError: some are still there afterwards.
    """
    _signal_all(processes, stop_signal)
    alive = await _wait_gone(processes, grace)
    _signal_all(alive, signal.SIGKILL)
    alive = await _wait_gone(alive, grace)
    if alive:
        raise LeftoverProcessesError([process.pid for process in alive])


def limit_log(path: Path) -> None:
    """Keep at most one old log beside the current one, which begins anew once it is large."""
    if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie does not (not every container has a reaping init)."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def _exited(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end without reaping."""
    if process.returncode is not None:
        return
    if hasattr(os, "pidfd_open"):
        pidfd = os.pidfd_open(process.pid)
        try:
            await _readable(pidfd)
        finally:
            os.close(pidfd)
        return
    while not _has_exited(process):  # noqa: ASYNC110 - no event without a pidfd
        await asyncio.sleep(_POLL_SECONDS)


def _has_exited(process: subprocess.Popen[bytes]) -> bool:
    options = os.WEXITED | os.WNOWAIT | os.WNOHANG
    return os.waitid(os.P_PID, process.pid, options) is not None


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


def _find(entry: str) -> dict[psutil.Process, str]:
    me = psutil.Process()
    spared = {me.pid, *(parent.pid for parent in me.parents())}
    # Our own helpers (a resource tracker, a service that we have just started) are no leftovers.
    spared |= {child.pid for child in me.children(recursive=True)}
    found: dict[psutil.Process, str] = {}
    for process in psutil.process_iter():
        if process.pid in spared or not _belongs(process, entry):
            continue
        for member in _with_children(process):
            if member.pid in spared or not is_alive(member):
                continue
            with contextlib.suppress(psutil.Error):
                found[member] = member.name()
    return found


def _belongs(process: psutil.Process, entry: str) -> bool:
    name, _, value = entry.partition("=")
    try:
        return process.environ().get(name) == value
    except (psutil.Error, OSError):
        # Gone, or of another user whom we may not look at: then it is not of our making.
        return False


def _with_children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return [process]


def _signal_all(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


async def _wait_gone(processes: Sequence[psutil.Process], limit: float) -> list[psutil.Process]:
    """Those still alive after at most `limit` seconds. Not our children, so there is no event."""
    alive = [process for process in processes if is_alive(process)]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit):
            while alive:
                await asyncio.sleep(_POLL_SECONDS)
                alive = [process for process in alive if is_alive(process)]
    return alive
