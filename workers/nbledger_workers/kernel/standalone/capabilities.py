"""Capabilities of the calling process; standard library only."""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING or __package__:
    from nbledger_workers.kernel.standalone import prctl, system_calls
    from nbledger_workers.kernel.standalone.beside import beside
else:
    prctl, system_calls = map(beside, ("prctl", "system_calls"))

_PR_CAPBSET_DROP: Final = 24
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAP_SYS_PTRACE: Final = 19
_CAP_SYS_ADMIN: Final = 21


def may_administer() -> bool:
    """Whether the calling process has CAP_SYS_ADMIN."""
    held = ctypes.create_string_buffer(24)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if system_calls.libc().capget(header, held) != 0:
        return False
    effective: int = struct.unpack("=6I", held.raw)[0]
    return bool(effective >> _CAP_SYS_ADMIN & 1)


def take_all() -> None:
    """Use all capabilities that the process may have.

    An init keeps CAP_SYS_PTRACE over its exec, so that no kernel, having none, can trace it.
    """
    _set_capabilities(every=True)
    system_calls.check(
        prctl.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_SYS_PTRACE), "ambient capability"
    )


def drop_bounding_set() -> None:
    """Have no program that is started from now on get any."""
    capability = 0
    # Refused without the right to it, and after the last one that the system knows.
    while prctl.prctl(_PR_CAPBSET_DROP, capability) == 0:
        capability += 1


def drop_all() -> None:
    """Have none any more."""
    prctl.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(every=False)


def _set_capabilities(*, every: bool) -> None:
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if every:
        held = ctypes.create_string_buffer(24)
        system_calls.check(system_calls.libc().capget(header, held), "capabilities")
        low, low_may, _, high, high_may, _ = struct.unpack("=6I", held.raw)
        data = struct.pack("=6I", low, low_may, low_may, high, high_may, high_may)
    else:
        data = struct.pack("=6I", 0, 0, 0, 0, 0, 0)
    system_calls.check(system_calls.libc().capset(header, data), "capabilities")
