"""Landlock: what the system lets a process take from itself and from all that it starts.

Standard library only. `close_ports` refuses TCP connections to some ports and keeps signals and
abstract sockets within; a fork server calls it once, and every fork has it at no cost.
`restrict_files` is for one kernel: its own folders, and of the rest what may be read.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import Final

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_NET_PORT: Final = 2
_PR_SET_NO_NEW_PRIVS: Final = 38

#: The first version that knows the file system, TCP ports, and signals and abstract sockets.
FILES: Final = 1
PORTS: Final = 4
SCOPES: Final = 6

_CONNECT_TCP: Final = 2
_SCOPE_ABSTRACT_SOCKETS: Final = 1
_SCOPE_SIGNALS: Final = 2

_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_FOLDER: Final = 1 << 3
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14
_FIRST_VERSION: Final = (1 << 13) - 1
_READ: Final = _EXECUTE | _READ_FILE | _READ_FOLDER
_ONLY_FOR_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE

# What every program may write: devices that keep nothing, terminals, and what is shared memory
# and semaphores to Python's multiprocessing.
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts")
_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - to be granted


def version() -> int:
    """The version of Landlock that the system offers; 0 where there is none."""
    if sys.platform != "linux":
        return 0
    found = _libc().syscall(
        ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION)
    )
    return max(int(found), 0)


def close_ports(ports: Collection[int]) -> None:
    """Refuse TCP connections to these ports, of any host; raises OSError.

    Signals and abstract sockets do not reach out of what the caller starts, where the system
    knows that. Needs CAP_SYS_ADMIN, or takes privileges away for good.
    """
    offered = version()
    handled = _CONNECT_TCP if ports and offered >= PORTS else 0
    scoped = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if offered >= SCOPES else 0
    if not handled and not scoped:
        return
    ruleset = _create(struct.pack("=QQQ", 0, handled, scoped)[: 24 if scoped else 16])
    try:
        if handled:
            _allow_other_ports(ruleset, ports)
        _restrict(ruleset)
    finally:
        os.close(ruleset)


def _allow_other_ports(ruleset: int, ports: Collection[int]) -> None:
    """Allow what is not refused, port by port: there is no other way to say it."""
    add = _libc().syscall
    call = (ctypes.c_long(_ADD_RULE), ctypes.c_int(ruleset), ctypes.c_int(_NET_PORT))
    rule = ctypes.create_string_buffer(16)
    for port in range(65536):
        if port not in ports:
            struct.pack_into("=QQ", rule, 0, _CONNECT_TCP, port)
            _check(add(*call, rule, 0))


def restrict_files(
    *, writable: Iterable[str], readable: Iterable[str], hidden: Iterable[str], read_only: bool
) -> None:
    """Leave the caller what is below `writable`, and the rest but for `hidden`, to be read only.

    `readable` stays so where it lies below a hidden place. All are absolute and without links.
    What appears later beside a hidden place cannot be read either. Signals and abstract sockets
    stay within, where the system knows that. Raises OSError.
    """
    offered = version()
    handled = _FIRST_VERSION
    handled |= _REFER if offered >= 2 else 0
    handled |= _TRUNCATE if offered >= 3 else 0
    scoped = offered >= SCOPES
    attributes = struct.pack("=QQQ", handled, 0, _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS)
    ruleset = _create(attributes if scoped else attributes[:8])
    try:
        covered = {*hidden}
        for root in {"/", *readable}:
            for path in _around(root, covered - {root}):
                _grant(ruleset, path, _READ if read_only else handled)
        for path in (*writable, _SHARED_MEMORY):
            _grant(ruleset, path, handled)
        for path in _DEVICES:
            _grant(ruleset, path, handled & (_READ | _WRITE_FILE | _TRUNCATE))
        _restrict(ruleset)
    finally:
        os.close(ruleset)


def _around(place: str, hidden: Collection[str]) -> Iterator[str]:
    """The places that make up all of `place` but what is hidden."""
    inside = place if place.endswith("/") else f"{place}/"
    below = [path for path in hidden if path.startswith(inside)]
    if not below:
        yield place
        return
    with suppress(OSError):
        for name in os.listdir(place):  # noqa: PTH208 - standard library, and quick
            path = inside + name
            if path not in hidden and not os.path.islink(path):  # noqa: PTH114
                yield from _around(path, below)


def _grant(ruleset: int, path: str, rights: int) -> None:
    """Grant them on what is there; nothing happens where there is nothing."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):  # noqa: PTH112
            rights &= _ONLY_FOR_FILES
        _add(ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor))
    finally:
        os.close(descriptor)


def _create(attributes: bytes) -> int:
    ruleset: int = _libc().syscall(
        ctypes.c_long(_CREATE_RULESET),
        attributes,
        ctypes.c_size_t(len(attributes)),
        ctypes.c_uint(0),
    )
    _check(ruleset)
    return ruleset


def _add(ruleset: int, kind: int, rule: bytes) -> None:
    _check(
        _libc().syscall(
            ctypes.c_long(_ADD_RULE), ctypes.c_int(ruleset), ctypes.c_int(kind), rule, 0
        )
    )


def _restrict(ruleset: int) -> None:
    call = (ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint(0))
    if _libc().syscall(*call) == 0:
        return
    _check(_libc().prctl(ctypes.c_int(_PR_SET_NO_NEW_PRIVS), ctypes.c_ulong(1), 0, 0, 0))
    _check(_libc().syscall(*call))


_system: ctypes.CDLL | None = None


def _libc() -> ctypes.CDLL:
    global _system  # noqa: PLW0603 - to load it anew costs more than the call
    if _system is None:
        _system = ctypes.CDLL(None, use_errno=True)
    return _system


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
