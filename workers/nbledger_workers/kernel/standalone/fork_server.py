"""A fork server: imports modules once, then forks a process for each request.

It stands alone: only the standard library, run by its path under any Python interpreter, so that
another environment's Python can be forked too. `fork_client` is the side that asks.

`python fork_server.py CONTROL_FD OPTIONS` is given one end of a socket pair and, as JSON,
`preload`: modules, or `module:function` to call, where `.module` is one beside this file;
`parent`: the process whose end is the server's too, unless it is 0; `preparation`: what
`isolation.Preparation.from_json` reads, or nothing. Every message on the control socket hands over
a channel. For each channel a guardian is forked, which reads one request from it with the
descriptors of the new process (its 0, 1, 2 and so on), forks the process and watches over it:

- it reports `{"pid": …}`, or `{"error": …}` when it could not be started; then `{"status": …}` when
  the process has ended (minus the number of a signal); then `{"gone": true}` when all that the
  process started has ended too. When the process ended by itself, what it left running
  has a moment to do so; `left` then counts by name what did not, which is killed: of many processes
  some go without a name, under "";
- `{"signal": …}` on the channel is sent to the process's group;
- when the channel or the server is gone, everything is killed.

Guardians are subreapers: whatever a process starts, in new sessions or by double forks, stays
below its guardian. Nothing here has threads, and nobody but the forked process runs foreign code.

A request has `env`, `cwd` and either `argv`, a program to become, or `target`, a function
`module:name` to call with `arguments` as `sys.argv`; then `python`, which may be left out, is the
program that it takes itself for, and a folder of packages that come before those of the server.
`limits` are resource limits by their names without RLIMIT_, `isolation` is what
`isolation.Isolation.from_json` reads, `niceness` lowers the priority; all may be left out.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from nbledger_workers.kernel.standalone import descendants, guardian, prctl
    from nbledger_workers.kernel.standalone.beside import beside
else:
    # Run by its path.
    beside = runpy.run_path(str(Path(__file__).resolve().with_name("beside.py")))["beside"]
    descendants, guardian, prctl = map(beside, ("descendants", "guardian", "prctl"))


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._guardians: set[int] = set()
        self._wake = descendants.wake_on_children()

    def serve(self) -> None:
        """Fork a guardian for every channel that comes; return when nobody can ask any more."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._wake in ready:
                descendants.drain(self._wake)
                self._reap()
            if self._control.fileno() in ready:
                message, descriptors, _, _ = socket.recv_fds(self._control, 64, 1)
                if not message:
                    return
                for descriptor in descriptors:
                    self._fork(descriptor)

    def _fork(self, descriptor: int) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            guardian.guard_and_exit(descriptor, parent, (self._control.detach(), self._wake))
        os.close(descriptor)
        self._guardians.add(pid)

    def _reap(self) -> None:
        """Forget guardians that ended; end what one that was killed left to us."""
        strangers = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            strangers |= pid not in self._guardians or status != 0
            self._guardians.discard(pid)
        if strangers:
            for pid in descendants.below(os.getpid(), besides=self._guardians):
                descendants.kill(pid)

    def end(self) -> None:
        """Kill everything: guardians first, whose processes then come to this one."""
        for pid in self._guardians:
            # Not by SIGKILL: a guardian ends its processes faster than they could be found here.
            descendants.kill(pid, signal.SIGTERM)
        descendants.kill_all(grace=1.0)


def threads() -> int:
    """How many threads the system sees in this process."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208


def _preload(modules: list[str]) -> dict[str, str]:
    """Import what is there; why the rest is not."""
    failed = {}
    for name in modules:
        module, _, function = name.partition(":")
        try:
            loaded = (
                beside(module[1:]) if module.startswith(".") else importlib.import_module(module)
            )
            if function:
                getattr(loaded, function)()
        except Exception as error:  # noqa: BLE001 - foreign modules raise anything
            failed[name] = f"{type(error).__name__}: {error}"
    return failed


def main() -> None:
    """Preload, say so on the control socket, then serve it."""
    control = socket.socket(fileno=int(sys.argv[1]))
    options = json.loads(sys.argv[2])
    # The folder of this file: its modules must not be found under their bare names.
    del sys.path[0]
    if options.get("parent"):
        prctl.die_with(options["parent"], signal.SIGKILL)
    prctl.prctl(prctl.PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if options.get("preparation"):
        module = beside("isolation")
        module.prepare(module.Preparation.from_json(options["preparation"]))
    failed = _preload(options["preload"])
    gc.collect()
    gc.freeze()
    server = _Server(control)
    # Libraries of numbers have threads, which they end when they are forked the first time.
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    ready = {"ready": True, "failed": failed, "threads": threads()}
    with contextlib.suppress(OSError):
        control.send(json.dumps(ready).encode(), socket.MSG_NOSIGNAL)
        server.serve()
    server.end()


if __name__ == "__main__":
    main()
