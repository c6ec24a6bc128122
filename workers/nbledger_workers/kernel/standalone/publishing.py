"""Makes a Python kernel publish its output whole, in order, and numbered.

ZeroMQ drops what a publisher has beyond its high-water mark, 1,000 messages by default, when the
subscriber is slow. Where `guard` was called, a kernel of ipykernel

- keeps what its reader has not taken yet in its own memory, within the limit of its run;
- numbers what it publishes, in a frame `#N` before the delimiter, so that a gap shows;
- takes the output of its forks by a socket in the run's own folder, not by a TCP port;
- publishes text of stdout and stderr in the order written, for the first `MAX_CHANGES` changes
  between them in each cell: each costs a message.

The module stands alone: only the standard library, run by its path under any Python interpreter.
`python publishing.py MODULE ARGUMENTS...` is `python -m MODULE ARGUMENTS...` with a guard. A
fork server calls `guard` once, and what it forks has it.
"""

# ruff: noqa: SLF001 - ipykernel has no public way to any of it

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import tempfile
import threading
from typing import Any

DELIMITER = b"<IDS|MSG>"

# Milliseconds that a fork that ends waits until its output is taken, as ipykernel has it.
_FORK_LINGER_MS = 3000

#: Changes between streams within a cell, in order written; more than readers distinguish.
MAX_CHANGES = 256


def guard() -> None:
    """Change ipykernel in this process, once; raises ImportError where there is none."""
    _silence_debugger()
    from ipykernel import iostream, kernelapp  # noqa: PLC0415 - not every Python has it

    thread: Any = iostream.IOPubThread
    stream: Any = iostream.OutStream
    app: Any = kernelapp.IPKernelApp
    if hasattr(thread, "nbledger_guard"):
        return
    thread.nbledger_guard = True
    app.init_iopub = _unbounded(app.init_iopub)
    app._bind_socket = _keeping_replies(app._bind_socket)
    thread._really_send = _numbered(thread._really_send)
    if hasattr(thread, "_setup_pipe_in") and hasattr(thread, "_setup_pipe_out"):
        thread._setup_pipe_in = _receive_from_forks
        thread._setup_pipe_out = _connect_in_fork
    if hasattr(stream, "_flush_buffers"):
        order = _Order(stream._flush_buffers)
        os.register_at_fork(after_in_child=order.renew)
        stream.write = order.writing(stream.write)
        stream._flush = order.flushing(stream._flush)


def _silence_debugger() -> None:
    """Keep the debugger from remarks on how Python was started; it reads this when imported."""
    name = "PYDEVD_DISABLE_FILE_VALIDATION"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        # Where it does not work it is missed by nobody.
        with contextlib.suppress(Exception):
            import ipykernel.debugger  # noqa: F401, PLC0415
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _receive_from_forks(self: Any) -> None:
    """`_setup_pipe_in` with a socket in the run's own folder.

    ipykernel's own one is a TCP port, which every user of the machine can write to.
    """
    import zmq  # noqa: PLC0415
    from zmq.eventloop.zmqstream import ZMQStream  # noqa: PLC0415

    folder = os.environ.get("JUPYTER_RUNTIME_DIR") or tempfile.mkdtemp()
    self._pipe_uuid = os.urandom(16)
    self._pipe_address = f"ipc://{folder}/f{os.getpid()}"
    receiver = self.socket.context.socket(zmq.PULL)
    receiver.linger = 0
    receiver.bind(self._pipe_address)
    self._pipe_in = ZMQStream(receiver, self.io_loop)
    self._pipe_in.on_recv(self._handle_pipe_msg)


def _connect_in_fork(self: Any) -> tuple[Any, Any]:
    """`_setup_pipe_out` to that socket: a context and a socket of the fork's own."""
    import zmq  # noqa: PLC0415

    context = zmq.Context()
    sender = context.socket(zmq.PUSH)
    sender.linger = _FORK_LINGER_MS
    sender.connect(self._pipe_address)
    return context, sender


def _unbounded(init: Any) -> Any:
    """`init_iopub` with sockets that keep all that is not sent yet.

    The mark must be set before the socket is bound: connections take it from there.
    """

    def init_iopub(self: Any, context: Any) -> None:
        import zmq  # noqa: PLC0415

        context.setsockopt(zmq.SNDHWM, 0)
        try:
            init(self, context)
        finally:
            context.sockopts.pop(zmq.SNDHWM, None)

    return init_iopub


def _keeping_replies(bind: Any) -> Any:
    """`_bind_socket` with a shell socket that keeps all replies that are not sent yet."""

    def _bind_socket(self: Any, socket: Any, port: Any) -> Any:
        import zmq  # noqa: PLC0415

        if socket is self.shell_socket:
            socket.setsockopt(zmq.SNDHWM, 0)
        return bind(self, socket, port)

    return _bind_socket


def _numbered(send: Any) -> Any:
    """`_really_send`, which runs in one thread, with a number for each message."""

    def _really_send(self: Any, message: Any, *args: Any, **kwargs: Any) -> None:
        # Forked children hand their messages to the kernel's process.
        if os.getpid() == self._master_pid:
            number = getattr(self, "nbledger_published", 0) + 1
            self.nbledger_published = number
            at = 0 if message[0] == DELIMITER else 1
            message = [*message[:at], b"#%d" % number, *message[at:]]
        send(self, message, *args, **kwargs)

    return _really_send


class _Order:
    """Sends what one stream has gathered when another is written to."""

    def __init__(self, take: Any) -> None:
        self._take = take
        self._last: Any = None
        self._cell: Any = None
        self._changes = 0
        self.renew()

    def renew(self) -> None:
        """Begin with a lock that nobody holds."""
        # From taking text out of a buffer to putting it in the queue.
        self._lock = threading.RLock()

    def flushing(self, flush: Any) -> Any:
        """`_flush`, whole before or after text that goes out by a change."""

        def _flush(stream: Any) -> None:
            with self._lock:
                flush(stream)

        return _flush

    def writing(self, write: Any) -> Any:
        """`write`, after what another stream has gathered."""

        def ordered(stream: Any, string: str) -> Any:
            last = self._last
            if last is not stream:
                self._last = stream
                if last is not None and string:
                    self._change(last, stream)
            return write(stream, string)

        return ordered

    def _change(self, last: Any, stream: Any) -> None:
        thread = last.pub_thread
        if thread is None or not thread.thread.is_alive() or os.getpid() != last._master_pid:
            return
        cell = stream.parent_header.get("msg_id")
        if cell != self._cell:
            self._cell, self._changes = cell, 0
        if self._changes >= MAX_CHANGES:
            return
        with self._lock:
            pieces = [(parent, text) for parent, text in self._take(last) if text]
            if pieces:
                self._changes += 1
                # Not by `schedule`, which may wait for the thread, and that for the lock.
                thread._events.append(lambda: _publish(last, thread, pieces))
        if pieces:
            thread.schedule(lambda: None)


def _publish(stream: Any, thread: Any, pieces: Any) -> None:
    """Send text of a stream in the thread that publishes, as the stream does itself."""
    for parent, text in pieces:
        stream.session.pid = os.getpid()
        content = {"name": stream.name, "text": text}
        message = stream.session.msg("stream", content, parent=parent)
        for hook in stream._hooks:
            message = hook(message)
            if message is None:
                return
        # At its turn in the queue already: not to its end.
        stream.session.send(_Direct(thread), message, ident=stream.topic)


class _Direct:
    """What a session sends to: the socket, by the thread that publishes."""

    def __init__(self, thread: Any) -> None:
        self._thread = thread

    def send_multipart(self, message: Any, **kwargs: Any) -> None:
        """Send now."""
        self._thread._really_send(message, **kwargs)


def main() -> None:
    """Run a module as `python -m` does, guarded where it is a kernel of ipykernel."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    if sys.path and os.path.abspath(sys.path[0]) == here:  # noqa: PTH100
        # Its modules must not be found under their bare names, nor the folder's by what follows.
        del sys.path[0]
        found = True
    else:
        found = False
    # What is no kernel of ipykernel goes without: whoever reads sees no numbers.
    with contextlib.suppress(Exception):
        guard()
    del sys.argv[0]
    if found:
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
