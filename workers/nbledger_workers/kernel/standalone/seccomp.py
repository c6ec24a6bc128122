"""Refuses the system calls by which a TCP connection can be opened past Landlock's rules.

Standard library only. Landlock looks at connect(2) on TCP sockets. A SYN that carries data
(MSG_FASTOPEN), Multipath TCP and SMC, which fall back to TCP, and io_uring, whose requests no
filter sees, would each be a way around it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IF_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_IF_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

# Offsets in struct seccomp_data; of an argument that is of its lower half (little endian).
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16

_MSG_FASTOPEN: Final = 0x20000000
_AF_SMC: Final = 43
_IPPROTO_SMC: Final = 256
_IPPROTO_MPTCP: Final = 262
_X32: Final = 0x40000000
_IO_URING_SETUP: Final = 425

#: By machine: the audit architecture; socket, sendto, sendmsg and sendmmsg.
_MACHINES: Final = {
    "x86_64": (0xC000003E, 41, 44, 46, 307),
    "aarch64": (0xC00000B7, 198, 206, 211, 269),
}


def is_known() -> bool:
    """Whether there is a filter for this machine."""
    return platform.machine() in _MACHINES


def close_detours() -> None:
    """Refuse them to the calling process and all that it starts; raises OSError.

    It needs CAP_SYS_ADMIN or no_new_privs. Programs for another architecture (32 bits) get
    ENOSYS from every call, for their calls have other numbers.
    """
    program = _program(*_MACHINES[platform.machine()])
    code = ctypes.create_string_buffer(b"".join(program))
    head = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), head, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _program(
    architecture: int, socket: int, sendto: int, sendmsg: int, sendmmsg: int
) -> list[bytes]:
    return [
        _step(_LOAD, _ARCHITECTURE),
        _step(_IF_EQUAL, architecture, skip_if=1),
        _refuse(errno.ENOSYS),
        _step(_LOAD, _NUMBER),
        *_when(_IF_AT_LEAST, _X32, [_refuse(errno.ENOSYS)]),
        *_when(_IF_EQUAL, _IO_URING_SETUP, [_refuse(errno.ENOSYS)]),
        *_when(
            _IF_EQUAL,
            socket,
            [
                _step(_LOAD, _argument(0)),
                *_when(_IF_EQUAL, _AF_SMC, [_refuse(errno.EAFNOSUPPORT)]),
                _step(_LOAD, _argument(2)),
                *_when(_IF_EQUAL, _IPPROTO_MPTCP, [_refuse(errno.EPROTONOSUPPORT)]),
                *_when(_IF_EQUAL, _IPPROTO_SMC, [_refuse(errno.EPROTONOSUPPORT)]),
                _step(_RETURN, _ALLOW),
            ],
        ),
        *_when(_IF_EQUAL, sendto, _without_fast_open(3)),
        *_when(_IF_EQUAL, sendmsg, _without_fast_open(2)),
        *_when(_IF_EQUAL, sendmmsg, _without_fast_open(3)),
        _step(_RETURN, _ALLOW),
    ]


def _without_fast_open(argument: int) -> list[bytes]:
    return [
        _step(_LOAD, _argument(argument)),
        *_when(_IF_ANY_BIT, _MSG_FASTOPEN, [_refuse(errno.EOPNOTSUPP)]),
        _step(_RETURN, _ALLOW),
    ]


def _when(comparison: int, value: int, then: list[bytes]) -> list[bytes]:
    return [_step(comparison, value, skip_else=len(then)), *then]


def _refuse(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)


def _argument(index: int) -> int:
    return _ARGUMENTS + 8 * index


def _step(code: int, value: int, *, skip_if: int = 0, skip_else: int = 0) -> bytes:
    return struct.pack("=HBBI", code, skip_if, skip_else, value)
