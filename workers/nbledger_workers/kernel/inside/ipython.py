"""What the service adds to an IPython kernel; runs inside it, before the first cell.

Its text is sent to the kernel by `preparation`. The kernel's Python need not know this package:
standard library only, and nothing here may fail where IPython or ipykernel are of other versions.

- What is written to descriptors 1 and 2, by `sys.__stdout__`, C libraries and child processes, is
  published before the cell that wrote it ends.
- Nothing that a cell does to its standard streams or descriptors leaves it without a reply; a
  kernel whose own descriptors are gone ends itself, since nobody hears it any more.
- Each reply tells what the kernel's orderly end would still have to do, and has a mark that is in
  the `idle` which follows. It is made with a key: what a cell sends in the kernel's name has none.
- The orderly end does not wait for ever for threads, writes out what is still buffered, and tells
  when all output has been sent.
"""

# Kernels have no public way to any of this.
# ruff: noqa: SLF001

from __future__ import annotations

import atexit
import codecs
import contextlib
import ctypes
import fcntl
import gc
import hmac
import inspect
import io
import os
import select
import signal
import stat
import struct
import sys
import termios
import threading
import traceback
import weakref
from typing import Any, NoReturn

#: Status of a kernel that has lost descriptors it cannot do without.
BROKEN_STATUS = 113
#: Member of a reply's content.
REPLY_MEMBER = "nbledger"
#: Member of that: a mark of the end of the cell.
END_MEMBER = "end"
#: Member of a request to shut down: seconds that threads have to end.
THREAD_SECONDS_MEMBER = "threadSeconds"
#: Member of that: what the kernel publishes as `REPLY_MEMBER` of a last status, after all output.
FAREWELL_MEMBER = "farewell"

_NAMES = {0: "standard input", 1: "standard output", 2: "standard error"}
_CHUNK = 65536
_MOST_TOLD = 5
_FIRST_OWN = 64


class _Redirected:
    """Text that comes by descriptor 1 or 2, taken into the stream of the same name.

    It takes the place of the thread that ipykernel has for it, which nobody can wait for.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._read_end: int = stream._fid
        self._copy: int = stream._original_stdstream_copy
        self._lock = threading.Lock()
        # A character may come in two pieces.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        stream._should_watch = False
        os.write(stream._original_stdstream_fd, b"\0")
        stream.watch_fd_thread.join()
        stream._should_watch = True
        thread = threading.Thread(target=self._watch, name=f"{stream.name} by descriptor")
        thread.daemon = True
        stream.watch_fd_thread = thread
        thread.start()

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        with contextlib.suppress(Exception):
            while poll.poll()[0][1] & select.POLLIN and self._stream._should_watch:
                self.take()

    def take(self, *, last: bool = False) -> None:
        """Take what has been written by now; with `last` half a character, too."""
        with self._lock:
            left = struct.unpack("i", fcntl.ioctl(self._read_end, termios.FIONREAD, b"\0" * 4))[0]
            while left > 0:
                data = os.read(self._read_end, min(left, _CHUNK))
                left -= len(data)
                self._stream.write(self._decoder.decode(data))
                self._show_outside(data)
            if last and (rest := self._decoder.decode(b"", final=True)):
                self._stream.write(rest)

    def _show_outside(self, data: bytes) -> None:
        """To whoever started the kernel, for its last words; not where that must wait."""
        poll = select.poll()
        poll.register(self._copy, select.POLLOUT)
        data = data[-select.PIPE_BUF :]
        if poll.poll(0):
            os.write(self._copy, data)


class _Guard:
    """The descriptors that the kernel cannot do without, and the standard ones."""

    def __init__(self) -> None:
        self._essential: dict[int, str] = {}
        self._kept: dict[int, int] = {}
        self._files: set[int] = set()
        for number in _NAMES:
            with contextlib.suppress(OSError):
                self._kept[number] = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _FIRST_OWN)

    def begin(self) -> None:
        """Note what there is; call it when the first cell comes, and nothing is in the making."""
        if self._essential:
            return
        self._files = set(_files())
        for number in _descriptors():
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
                # Of event loops and of ZeroMQ: none of them ends before the kernel does.
                if target == "anon_inode:[eventpoll]":
                    self._essential[number] = target

    def new_files(self) -> list[str]:
        """Paths of files that are open for writing and were not."""
        return [path for number, path in _files().items() if number not in self._files]

    def lost(self) -> bool:
        """Whether something is gone that the kernel needs."""
        for number, target in self._essential.items():
            try:
                if os.readlink(f"/proc/self/fd/{number}") != target:  # noqa: PTH115
                    return True
            except OSError:
                return True
        return False

    def reopen(self) -> list[int]:
        """Open those of the standard descriptors again that are closed; which they were."""
        closed = []
        for number, copy in self._kept.items():
            try:
                os.fstat(number)
            except OSError:
                closed.append(number)
                with contextlib.suppress(OSError):
                    os.dup2(copy, number)
        return closed


class _Prepared:
    """One kernel, prepared."""

    def __init__(self, shell: Any, key: str) -> None:
        self._shell = shell
        self._kernel = shell.kernel
        # Not kept as text, which a cell would find among the kernel's objects at once.
        self._sign = hmac.new(key.encode(), digestmod="sha256").copy
        self._pid = os.getpid()
        self._folder = os.path.join(os.getcwd(), "")  # noqa: PTH109, PTH118
        self._own: dict[str, Any] = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._redirected: list[_Redirected] = []
        for stream in self._own.values():
            if getattr(stream, "_should_watch", False) and stream._fid is not None:
                self._redirected.append(_Redirected(stream))
        for stream in (sys.__stdout__, sys.__stderr__):
            # A pipe would else get nothing before it is flushed.
            with contextlib.suppress(Exception):
                stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        self._guard = _Guard()
        # Of the cell whose reply is made, until the kernel says that it is idle.
        self._end: str | None = None
        self._marks = False
        # What whoever asked for the orderly end is to be told at last.
        self._farewell: str | None = None
        self._hooks = atexit._ncallbacks()
        self._finalizers = {info.index for _, info in _finalizers()}
        self._thread_hooks = _thread_hooks()
        self._libc: Any = None
        with contextlib.suppress(Exception):
            self._libc = ctypes.CDLL(None)
            self._c_streams = [
                ctypes.c_void_p.in_dll(self._libc, name) for name in ("stdout", "stderr")
            ]

    def install(self) -> None:
        """Take part in what the kernel does."""
        kernel = self._kernel
        execute, shut_down = kernel.do_execute, kernel.do_shutdown

        async def do_execute(*arguments: Any, **options: Any) -> Any:
            self._guard.begin()
            self._end = None
            try:
                content = execute(*arguments, **options)
                if inspect.isawaitable(content):
                    content = await content
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - or no reply would go out
                content = self._failed({}, error)
            return self._settled(content or {})

        async def do_shutdown(*arguments: Any, **options: Any) -> Any:
            self._begin_end()
            content = shut_down(*arguments, **options)
            return await content if inspect.isawaitable(content) else content

        async def leave_children() -> None:
            """Whoever started the kernel ends them, after its exit hooks."""

        show_traceback = self._shell._showtraceback

        def _showtraceback(*arguments: Any) -> None:
            # It flushes the streams first, and publishes nothing where that fails.
            self._check_streams()
            show_traceback(*arguments)

        self._shell._showtraceback = _showtraceback
        kernel.do_execute = do_execute
        kernel.do_shutdown = do_shutdown
        kernel._progressively_terminate_all_children = leave_children
        self._mark_idle()
        self._make_pipe_of_publisher()
        # Run after those that notebooks register.
        atexit.register(self._let_go)
        self._hooks = atexit._ncallbacks()

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
            kernel.session.send(
                kernel.iopub_socket,
                "status",
                {"execution_state": status, REPLY_MEMBER: mark},
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

    def _settled(self, content: dict[str, Any]) -> dict[str, Any]:
        """What is replied, when all that the cell has written is published."""
        if os.getpid() != self._pid:
            _leave_fork(content)
        if self._guard.lost():
            self._give_up()
        try:
            error = self._check_streams()
            if error is not None:
                content = self._failed(content, error)
            with _no_interrupt():
                self._publish()
                self._end = self._mark() if self._marks else None
                content[REPLY_MEMBER] = {"unfinished": self._unfinished(), END_MEMBER: self._end}
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
            content = self._failed(content, error)
        return content

    def _check_streams(self) -> BaseException | None:
        """Put right what would keep the kernel from replying; the error that it is to the cell."""
        found: BaseException | None = None
        closed = self._guard.reopen()
        if closed:
            what = " and ".join(f"{_NAMES[each]} (descriptor {each})" for each in closed)
            found = OSError(f"the cell closed the kernel's {what}, which is open again now")
        for name, own in self._own.items():
            stream = getattr(sys, name, None)
            if stream is own:
                continue
            if stream is None:
                setattr(sys, name, own)
                continue
            try:
                stream.flush()
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
                found = found or error
                setattr(sys, name, own)
        return found

    def _publish(self) -> None:
        for stream in (sys.__stdout__, sys.__stderr__):
            with contextlib.suppress(Exception):
                stream.flush()  # type: ignore[union-attr]
        if self._libc is not None:
            for c_stream in self._c_streams:
                self._libc.fflush(c_stream)
        for redirected in self._redirected:
            with contextlib.suppress(Exception):
                redirected.take(last=True)
        for name, own in self._own.items():
            # The others are flushed by ipykernel, next.
            if getattr(sys, name, None) is not own:
                own.flush()

    def _failed(self, content: dict[str, Any], error: BaseException) -> dict[str, Any]:
        """The content of a reply that tells of this error, unless it tells of another one."""
        if content.get("status") == "error":
            return content
        told = {
            "ename": type(error).__name__,
            "evalue": str(error),
            "traceback": traceback.format_exception_only(type(error), error),
        }
        with contextlib.suppress(Exception):
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
        _write_out()
        os._exit(BROKEN_STATUS)

    # The end of the kernel

    def _unfinished(self) -> list[str]:
        """What an orderly end has to do, in words; nothing where a kill loses nothing."""
        found = [
            f"the thread {thread.name!r}"
            for thread in threading.enumerate()
            if not thread.daemon and thread is not threading.main_thread()
        ]
        if (
            atexit._ncallbacks() > self._hooks
            or self._new_finalizers()
            or _thread_hooks() > self._thread_hooks
        ):
            found.append("exit hooks")
        found += [
            f"the open file {path.removeprefix(self._folder)!r}" for path in self._guard.new_files()
        ]
        if any(_has_finalizer(value) for value in list(self._shell.user_ns.values())):
            found.append("objects with finalizers")
        return found[:_MOST_TOLD]

    def _new_finalizers(self) -> list[Any]:
        """Those that the notebook has made, the last one first."""
        new = [pair for pair in _finalizers() if pair[1].index not in self._finalizers]
        return [each for each, _ in sorted(new, key=lambda pair: -pair[1].index)]

    def _begin_end(self) -> None:
        """Take what the request to shut down asks for."""
        with contextlib.suppress(Exception):
            content = self._kernel.get_parent("shell")["content"]
            farewell = content.get(FAREWELL_MEMBER)
            self._farewell = farewell if isinstance(farewell, str) else None
            _bound_threads(float(content.get(THREAD_SECONDS_MEMBER) or 0))

    def _let_go(self) -> None:
        """As an interpreter's end does: finalize what the notebook made, write out buffers."""
        if os.getpid() != self._pid:
            return
        for finalizer in self._new_finalizers():
            # Their own exit hook may be older than ipykernel's, which closes what they print to.
            try:
                finalizer()
            except Exception as error:  # noqa: BLE001 - as that hook does
                sys.excepthook(type(error), error, error.__traceback__)
        # Before what is garbage goes, whose files close in any order.
        _write_out()
        with contextlib.suppress(Exception):
            for name in ("last_value", "last_traceback", "last_exc"):
                if hasattr(sys, name):
                    delattr(sys, name)
            self._shell.user_ns.clear()
            gc.collect()
        _write_out()
        if self._libc is not None:
            self._libc.fflush(None)
        if self._farewell is not None:
            # Whoever does not hear it takes it that output is missing.
            with contextlib.suppress(Exception):
                self._say_farewell(self._farewell)

    def _say_farewell(self, farewell: str) -> None:
        """Publish all output that is still buffered, and then that this was all."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        self._publish()
        for own in self._own.values():
            own.flush()
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
        # It comes back when the thread that publishes has sent what was before.
        self._own["stdout"].flush()


class _ThreadsLateError(TimeoutError):
    """Threads of the notebook have not ended in time."""


def _bound_threads(seconds: float) -> None:
    """Threads that go on for ever must not keep exit hooks from running."""
    if seconds <= 0:
        return
    show = sys.unraisablehook

    def unraisablehook(told: Any) -> None:
        if not isinstance(told.exc_value, _ThreadsLateError):
            show(told)

    sys.unraisablehook = unraisablehook
    signal.signal(signal.SIGALRM, _stop_waiting)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)


def _stop_waiting(*_: object) -> NoReturn:
    raise _ThreadsLateError


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


def _descriptors() -> set[int]:
    try:
        return {int(name) for name in os.listdir("/proc/self/fd")}  # noqa: PTH208
    except OSError:
        return set()


def _files() -> dict[int, str]:
    """Descriptors of files that are open for writing, with their paths."""
    found = {}
    for number in _descriptors():
        # The descriptor of the list itself is closed by now.
        with contextlib.suppress(OSError):
            mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
            if mode != os.O_RDONLY and stat.S_ISREG(os.fstat(number).st_mode):
                found[number] = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
    return found


def _finalizers() -> list[tuple[Any, Any]]:
    """What runs at exit by `weakref.finalize`, each with what the registry has of it."""
    registry = getattr(weakref.finalize, "_registry", {})
    return [(each, info) for each, info in list(registry.items()) if info.atexit]


def _thread_hooks() -> int:
    return len(getattr(threading, "_threading_atexits", ()))


def _has_finalizer(value: object) -> bool:
    return hasattr(type(value), "__del__") and type(value).__module__ != "_io"


def _write_out() -> None:
    """Have all files of Python written out, text before bytes."""
    kinds = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    found = [each for each in gc.get_objects() if issubclass(type(each), kinds)]
    for file in sorted(found, key=lambda each: not issubclass(type(each), io.TextIOWrapper)):
        with contextlib.suppress(Exception):
            file.flush()


if __name__ == "nbledger_inside":
    _Prepared(globals()["shell"], globals()["key"]).install()
