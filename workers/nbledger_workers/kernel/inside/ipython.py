"""What the service adds to an IPython kernel; runs inside it, before the first cell.

- All output of a cell is published before its reply, and no cell is left without a reply
  (`streams`); a kernel whose own descriptors are gone ends itself, since nobody hears it any more.
- Each reply tells what the kernel's orderly end would still have to do, which tasks are pending,
  and by which status the cell, or a task beside it (`program_end`), has ended the program. It has
  a mark that is in the `idle` which follows, made with a key: what a cell sends in the kernel's
  name has none.
- The orderly end (`orderly_end`) tells when all output has been sent.
"""

# Kernels have no public way to any of this.
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
import contextlib
import hmac
import inspect
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from nbledger_workers.kernel.inside.descriptors import DescriptorGuard
from nbledger_workers.kernel.inside.members import (
    BROKEN_STATUS,
    END_MEMBER,
    EXIT_MEMBER,
    FAREWELL_MEMBER,
    LATE_MEMBER,
    RAN_MEMBER,
    REPLY_MEMBER,
    TASKS_MEMBER,
    THREAD_SECONDS_MEMBER,
    UNFINISHED_MEMBER,
)
from nbledger_workers.kernel.inside.orderly_end import OrderlyEnd, bound_threads, write_out
from nbledger_workers.kernel.inside.program_end import ProgramEnd
from nbledger_workers.kernel.inside.streams import Streams
from nbledger_workers.kernel.inside.tasks import pending_tasks
from nbledger_workers.kernel.inside.texts import pack_any_text, text_of

_MOST_STATUS = 1 << 31
_MOST_CHARACTERS = 100_000


def install(shell: Any, key: str) -> None:
    """Take part in what the kernel of this shell does; `key` makes the marks of its replies."""
    _Prepared(shell, key).install()


class _Prepared:
    """One kernel, prepared."""

    def __init__(self, shell: Any, key: str) -> None:
        self._shell = shell
        self._kernel = shell.kernel
        # Not kept as text, which a cell would find among the kernel's objects at once.
        self._sign = hmac.new(key.encode(), digestmod="sha256").copy
        self._pid = os.getpid()
        self._guard = DescriptorGuard()
        self._streams = Streams(self._guard)
        # Of the cell whose reply is made, until the kernel says that it is idle.
        self._end: str | None = None
        self._marks = False
        self._program = ProgramEnd(shell)
        # What has ended the program, of the cell whose reply is made, and whether that cell ran.
        self._ended_by: BaseException | None = None
        self._ran = True
        # What whoever asked for the orderly end is to be told at last.
        self._farewell: str | None = None
        self._orderly_end = OrderlyEnd(shell, self._guard, self._streams)

    def install(self) -> None:
        """Take part in what the kernel does."""
        kernel = self._kernel
        execute, shut_down = kernel.do_execute, kernel.do_shutdown

        async def do_execute(*arguments: Any, **options: Any) -> Any:
            self._guard.begin()
            self._end, self._streams.late = None, False
            before = getattr(self._shell, "last_execution_result", None)
            self._ended_by, self._ran = None, not self._program.noted
            content: Any = {"execution_count": None}
            if self._ran:
                self._program.begin()
                try:
                    content = await self._executed(lambda: execute(*arguments, **options))
                finally:
                    self._program.conclude()
            return self._settled(content or {}, before)

        async def do_shutdown(*arguments: Any, **options: Any) -> Any:
            self._program.ending = True
            self._begin_end()
            content = shut_down(*arguments, **options)
            return await content if inspect.isawaitable(content) else content

        async def leave_children() -> None:
            """Whoever started the kernel ends them, after its exit hooks."""

        show_traceback = self._shell._showtraceback

        def _showtraceback(*arguments: Any) -> None:
            # It flushes the streams first, and publishes nothing where that fails.
            self._streams.check()
            if self._program.noted and arguments[:1] == (asyncio.CancelledError,):
                # Not the notebook's: the reply tells what has ended the program.
                return
            show_traceback(*arguments)

        self._shell._showtraceback = _showtraceback
        pack_any_text(kernel.session)
        kernel.do_execute = do_execute
        kernel.do_shutdown = do_shutdown
        kernel._progressively_terminate_all_children = leave_children
        self._program.install()
        self._mark_idle()
        self._make_pipe_of_publisher()
        self._orderly_end.register(self._let_go)

    async def _executed(self, execute: Callable[[], Any]) -> Any:
        """What the kernel replies to a cell, an error where it fails."""
        try:
            content = execute()
            return await content if inspect.isawaitable(content) else content
        except (asyncio.CancelledError, GeneratorExit):
            if not self._program.noted:
                raise
            return {}
        except BaseException as error:  # noqa: BLE001 - or no reply would go out
            # Also SystemExit of a hook that runs beside the cell.
            return self._failed({}, error)

    def _make_pipe_of_publisher(self) -> None:
        """Have the thread that publishes make what it would make at its first output.

        Then a cell that takes all descriptors there are can still tell of it.
        """
        with contextlib.suppress(Exception):
            thread = self._kernel.iopub_socket.io_thread
            thread.io_loop.add_callback(lambda: thread._event_pipe)

    # The end of a cell

    def _mark_idle(self) -> None:
        """Have the mark of a reply in the status that follows it."""
        kernel = self._kernel
        publish = getattr(kernel, "_publish_status", None)
        if publish is None or list(inspect.signature(publish).parameters) != [
            "status",
            "channel",
            "parent",
        ]:
            return

        def _publish_status(status: str, channel: str, parent: Any = None) -> None:
            if self._end is None or (status, channel) != ("idle", "shell"):
                publish(status, channel, parent)
                return
            mark, self._end = self._end, None
            content: dict[str, Any] = {"execution_state": status, REPLY_MEMBER: mark}
            if self._streams.late:
                content[LATE_MEMBER] = True
            kernel.session.send(
                kernel.iopub_socket,
                "status",
                content,
                parent=parent or kernel.get_parent(channel),
                ident=kernel._topic("status"),
            )

        kernel._publish_status = _publish_status
        self._marks = True

    def _mark(self) -> str | None:
        """The mark of the reply to the request under way: nobody without the key can make it."""
        with contextlib.suppress(Exception):
            request = self._kernel.get_parent("shell")["header"]["msg_id"]
            signing = self._sign()
            signing.update(request.encode())
            return str(signing.hexdigest())
        return None

    def _settled(self, content: dict[str, Any], before: object) -> dict[str, Any]:
        """What is replied, when all that the cell has written is published.

        `before` is what the shell had as its last result when the cell began.
        """
        if os.getpid() != self._pid:
            _leave_fork(content)
        if self._guard.lost():
            self._give_up()
        try:
            content = self._ended(content)
            error = self._streams.check()
            if error is not None:
                content = self._failed(content, error)
            with _no_interrupt():
                self._streams.publish()
                self._end = self._mark() if self._marks else None
                content[REPLY_MEMBER] = self._told(content, before)
        except BaseException as error:  # noqa: BLE001
            content = self._failed(content, error)
        return self._sendable(content)

    def _ended(self, content: dict[str, Any]) -> dict[str, Any]:
        """The content of a reply that tells what has ended the program, where something has.

        An error of the cell itself goes before: then the next cell tells it.
        """
        if content.get("status") == "error" and content.get("ename") != "CancelledError":
            return content
        error = self._ended_by = self._program.take()
        if error is None:
            return content
        return self._failed({**content, "status": "ok"}, error)

    def _sendable(self, content: dict[str, Any]) -> dict[str, Any]:
        """The content, or what can be sent of it where a cell has put into it what cannot."""
        try:
            self._kernel.session.pack(content)
        except BaseException as error:  # noqa: BLE001
            count = self._shell.execution_count
            sound = {"execution_count": count if type(count) is int else 0, "payload": []}
            told = content.get(REPLY_MEMBER)
            return {**self._failed({}, error), **sound, REPLY_MEMBER: told}
        return content

    def _told(self, content: dict[str, Any], before: object) -> dict[str, Any]:
        """What a reply tells beside what the protocol has."""
        result = getattr(self._shell, "last_execution_result", None)
        status = exit_status(self._ended_by)
        if self._ended_by is None and content.get("status") == "error" and result is not before:
            status = exit_status(getattr(result, "error_in_exec", None))
        count, names = pending_tasks()
        try:
            unfinished = self._orderly_end.unfinished()
        except BaseException:  # noqa: BLE001 - of an object of the notebook's own
            unfinished = ["objects that cannot be looked at"]
        return {
            UNFINISHED_MEMBER: unfinished,
            EXIT_MEMBER: status,
            RAN_MEMBER: self._ran,
            TASKS_MEMBER: {"count": count, "names": names},
            END_MEMBER: self._end,
        }

    def _failed(self, content: dict[str, Any], error: BaseException) -> dict[str, Any]:
        """The content of a reply that tells of this error, unless it tells of another one."""
        if content.get("status") == "error":
            return content
        told = {
            "ename": type(error).__name__,
            "evalue": text_of(error, _MOST_CHARACTERS),
            "traceback": _described(error),
        }
        with contextlib.suppress(BaseException):
            # What the cell has written before comes before.
            self._streams.publish_all()
        with contextlib.suppress(BaseException):
            self._kernel.send_response(self._kernel.iopub_socket, "error", told)
        count = content.get("execution_count", getattr(self._kernel, "execution_count", 0))
        return {
            **content,
            "status": "error",
            **told,
            "execution_count": count,
            "user_expressions": {},
            "payload": content.get("payload", []),
        }

    def _give_up(self) -> NoReturn:
        """End: what the kernel would send reaches nobody."""
        write_out()
        os._exit(BROKEN_STATUS)

    # The end of the kernel

    def _begin_end(self) -> None:
        """Take what the request to shut down asks for."""
        with contextlib.suppress(Exception):
            content = self._kernel.get_parent("shell")["content"]
            farewell = content.get(FAREWELL_MEMBER)
            self._farewell = farewell if isinstance(farewell, str) else None
            bound_threads(float(content.get(THREAD_SECONDS_MEMBER) or 0))

    def _let_go(self) -> None:
        if os.getpid() != self._pid:
            return
        self._orderly_end.let_go()
        if self._farewell is not None:
            # Whoever does not hear it takes it that output is missing.
            with contextlib.suppress(Exception):
                self._say_farewell(self._farewell)

    def _say_farewell(self, farewell: str) -> None:
        """Publish all output that is still buffered, and then that this was all."""
        self._streams.publish_all()
        kernel = self._kernel
        publisher = kernel.iopub_socket.io_thread
        # ipykernel drops what its reader has not taken a second later.
        publisher.schedule(lambda: setattr(publisher.socket, "linger", -1))
        kernel.session.send(
            kernel.iopub_socket,
            "status",
            {"execution_state": "dead", REPLY_MEMBER: farewell},
            ident=kernel._topic("status"),
        )
        self._streams.wait()


def exit_status(error: BaseException | None) -> int | None:
    """The status by which this error ends a program; None of what is no SystemExit.

    As Python has it: None is 0, a whole number itself, and anything else, text too, is 1.
    """
    if not isinstance(error, SystemExit):
        return None
    try:
        code: Any = error.code
        if code is None:
            return 0
        # As its C value is: a class of the notebook's own may tell other numbers.
        number = int.__index__(code) if issubclass(type(code), int) else 1
        return max(min(number, _MOST_STATUS), -_MOST_STATUS)
    except BaseException:  # noqa: BLE001 - of a class of the notebook's own
        return 1


def _described(error: BaseException) -> list[str]:
    try:
        return traceback.format_exception_only(type(error), error)
    except BaseException:  # noqa: BLE001 - of a class of the notebook's own
        return []


def _leave_fork(content: dict[str, Any]) -> NoReturn:
    """End a child that a cell forked and that came to the cell's end, as it would a script's.

    It has the parent's event loop and sockets in its hands, and would take the parent's messages.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0 if content.get("status") == "ok" else 1)


@contextlib.contextmanager
def _no_interrupt() -> Any:
    """An interrupt that comes when the cell is over must not cost its reply."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # another thread than the main one, which gets no signal
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
