"""What a kernel's process can see and do: its own session, no rights, and namespaces of its own.

Standard library only, and runnable by path, so that any Python interpreter can use it. A
launcher of kernels calls `prepare` once, then for each kernel `fork`; the child calls `enter`
before anything of the notebook's runs, and the launcher `Kernel.end` once the child is gone. All
of them want a process with a single thread.

Level `process`: a session of its own, no capabilities, no new privileges, dies with its
launcher. Level `landlock`: besides, it writes in its own folders only, reads nothing that is
hidden, traces and signals nobody but what it has started, and cannot connect to the TCP ports that
its launcher closed. Level `namespaces`: processes, mounts, semaphores and host name are its own
(with `network` "none" the network too): it sees no process but those of its run, a private /tmp,
/var/tmp and /dev/shm, and when it ends, everything that it has started ends with it. Where there is
Landlock, ports are closed there, too.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from nbledger_workers.kernel.processes import landlock, prctl, seccomp
else:

    def _beside(name: str) -> Any:
        """The module beside this file, which need not be in a package that Python knows."""
        path = Path(__file__).with_name(f"{name}.py")
        spec = importlib.util.spec_from_file_location(f"nbledger_kernel_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    landlock, prctl, seccomp = map(_beside, ("landlock", "prctl", "seccomp"))

#: From the least to the most.
LEVELS: Final = ("process", "landlock", "namespaces")

_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUTS: Final = 0x04000000
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWPID: Final = 0x20000000
_CLONE_NEWNET: Final = 0x40000000

_MS_RDONLY: Final = 1
_MS_REMOUNT: Final = 32
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_NOEXEC: Final = 8
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_SLAVE: Final = 0x80000
_READ_ONLY: Final = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV

_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAP_SYS_PTRACE: Final = 19
_CAP_SYS_ADMIN: Final = 21

# The same number on every architecture, as for all system calls since 5.1.
_SYS_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MOUNT_ATTR_RDONLY: Final = 1

_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1

#: The first process of a PID namespace: it reaps by ignoring SIGCHLD, which an exec does not
#: change, and ends when its input does, that is with the launcher. A shell is a hundredth of
#: the cost of another fork of an interpreter.
_INIT: Final = ("/bin/sh", "-c", "trap '' CHLD; exec cat")

_PROBE_SECONDS: Final = 20.0
_PLACES: Final = ("folders", "writable", "visible", "protected", "hidden", "passages")
#: Covered in namespaces, and out of reach with Landlock.
_TEMPORARY: Final = ("/tmp", "/var/tmp")  # noqa: S108 - what is there is nobody else's


class IsolationError(Exception):
    """The isolation that was asked for cannot be had; says what failed."""


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
        """As plain members, for a request to a launcher."""
        return asdict(self)


@dataclass(frozen=True)
class Preparation:
    """What a launcher does once for all its kernels.

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
        """As plain members, for a launcher."""
        return asdict(self)


@dataclass
class Kernel:
    """A kernel's process, as its launcher sees it.

    `pid` is a child of the launcher, in the launcher's numbers. `init` is the first process of
    its namespace, which is the launcher's child too; None at level `process`.
    """

    pid: int
    init: int | None = None
    _leash: int | None = field(default=None, repr=False)

    def end(self) -> None:
        """End everything that is left in its namespace. The launcher still reaps `init`."""
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
    if level == "namespaces" and not _may_administer():
        _enter_user_namespace()
    if level == "process":
        return
    try:
        landlock.close_ports(ports if can_close_ports() else ())
        if ports and can_close_ports():
            seccomp.close_detours()
    except OSError as error:
        raise IsolationError(f"TCP ports: {error.strerror}") from error


def can_close_ports() -> bool:
    """Whether the system lets a process refuse connections to TCP ports, to itself and others."""
    return seccomp.is_known() and landlock.version() >= landlock.PORTS


def keeps_signals() -> bool:
    """Whether level `landlock` keeps signals and abstract sockets within a run."""
    return landlock.version() >= landlock.SCOPES


def _enter_user_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWUSER, "user namespace")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        try:
            Path("/proc/self", name).write_text(text, "ascii")
        except OSError as error:
            raise IsolationError(f"user namespace: {name}: {error.strerror}") from error
    # An init keeps this one over its exec: so no kernel, having none, can trace it.
    _set_capabilities(every=True)
    _check(
        prctl.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_SYS_PTRACE), "ambient capability"
    )


def fork(isolation: Isolation) -> Kernel | None:
    """Fork a kernel's process; None in the child. Raises IsolationError, in the parent only."""
    if isolation.level != "namespaces":
        pid = os.fork()
        return None if pid == 0 else Kernel(pid)
    with ExitStack() as stack:
        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, own)
        _unshare(_CLONE_NEWPID, "PID namespace")
        try:
            init, leash = _start_init()
            try:
                pid = os.fork()
            except OSError as error:
                os.close(leash)
                os.kill(init, signal.SIGKILL)
                raise IsolationError(f"no process can be started: {error.strerror}") from error
        finally:
            # In the child too, where it is refused: its own children belong where it is.
            _libc().setns(own, _CLONE_NEWPID)
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
    _drop_bounding_set()
    if isolation.user is not None:
        _become(isolation.user, isolation.folders)
    _drop_capabilities()
    _check(prctl.prctl(_PR_SET_NO_NEW_PRIVS, 1), "no new privileges")
    # Both are undone by a change of user.
    _check(prctl.prctl(_PR_SET_DUMPABLE, 1), "dumpable")
    _check(prctl.prctl(prctl.PR_SET_PDEATHSIG, signal.SIGKILL), "death signal")


def available(isolation: Isolation) -> str | None:
    """Try it in a process of its own: None when it works here, else what is missing."""
    if isolation.level not in LEVELS:
        return f"there is no level {isolation.level!r}"
    if isolation.level == "landlock" and landlock.version() < landlock.FILES:
        return "the system does not offer Landlock"
    if sys.platform != "linux":
        return None if isolation == Isolation() else "this system is not Linux"
    with tempfile.TemporaryDirectory(prefix="nbi-") as folder:
        tried = {**isolation.to_json(), "folders": [folder], "temporary": folder}
        try:
            probe = subprocess.run(
                [sys.executable, "-I", "-S", __file__, json.dumps(tried)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_SECONDS,
                env={},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "the trial did not end"
    if probe.returncode == 0:
        return None
    words = probe.stderr.decode("utf-8", "replace").strip().splitlines()
    return words[-1] if words else f"the trial ended with status {probe.returncode}"


def _try() -> None:
    isolation = Isolation.from_json(json.loads(sys.argv[1]))
    try:
        prepare(Preparation(isolation.level))
        kernel = fork(isolation)
        if kernel is None:
            enter(isolation)
            _find_python()
            os._exit(0)
    except IsolationError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        os._exit(1)
    status = os.waitpid(kernel.pid, 0)[1]
    kernel.end()
    os._exit(os.waitstatus_to_exitcode(status) & 1)


def _find_python() -> None:
    """Raise IsolationError where the calling process cannot be a Python kernel."""
    for place in (sys.executable, os.__file__):
        try:
            os.close(os.open(place, os.O_RDONLY))
        except OSError as error:
            raise IsolationError(f"kernels cannot read {place}: {error.strerror}") from error


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
        raise IsolationError(f"PID namespace: {_INIT[0]}: {error.strerror}") from error
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
        raise IsolationError(f"user {uid}: {error.strerror}") from error


def _drop_bounding_set() -> None:
    capability = 0
    # Refused without the right to it, and after the last one that the system knows.
    while prctl.prctl(_PR_CAPBSET_DROP, capability) == 0:
        capability += 1


def _drop_capabilities() -> None:
    prctl.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(every=False)


def _set_capabilities(*, every: bool) -> None:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if every:
        held = ctypes.create_string_buffer(24)
        _check(_libc().capget(header, held), "capabilities")
        low, low_may, _, high, high_may, _ = struct.unpack("=6I", held.raw)
        data = struct.pack("=6I", low, low_may, low_may, high, high_may, high_may)
    else:
        data = struct.pack("=6I", 0, 0, 0, 0, 0, 0)
    _check(_libc().capset(header, data), "capabilities")


def _may_administer() -> bool:
    held = ctypes.create_string_buffer(24)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if _libc().capget(header, held) != 0:
        return False
    effective: int = struct.unpack("=6I", held.raw)[0]
    return bool(effective >> _CAP_SYS_ADMIN & 1)


def _restrict_files(isolation: Isolation) -> None:
    own = _existing((*isolation.folders, *isolation.writable))
    # Its folders may lie in what is hidden, as may those of the interpreter.
    hidden = _existing((*isolation.hidden, *_TEMPORARY)) - own
    readable = _existing((*isolation.visible, *isolation.protected)) - hidden
    try:
        landlock.restrict_files(
            writable=own, readable=readable, hidden=hidden, read_only=isolation.read_only
        )
    except OSError as error:
        raise IsolationError(f"Landlock: {error.strerror}") from error


# Namespaces


def _open_passages(isolation: Isolation) -> None:
    _unshare(_CLONE_NEWNS, "mount namespace")
    _mount("", "/", "", _MS_REC | _MS_SLAVE)
    _cover(
        hidden=_existing(isolation.passages),
        visible=_existing((*isolation.visible, *isolation.protected)),
        bound=_existing((*isolation.folders, *isolation.writable)),
    )


def _enter_namespaces(isolation: Isolation) -> None:
    kinds = _CLONE_NEWNS | _CLONE_NEWIPC | _CLONE_NEWUTS
    if isolation.network == "none":
        kinds |= _CLONE_NEWNET
    _unshare(kinds, "mount, IPC, host name or network namespace")
    # What is unmounted outside must not stay mounted here.
    _mount("", "/", "", _MS_REC | _MS_SLAVE)
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    writable = _mount_private(isolation)
    if isolation.read_only:
        _set_read_only("/", on=True, recursive=True)
        for place in ("/proc", *writable):
            _set_read_only(place, on=False, recursive=False)
    if isolation.network == "none":
        _bring_loopback_up()


def _mount_private(isolation: Isolation) -> list[str]:
    """Cover what is shared with others; return the places that are the kernel's own."""
    covers = _existing(_TEMPORARY)
    own = _existing((*isolation.folders, *isolation.writable))
    protected = _existing(isolation.protected) - own
    _cover(
        hidden=_existing((*isolation.hidden, *isolation.passages)) - own,
        visible=_existing(isolation.visible) - {*own, *covers},
        covers=covers,
        bound=own | protected,
        temporary=isolation.temporary,
    )
    for place in protected:
        _set_read_only(place, on=True, recursive=True)
    writable = [*covers, *own]
    if Path("/dev/shm").is_dir():  # noqa: S108 - what is mounted is nobody else's
        size = f",size={isolation.shared_memory}" if isolation.shared_memory else ""
        _mount("tmpfs", "/dev/shm", "tmpfs", _MS_NOSUID | _MS_NODEV, f"mode=1777{size}")  # noqa: S108
        writable.append("/dev/shm")  # noqa: S108
    return writable


def _cover(
    *,
    hidden: set[str],
    visible: set[str],
    covers: Collection[str] = (),
    bound: Collection[str] = (),
    temporary: str = "",
) -> None:
    """Cover what is hidden by nothing, and `covers` by the folder `temporary`.

    What is visible stays to be seen; what is `bound` does too, in a mount of its own. All paths
    are resolved and exist.
    """
    # A file, as a library in an archive, can be seen only where nothing is covered.
    visible = set(filter(os.path.isdir, visible)) - hidden - {*bound}
    hiding = []
    with ExitStack() as stack:

        def opened(path: str) -> str:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            return f"/proc/self/fd/{descriptor}"

        # All are opened before the first is covered.
        sources = {path: opened(path) for path in (*bound, *visible)}
        source = opened(temporary) if temporary else None
        # What lies in a place is there to be seen, or it is covered; of places in places the
        # innermost decides.
        covering: dict[str, bool] = {}
        # From the outside in, so that none is covered by what surrounds it.
        for place in sorted({*covers, *hidden, *sources}):
            covered = _innermost(place, covering)
            if place in sources:
                if covered:
                    _make_mount_point(place)
                if covered or place in bound:
                    _mount(sources[place], place, "", _MS_BIND | _MS_REC)
                covering[place] = False
                continue
            covering[place] = True
            if place in covers and not covered:
                _mount_temporary(source, place)
            elif not covered and _hide(place):
                hiding.append(place)
    for place in hiding:
        _mount("", place, "", _READ_ONLY)


def _mount_temporary(source: str | None, place: str) -> None:
    if source is None:
        _mount("tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777")
    else:
        _mount(source, place, "", _MS_BIND)


def _hide(place: str) -> bool:
    """Cover it by nothing; whether it is a folder, in which one may still make mount points."""
    if Path(place).is_dir():
        _mount("tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0711,size=1m")
        return True
    _mount(os.devnull, place, "", _MS_BIND)
    return False


def _existing(paths: Sequence[str]) -> set[str]:
    return {str(Path(path).resolve()) for path in paths if Path(path).exists()}


def _innermost(place: str, covering: Mapping[str, bool]) -> bool:
    """What holds of the innermost of some places in which this one lies."""
    around = map(str, Path(place).parents)
    return next((covering[path] for path in around if path in covering), False)


def _make_mount_point(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IsolationError(f"{path}: {error.strerror}") from error


def _set_read_only(place: str, *, on: bool, recursive: bool) -> None:
    attributes = struct.pack(
        "=4Q", _MOUNT_ATTR_RDONLY if on else 0, 0 if on else _MOUNT_ATTR_RDONLY, 0, 0
    )
    result = _libc().syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(place),
        ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
        attributes,
        ctypes.c_size_t(len(attributes)),
    )
    _check(result, f"read-only file system at {place}")


def _bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


# The system


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _unshare(kinds: int, what: str) -> None:
    _check(_libc().unshare(ctypes.c_int(kinds)), what)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = _libc().mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(result, f"mount at {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        raise IsolationError(f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    _try()
