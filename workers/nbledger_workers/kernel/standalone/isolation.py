"""What a kernel's process can see and do: its own session, no rights, and namespaces of its own.

Standard library only. A fork server of kernels calls `prepare` once; a guardian calls `fork` for
its kernel, the child `enter` before anything of the notebook's runs, and the guardian `Kernel.end`
once the child is gone. All of them want a process with a single thread.

Level `process`: a session of its own, no capabilities, no new privileges, dies with its
fork server. Level `landlock`: besides, it writes in its own folders only, reads nothing that is
hidden, traces and signals nobody but what it has started, and cannot connect to the TCP ports that
its fork server closed. Level `namespaces`: processes, mounts, semaphores and host name are its own
(with `network` "none" the network too): it sees no process but those of its run, a private /tmp,
/var/tmp and /dev/shm, and when it ends, everything that it has started ends with it. Where there is
Landlock, ports are closed there, too.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import sys
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING or __package__:
    from nbledger_workers.kernel.standalone import (
        capabilities,
        landlock,
        mounts,
        prctl,
        seccomp,
        system_calls,
    )
    from nbledger_workers.kernel.standalone.beside import beside
else:
    capabilities, landlock, mounts, prctl, seccomp, system_calls = map(
        beside,
        ("capabilities", "landlock", "mounts", "prctl", "seccomp", "system_calls"),
    )

#: From the least to the most.
LEVELS: Final = ("process", "landlock", "namespaces")

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1

#: The first process of a PID namespace: it reaps by ignoring SIGCHLD, which an exec does not
#: change, and ends when its input does, that is with the guardian. A shell is a hundredth of
#: the cost of another fork of an interpreter.
_INIT: Final = ("/bin/sh", "-c", "trap '' CHLD; exec cat")

_PLACES: Final = ("folders", "writable", "visible", "protected", "hidden", "passages")
#: Covered in namespaces, and out of reach with Landlock.
_TEMPORARY: Final = ("/tmp", "/var/tmp")  # noqa: S108 - what is there is nobody else's


@dataclass(frozen=True)
class Isolation:
    """How one kernel is kept apart.

    `folders` are its own: they exist, stay visible and writable, and go to `user` when there is
    one (a user id and a group id; root only). `temporary` is the folder that /tmp and /var/tmp
    become. `visible` stays to be seen where it lies below a place that is covered. `protected`
    does too, and cannot be written. `writable` are others' folders that may be written. `hidden`
    is covered by nothing. `passages` are folders that only their owner passes through: they are
    covered as hidden ones, below level `namespaces` too, where that needs CAP_SYS_ADMIN. Where
    places lie in each other the innermost counts. `network` is "host"
    or "none". `read_only` leaves nothing writable but its own folders and `writable`.
    `shared_memory` bounds /dev/shm, in bytes; 0 is the system's bound.
    """

    level: str = "process"
    network: str = "host"
    folders: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    temporary: str = ""
    visible: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    passages: tuple[str, ...] = ()
    read_only: bool = False
    shared_memory: int = 0
    user: tuple[int, int] | None = None

    @classmethod
    def from_json(cls, members: dict[str, Any]) -> Isolation:
        """Read what `to_json` wrote."""
        lists = {name: tuple(members[name]) for name in _PLACES}
        user = members["user"]
        return cls(**{**members, **lists, "user": None if user is None else (user[0], user[1])})

    def to_json(self) -> dict[str, Any]:
        """As plain members, for a request to a fork server."""
        return asdict(self)


@dataclass(frozen=True)
class Preparation:
    """What a fork server does once for all its kernels.

    From level `landlock` on, none will connect to the TCP ports `closed_ports`, where
    `can_close_ports` says so.
    """

    level: str = "process"
    closed_ports: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, members: dict[str, Any]) -> Preparation:
        """Read what `to_json` wrote."""
        return cls(members["level"], tuple(members["closed_ports"]))

    def to_json(self) -> dict[str, Any]:
        """As plain members, for a fork server."""
        return asdict(self)


@dataclass
class Kernel:
    """A kernel's process, as its guardian sees it.

    `pid` is a child of the guardian, in the guardian's numbers. `init` is the first process of
    its namespace, which is the guardian's child too; None at level `process`.
    """

    pid: int
    init: int | None = None
    _leash: int | None = field(default=None, repr=False)

    def end(self) -> None:
        """End everything that is left in its namespace. The guardian still reaps `init`."""
        if self._leash is not None:
            os.close(self._leash)
            self._leash = None
        if self.init is not None:
            with suppress(ProcessLookupError):
                os.kill(self.init, signal.SIGKILL)


def prepare(preparation: Preparation) -> None:
    """Give the calling process what `fork` needs; once, before it imports or opens much.

    Without root level `namespaces` moves it into a user namespace, in which its user stays the
    same. Raises IsolationError.
    """
    if sys.platform != "linux":
        return
    level, ports = preparation.level, preparation.closed_ports
    if level == "namespaces" and not capabilities.may_administer():
        _enter_user_namespace()
    if level == "process":
        return
    try:
        landlock.close_ports(ports if can_close_ports() else ())
        if ports and can_close_ports():
            seccomp.close_detours()
    except OSError as error:
        raise system_calls.IsolationError(f"TCP ports: {error.strerror}") from error


def can_close_ports() -> bool:
    """Whether the system lets a process refuse connections to TCP ports, to itself and others."""
    return seccomp.is_known() and landlock.version() >= landlock.PORTS


def keeps_signals() -> bool:
    """Whether level `landlock` keeps signals and abstract sockets within a run."""
    return landlock.version() >= landlock.SCOPES


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    system_calls.unshare(system_calls.CLONE_NEWUSER, "user namespace")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        try:
            Path("/proc/self", name).write_text(text, "ascii")
        except OSError as error:
            raise system_calls.IsolationError(
                f"user namespace: {name}: {error.strerror}"
            ) from error
    capabilities.take_all()


def fork(isolation: Isolation) -> Kernel | None:
    """Fork a kernel's process; None in the child. Raises IsolationError, in the parent only."""
    if isolation.level != "namespaces":
        pid = os.fork()
        return None if pid == 0 else Kernel(pid)
    with ExitStack() as stack:
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, own)
        system_calls.unshare(system_calls.CLONE_NEWPID, "PID namespace")
        try:
            init, leash = _start_init()
            try:
                pid = os.fork()
            except OSError as error:
                os.close(leash)
                os.kill(init, signal.SIGKILL)
                raise system_calls.IsolationError(
                    f"no process can be started: {error.strerror}"
                ) from error
        finally:
            # In the child too, where it is refused: its own children belong where it is.
            system_calls.libc().setns(own, system_calls.CLONE_NEWPID)
    if pid == 0:
        os.close(leash)
        return None
    return Kernel(pid, init, leash)


def enter(isolation: Isolation) -> None:
    """Isolate the calling process, a child of `fork`. Raises IsolationError: then it must end."""
    with suppress(PermissionError):  # it leads one already
        os.setsid()
    if sys.platform != "linux":
        return
    if isolation.level == "namespaces":
        _enter_namespaces(isolation)
    elif isolation.passages:
        _open_passages(isolation)
    if isolation.level == "landlock":
        # While every place can be reached.
        _restrict_files(isolation)
    # Whoever has become another user has no right to that any more.
    capabilities.drop_bounding_set()
    if isolation.user is not None:
        _become(isolation.user, isolation.folders)
    capabilities.drop_all()
    system_calls.check(prctl.prctl(_PR_SET_NO_NEW_PRIVS, 1), "no new privileges")
    # Both are undone by a change of user.
    system_calls.check(prctl.prctl(_PR_SET_DUMPABLE, 1), "dumpable")
    system_calls.check(prctl.prctl(prctl.PR_SET_PDEATHSIG, signal.SIGKILL), "death signal")


# Processes


def _start_init() -> tuple[int, int]:
    """The first process of the new namespace, and the end of a pipe that keeps it alive."""
    read, write = os.pipe()
    try:
        init = os.posix_spawn(
            _INIT[0],
            _INIT,
            {"PATH": os.defpath},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, read, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
            setpgroup=0,
        )
    except OSError as error:
        os.close(write)
        raise system_calls.IsolationError(f"PID namespace: {_INIT[0]}: {error.strerror}") from error
    finally:
        os.close(read)
    return init, write


def _become(user: tuple[int, int], folders: tuple[str, ...]) -> None:
    uid, gid = user
    try:
        for folder in folders:
            # First, since others put files into it meanwhile: once it is the user's they give
            # them to the user themselves, and what was there before is found below.
            os.chown(folder, uid, gid, follow_symlinks=False)
            for parent, _, files in os.walk(folder):
                for name in (parent, *(os.path.join(parent, each) for each in files)):  # noqa: PTH118
                    os.chown(name, uid, gid, follow_symlinks=False)
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise system_calls.IsolationError(f"user {uid}: {error.strerror}") from error


def _restrict_files(isolation: Isolation) -> None:
    own = mounts.existing((*isolation.folders, *isolation.writable))
    # Its folders may lie in what is hidden, as may those of the interpreter.
    hidden = mounts.existing((*isolation.hidden, *_TEMPORARY)) - own
    readable = mounts.existing((*isolation.visible, *isolation.protected)) - hidden
    try:
        landlock.restrict_files(
            writable=own, readable=readable, hidden=hidden, read_only=isolation.read_only
        )
    except OSError as error:
        raise system_calls.IsolationError(f"Landlock: {error.strerror}") from error


# Namespaces


def _open_passages(isolation: Isolation) -> None:
    system_calls.unshare(system_calls.CLONE_NEWNS, "mount namespace")
    mounts.follow_system()
    mounts.cover(
        hidden=mounts.existing(isolation.passages),
        visible=mounts.existing((*isolation.visible, *isolation.protected)),
        bound=mounts.existing((*isolation.folders, *isolation.writable)),
    )


def _enter_namespaces(isolation: Isolation) -> None:
    kinds = system_calls.CLONE_NEWNS | system_calls.CLONE_NEWIPC | system_calls.CLONE_NEWUTS
    if isolation.network == "none":
        kinds |= system_calls.CLONE_NEWNET
    system_calls.unshare(kinds, "mount, IPC, host name or network namespace")
    mounts.follow_system()
    mounts.mount_proc()
    writable = _mount_private(isolation)
    if isolation.read_only:
        mounts.set_read_only("/", on=True, recursive=True)
        for place in ("/proc", *writable):
            mounts.set_read_only(place, on=False, recursive=False)
    if isolation.network == "none":
        _bring_loopback_up()


def _mount_private(isolation: Isolation) -> list[str]:
    """Cover what is shared with others; return the places that are the kernel's own."""
    covers = mounts.existing(_TEMPORARY)
    own = mounts.existing((*isolation.folders, *isolation.writable))
    protected = mounts.existing(isolation.protected) - own
    mounts.cover(
        hidden=mounts.existing((*isolation.hidden, *isolation.passages)) - own,
        visible=mounts.existing(isolation.visible) - {*own, *covers},
        covers=covers,
        bound=own | protected,
        temporary=isolation.temporary,
    )
    for place in protected:
        mounts.set_read_only(place, on=True, recursive=True)
    writable = [*covers, *own]
    if Path("/dev/shm").is_dir():  # noqa: S108 - what is mounted is nobody else's
        mounts.mount_memory("/dev/shm", size=isolation.shared_memory)  # noqa: S108
        writable.append("/dev/shm")  # noqa: S108
    return writable


def _bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))
