"""A fork server: imports modules once, then forks a process per request from what it holds.

It stands alone: only the standard library, run by its path under any Python interpreter, so that
another environment's Python can be forked too. `fork_client` is the side that asks.

`python fork_server.py CONTROL_FD OPTIONS` is given one end of a socket pair and, as JSON,
`preload`: modules, or `module:function` to call, where `.module` is one beside this file;
`parent`: the process whose end is the launcher's too, unless it is 0; `preparation`: what
`isolation.Preparation.from_json` reads, or nothing. Every message on the control socket hands over
a channel. For each channel a guardian is forked, which reads one request from it with the
descriptors of the new process (its 0, 1, 2 and so on), forks the process and watches over it:

- it reports `{"pid": …}`, or `{"error": …}` when it could not be started; then `{"status": …}` when
  the process has ended (minus the number of a signal); then `{"gone": true}` when all that the
  process started has ended too. When the process ended by itself, what it left running
  has a moment to do so; `left` then counts by name what did not, which is killed: of many processes
  some go without a name, under "";
- `{"signal": …}` on the channel is sent to the process's group;
- when the channel or the launcher is gone, everything is killed.

Guardians are subreapers: whatever a process starts, in new sessions or by double forks, stays
below its guardian. Nothing here has threads, and nobody but the forked process runs foreign code.

A request has `env`, `cwd` and either `argv`, a program to become, or `target`, a function
`module:name` to call with `arguments` as `sys.argv`; then `python`, which may be left out, is the
program that it takes itself for, and a folder of packages that come before those of the launcher.
`limits` are resource limits by their names without RLIMIT_, `isolation` is what
`isolation.Isolation.from_json` reads, `niceness` lowers the priority; all may be left out.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

MESSAGE_BYTES = 1 << 20
_MAX_DESCRIPTORS = 16
_KILL_SECONDS = 10.0
_LEFT_SECONDS = 0.3
_TERMINATED_SECONDS = 0.2
_MOST_NAMED = 100


class _Launcher:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._guardians: set[int] = set()
        self._wake = _wake_on_children()

    def serve(self) -> None:
        """Fork a guardian for every channel that comes; return when nobody can ask any more."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._wake in ready:
                _drain(self._wake)
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
            _guard_and_exit(descriptor, parent, (self._control.detach(), self._wake))
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
            for pid in descendants(os.getpid(), besides=self._guardians):
                _kill(pid)

    def end(self) -> None:
        """Kill everything: guardians first, whose processes then come to this one."""
        for pid in self._guardians:
            # Not by SIGKILL: a guardian ends its processes faster than they could be found here.
            _kill(pid, signal.SIGTERM)
        kill_all(grace=1.0)


class _Forked:
    """A process that shares all with its guardian: as `isolation.Kernel`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def end(self) -> None:
        """There is nothing beside its descendants."""


def _fork(isolation: dict[str, Any] | None) -> Any:
    """The forked process as its guardian sees it; None in the process itself."""
    if isolation is None:
        pid = os.fork()
        return _Forked(pid) if pid else None
    module = _isolation()
    try:
        return module.fork(module.Isolation.from_json(isolation))
    except module.IsolationError as error:
        raise RuntimeError(str(error)) from error


def _isolation() -> Any:
    return _beside("isolation")


def _beside(module_name: str) -> Any:
    """A module beside this file, which need not be a package that this interpreter knows."""
    name = f"nbledger_kernel_{module_name}"
    if name not in sys.modules:
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{module_name}.py")  # noqa: PTH100, PTH118, PTH120
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None  # noqa: S101 - there is a path
        assert spec.loader is not None  # noqa: S101
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


_prctl = _beside("prctl")


class _Guardian:
    """Watches over one process and all that it starts."""

    def __init__(self, channel: socket.socket, wake: int) -> None:
        self._channel = channel
        self._wake = wake
        self._pid = 0
        self._status = -1

    def run(self) -> None:
        """Start the process that the channel asks for; return when all of it has ended."""
        message, descriptors, _, _ = socket.recv_fds(self._channel, MESSAGE_BYTES, _MAX_DESCRIPTORS)
        if not message:
            return
        request = json.loads(message)
        guardian = os.getpid()
        begun, begins = os.pipe()
        # The new process must not take this one's handlers for its own.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        try:
            kernel = _fork(request.get("isolation"))
        except (OSError, RuntimeError) as error:
            self._tell({"error": str(error)})
            return
        if kernel is None:
            self._channel.detach()
            become(request, descriptors, guardian, begins)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        os.close(begins)
        # From here on it has a group that signals can be sent to.
        os.read(begun, 1)
        os.close(begun)
        self._pid = kernel.pid
        for descriptor in descriptors:
            os.close(descriptor)
        self._tell({"pid": self._pid})
        left = self._wait_for_rest(kernel) if self._watch() else {}
        kernel.end()
        kill_all()
        self._tell({"gone": True, "left": left})

    def _wait_for_rest(self, kernel: Any) -> dict[str, int]:
        """Wait a moment for what the process left running; counts by name what has not ended."""
        ends = time.monotonic() + _LEFT_SECONDS
        counts: dict[str, int] = {}
        asked = False
        while True:
            _reap_all()
            left = descendants(os.getpid())
            left = [pid for pid in left if pid != getattr(kernel, "init", None)]
            if not left:
                return counts
            if time.monotonic() >= ends:
                if asked:
                    return counts
                asked = True
                ends += _TERMINATED_SECONDS
                for place, pid in enumerate(left):
                    name = _name(pid) if place < _MOST_NAMED else ""
                    if name is not None:
                        counts[name] = counts.get(name, 0) + 1
                for pid in left:
                    _kill(pid, signal.SIGTERM)
            time.sleep(0.01)

    def _watch(self) -> bool:
        """Return when the process has ended, or nobody wants it any more.

        Whether it has ended by itself.
        """
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._wake in ready:
                _drain(self._wake)
                if self._reap():
                    return self._status >= 0
            if self._channel.fileno() in ready:
                try:
                    message = self._channel.recv(MESSAGE_BYTES)
                except ConnectionError:
                    return False
                if not message:
                    return False
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._pid, json.loads(message)["signal"])

    def _reap(self) -> bool:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self._pid:
                self._status = os.waitstatus_to_exitcode(status)
                self._tell({"status": self._status})
                return True

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._channel.send(json.dumps(message).encode(), socket.MSG_NOSIGNAL)


def _guard_and_exit(descriptor: int, parent: int, close: tuple[int, ...]) -> NoReturn:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for each in close:
            os.close(each)
        _prctl.die_with(parent, signal.SIGTERM)
        _prctl.prctl(_prctl.PR_SET_CHILD_SUBREAPER, 1)
        wake = _wake_on_children()
        signal.signal(signal.SIGTERM, _kill_all_and_exit)
        _Guardian(socket.socket(fileno=descriptor), wake).run()
        status = 0
    except BaseException:  # noqa: BLE001 - a forked process must not go on as its parent
        traceback.print_exc()
        kill_all()
    finally:
        os._exit(status)


def _kill_all_and_exit(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    kill_all()
    os._exit(0)


def become(request: dict[str, Any], descriptors: list[int], parent: int, begins: int) -> NoReturn:
    """Turn the forked process into the one asked for, and end with it."""
    status = 1
    try:
        os.setsid()
        _restore_signals()
        os.close(begins)
        _place(descriptors)
        if request.get("isolation") is None:
            _prctl.die_with(parent, signal.SIGKILL)
        else:
            module = _isolation()
            module.enter(module.Isolation.from_json(request["isolation"]))
        for name, value in (request.get("limits") or {}).items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
        os.nice(request.get("niceness") or 0)
        os.chdir(request.get("cwd") or "/")
        environment = request["env"]
        if "argv" in request:
            # Closed by exec or not: nothing beyond the given ones is inherited.
            os.execvpe(request["argv"][0], request["argv"], environment)  # noqa: S606
        os.environ.clear()
        os.environ.update(environment)
        _show(environment)
        _make_own()
        _take_python(*(request.get("python") or ()))
        sys.argv = list(request["arguments"])
        module, _, name = request["target"].partition(":")
        getattr(importlib.import_module(module), name)()
        status = 0
    except SystemExit as error:
        status = _exit_status(error)
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the process's own stderr
    except BaseException:  # noqa: BLE001 - a forked process must not go on as its parent
        traceback.print_exc()
    finally:
        _finish(status)


def _finish(status: int) -> NoReturn:
    """What the interpreter's end does for threads and exit hooks, without taking all apart."""
    try:
        with contextlib.suppress(Exception):  # threads that were waited for long enough
            threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
        atexit._run_exitfuncs()  # noqa: SLF001
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
    finally:
        os._exit(status)


def _exit_status(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201
    return 1


def _restore_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _place(descriptors: list[int]) -> None:
    """Make the given descriptors 0, 1, 2 and so on, and close all others."""
    count = len(descriptors)
    # First out of the way, so that none is overwritten before it is moved.
    moved = [os.dup(descriptor) if descriptor < count else descriptor for descriptor in descriptors]
    for number, descriptor in enumerate(moved):
        if descriptor < count:
            moved[number] = _above(descriptor, count)
    for number, descriptor in enumerate(moved):
        os.dup2(descriptor, number)
    os.closerange(count, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _above(descriptor: int, least: int) -> int:
    import fcntl  # noqa: PLC0415

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, least)


def _show(environment: dict[str, str]) -> None:
    """Let the system show the new values where it shows those that the launcher was started with.

    Others look there to find the processes of a run. Only values as long as the old ones fit.
    """
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    if not start < end:
        return
    offset = 0
    for entry in ctypes.string_at(start, end - start).split(b"\0"):
        name, _, old = entry.partition(b"=")
        new = os.fsencode(environment.get(os.fsdecode(name), ""))
        if new and len(new) == len(old):
            ctypes.memmove(start + offset + len(name) + 1, new, len(new))
        offset += len(entry) + 1


def _take_python(executable: str = "", packages: str = "") -> None:
    """Be as a process of that interpreter, which has the same base and a folder of its own."""
    if not executable:
        return
    sys.executable = executable
    if "multiprocessing.spawn" in sys.modules:
        sys.modules["multiprocessing.spawn"].set_executable(executable)
    first = (
        n for n, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages"))
    )
    sys.path.insert(next(first, len(sys.path)), packages)


def _make_own() -> None:
    """Give up what forked processes must not share: random states, a secret, a folder's name."""
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "multiprocessing.process" in sys.modules:
        # What lets others in to managers and listeners.
        process = sys.modules["multiprocessing.process"].current_process()
        process.authkey = os.urandom(32)
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]
    time.tzset()


def kill_all(*, grace: float = 0.0) -> None:
    """Kill every descendant of this process, which is their subreaper, and wait for their ends."""
    begun = time.monotonic()
    while time.monotonic() - begun < _KILL_SECONDS:
        if not _reap_all():
            return
        if time.monotonic() - begun >= grace:
            for pid in descendants(os.getpid()):
                _kill(pid)
        time.sleep(0.002)


def _reap_all() -> bool:
    """Wait for all that have ended; whether there are children left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _name(pid: int) -> str | None:
    """What the process is called; `None` where it has ended."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return None


def descendants(root: int, *, besides: set[int] = frozenset()) -> list[int]:  # type: ignore[assignment]
    """Pids of all processes below `root`, without those below `besides`."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    # After the name, which may hold anything: state, parent.
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    pending = [root]
    while pending:
        below = [pid for pid in children.get(pending.pop(), ()) if pid not in besides]
        found += below
        pending += below
    return found


def _kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _wake_on_children() -> int:
    """A descriptor that becomes readable when a child has ended."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read


def _drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass


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
                _beside(module[1:]) if module.startswith(".") else importlib.import_module(module)
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
        _prctl.die_with(options["parent"], signal.SIGKILL)
    _prctl.prctl(_prctl.PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if options.get("preparation"):
        module = _isolation()
        module.prepare(module.Preparation.from_json(options["preparation"]))
    failed = _preload(options["preload"])
    gc.collect()
    gc.freeze()
    launcher = _Launcher(control)
    # Libraries of numbers have threads, which they end when they are forked the first time.
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    ready = {"ready": True, "failed": failed, "threads": threads()}
    with contextlib.suppress(OSError):
        control.send(json.dumps(ready).encode(), socket.MSG_NOSIGNAL)
        launcher.serve()
    launcher.end()


if __name__ == "__main__":
    main()
