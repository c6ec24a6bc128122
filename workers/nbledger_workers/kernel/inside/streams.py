"""The standard streams of an IPython kernel; runs inside it.

What is written to descriptors 1 and 2, by `sys.__stdout__`, C libraries and child processes, is
published before the cell that wrote it ends. Nothing that a cell does to its standard streams or
descriptors leaves it without a reply.
"""

# Kernels have no public way to any of this.
# ruff: noqa: SLF001

from __future__ import annotations

import codecs
import contextlib
import ctypes
import fcntl
import os
import select
import struct
import sys
import termios
import threading
from typing import Any

from nbledger_workers.kernel.inside.descriptors import NAMES, DescriptorGuard

_CHUNK = 65536


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
        """Pass it to whoever started the kernel, for its last words; not where that must wait."""
        poll = select.poll()
        poll.register(self._copy, select.POLLOUT)
        data = data[-select.PIPE_BUF :]
        if poll.poll(0):
            os.write(self._copy, data)


class Streams:
    """stdout and stderr as ipykernel has made them, kept while a notebook replaces its own."""

    def __init__(self, guard: DescriptorGuard) -> None:
        self._guard = guard
        #: Whether a flush came back before all that was written was published.
        self.late = False
        self._own: dict[str, Any] = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._closed: set[str] = set()
        self._redirected: list[_Redirected] = []
        for name, stream in self._own.items():
            if getattr(stream, "_should_watch", False) and stream._fid is not None:
                self._redirected.append(_Redirected(stream))
            self._watch_flush(stream)
            self._watch_close(name, stream)
        for stream in (sys.__stdout__, sys.__stderr__):
            # A pipe would else get nothing before it is flushed.
            with contextlib.suppress(Exception):
                stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        self._libc: Any = None
        with contextlib.suppress(Exception):
            self._libc = ctypes.CDLL(None)
            self._c_streams = [
                ctypes.c_void_p.in_dll(self._libc, name) for name in ("stdout", "stderr")
            ]

    def _watch_flush(self, stream: Any) -> None:
        """Note where `flush` gives up; ipykernel itself would print a remark into the output."""
        if not hasattr(stream, "flush_timeout") or not hasattr(stream, "pub_thread"):
            return
        flush = stream.flush

        def watched() -> None:
            publisher = stream.pub_thread
            thread = getattr(publisher, "thread", None)
            if thread is None or not thread.is_alive() or thread is threading.current_thread():
                flush()
                return
            done = threading.Event()
            publisher.schedule(stream._flush)
            publisher.schedule(done.set)
            self.late |= not done.wait(stream.flush_timeout)

        stream.flush = watched

    def _watch_close(self, name: str, stream: Any) -> None:
        """Note that a cell closes it, which would drop what it holds; it stays open."""

        def noted() -> None:
            with contextlib.suppress(Exception):
                stream.flush()
            self._closed.add(name)

        stream.close = noted

    def check(self) -> BaseException | None:
        """Put right what would keep the kernel from replying; the error that it is to the cell."""
        found: BaseException | None = None
        closed = self._guard.reopen()
        if closed:
            what = " and ".join(f"{NAMES[each]} (descriptor {each})" for each in closed)
            found = OSError(f"the cell closed the kernel's {what}, which is open again now")
        for name in sorted(self._closed):
            found = found or OSError(f"the cell closed sys.{name}, which is open again now")
        self._closed.clear()
        for name, own in self._own.items():
            stream = getattr(sys, name, None)
            if stream is own:
                continue
            if stream is None:
                setattr(sys, name, own)
                continue
            try:
                stream.flush()
                # Text in memory can be flushed when it is closed.
                if getattr(stream, "closed", False):
                    raise ValueError(f"the cell left sys.{name} closed")  # noqa: TRY301
            except BaseException as error:  # noqa: BLE001 - of a stream of the notebook's own
                found = found or error
                setattr(sys, name, own)
        return found

    def publish(self) -> None:
        """Publish what was written past the streams, and what replaced streams hold."""
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

    def publish_all(self) -> None:
        """Publish all that any stream still holds."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        self.publish()
        self.wait()

    def wait(self) -> None:
        """Wait until the thread that publishes has sent what it was given."""
        for own in self._own.values():
            own.flush()

    def write_out_c(self) -> None:
        """Have C's files written out."""
        if self._libc is not None:
            self._libc.fflush(None)
