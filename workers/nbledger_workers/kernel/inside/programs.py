"""Programs that `!` starts in an IPython kernel; runs inside it.

They find the end of their standard input, and no terminal to ask.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import functools
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import Any

_CHUNK = 65536
_TURN_MS = 50
_LAST_MS = 5
_MOST_LAST_READS = 16
_END_SECONDS = 0.2


def replace_system() -> None:
    """Have `!` run programs by `_system`; its variables, status and errors stay IPython's."""
    for name in ("IPython.core.interactiveshell", "ipykernel.zmqshell", "IPython.utils.process"):
        module: Any = sys.modules.get(name)
        handler: Any = getattr(getattr(module, "system", None), "__self__", None)
        if handler is not None:
            module.system = functools.partial(_system, handler)


def _system(handler: Any, command: str) -> int:
    """Run a command as in a terminal at whose keyboard nobody sits; its status.

    Output is a terminal's, so that programs write it as they do for people. Input is at its end,
    and there is no terminal that a program could open to ask for a password.
    """
    ours, theirs = os.openpty()
    try:
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
            process = subprocess.Popen(
                [handler.sh, "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        try:
            _show_until_end(ours, process)
            status = process.wait()
        except KeyboardInterrupt:
            status = _end(ours, process)
    finally:
        os.close(ours)
    return 128 - status if status > 128 else status


def _show_until_end(source: int, process: subprocess.Popen[bytes]) -> None:
    """Print what the program writes until it has ended; what it has left running may write on."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    poll = select.poll()
    poll.register(source, select.POLLIN)
    last_reads = 0
    while last_reads < _MOST_LAST_READS:
        # First: what it has written until then is there to be read.
        ended = process.poll() is not None
        last_reads += ended
        if not poll.poll(_LAST_MS if ended else _TURN_MS):
            if ended:
                break
            continue
        try:
            data = os.read(source, _CHUNK)
        except OSError:  # nobody has it open any more
            break
        print(decoder.decode(data), end="")  # noqa: T201
        sys.stdout.flush()


def _end(source: int, process: subprocess.Popen[bytes]) -> int:
    """Interrupt a program, as somebody at the keyboard does; end it where it does not heed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        until = time.monotonic() + _END_SECONDS
        with contextlib.suppress(KeyboardInterrupt):
            while process.poll() is None and time.monotonic() < until:
                if select.select([source], [], [], _TURN_MS / 1000)[0]:
                    with contextlib.suppress(OSError):
                        print(os.read(source, _CHUNK).decode(errors="replace"), end="")  # noqa: T201
        if process.poll() is not None:
            break
    return process.wait()
