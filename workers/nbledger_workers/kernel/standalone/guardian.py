"""Watches over one forked process and all that it starts; standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING or __package__:
    from nbledger_workers.kernel.standalone import descendants, forked_process, prctl
    from nbledger_workers.kernel.standalone.beside import beside
else:
    descendants, forked_process, prctl = map(
        beside,
        ("descendants", "forked_process", "prctl"),
    )

#: The longest message on a channel.
MESSAGE_BYTES = 1 << 20

_MAX_DESCRIPTORS = 16
_LEFT_SECONDS = 0.3
_TERMINATED_SECONDS = 0.2
_MOST_NAMED = 100


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
    module = beside("isolation")
    try:
        return module.fork(module.Isolation.from_json(isolation))
    except beside("system_calls").IsolationError as error:
        raise RuntimeError(str(error)) from error


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
            forked_process.become(request, descriptors, guardian, begins)
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
        descendants.kill_all()
        self._tell({"gone": True, "left": left})

    def _wait_for_rest(self, kernel: Any) -> dict[str, int]:
        """Wait a moment for what the process left running; counts by name what has not ended."""
        ends = time.monotonic() + _LEFT_SECONDS
        counts: dict[str, int] = {}
        asked = False
        while True:
            descendants.reap_all()
            left = descendants.below(os.getpid())
            left = [pid for pid in left if pid != getattr(kernel, "init", None)]
            if not left:
                return counts
            if time.monotonic() >= ends:
                if asked:
                    return counts
                asked = True
                ends += _TERMINATED_SECONDS
                for place, pid in enumerate(left):
                    name = descendants.name_of(pid) if place < _MOST_NAMED else ""
                    if name is not None:
                        counts[name] = counts.get(name, 0) + 1
                for pid in left:
                    descendants.kill(pid, signal.SIGTERM)
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
                descendants.drain(self._wake)
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


def guard_and_exit(descriptor: int, parent: int, close: tuple[int, ...]) -> NoReturn:
    """Be the guardian of the process that the channel with this descriptor asks for."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for each in close:
            os.close(each)
        prctl.die_with(parent, signal.SIGTERM)
        prctl.prctl(prctl.PR_SET_CHILD_SUBREAPER, 1)
        wake = descendants.wake_on_children()
        signal.signal(signal.SIGTERM, _kill_all_and_exit)
        _Guardian(socket.socket(fileno=descriptor), wake).run()
        status = 0
    except BaseException:  # noqa: BLE001 - a forked process must not go on as its parent
        traceback.print_exc()
        descendants.kill_all()
    finally:
        os._exit(status)


def _kill_all_and_exit(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    descendants.kill_all()
    os._exit(0)
