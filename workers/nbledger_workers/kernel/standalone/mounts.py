"""Mounts in a namespace of the calling process's own; standard library only."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING or __package__:
    from nbledger_workers.kernel.standalone import system_calls
    from nbledger_workers.kernel.standalone.beside import beside
else:
    system_calls = beside("system_calls")

_MS_RDONLY: Final = 1
_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_NOEXEC: Final = 8
_MS_REMOUNT: Final = 32
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_SLAVE: Final = 0x80000
_READ_ONLY: Final = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV

# The same number on every architecture, as for all system calls since 5.1.
_SYS_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MOUNT_ATTR_RDONLY: Final = 1


def follow_system() -> None:
    """Have what is unmounted outside not stay mounted here."""
    _mount("", "/", "", _MS_REC | _MS_SLAVE)


def mount_proc() -> None:
    """Mount a /proc of the process's own PID namespace."""
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def mount_memory(place: str, *, size: int = 0) -> None:
    """Mount a file system in memory that everybody may write; of so many bytes, if not 0."""
    bound = f",size={size}" if size else ""
    _mount("tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NODEV, f"mode=1777{bound}")


def cover(
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
        mount_memory(place)
    else:
        _mount(source, place, "", _MS_BIND)


def _hide(place: str) -> bool:
    """Cover it by nothing; whether it is a folder, in which one may still make mount points."""
    if Path(place).is_dir():
        _mount("tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0711,size=1m")
        return True
    _mount(os.devnull, place, "", _MS_BIND)
    return False


def existing(paths: Sequence[str]) -> set[str]:
    """Those of the paths at which something is, resolved."""
    return {str(Path(path).resolve()) for path in paths if Path(path).exists()}


def _innermost(place: str, covering: Mapping[str, bool]) -> bool:
    """What holds of the innermost of some places in which this one lies."""
    around = map(str, Path(place).parents)
    return next((covering[path] for path in around if path in covering), False)


def _make_mount_point(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise system_calls.IsolationError(f"{path}: {error.strerror}") from error


def set_read_only(place: str, *, on: bool, recursive: bool) -> None:
    """Let nobody write to the mount at a place, or let everybody again."""
    attributes = struct.pack(
        "=4Q", _MOUNT_ATTR_RDONLY if on else 0, 0 if on else _MOUNT_ATTR_RDONLY, 0, 0
    )
    result = system_calls.libc().syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        os.fsencode(place),
        ctypes.c_uint(_AT_RECURSIVE if recursive else 0),
        attributes,
        ctypes.c_size_t(len(attributes)),
    )
    system_calls.check(result, f"read-only file system at {place}")


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = system_calls.libc().mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    system_calls.check(result, f"mount at {target}")
