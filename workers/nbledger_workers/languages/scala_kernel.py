"""A Jupyter kernel for Scala: the Jupyter protocol by ipykernel, Scala by its own interpreter.

Run it as `python -m nbledger_workers.languages.scala_kernel -f CONNECTION_FILE` with the
environment variable `SCALA_KERNEL_HOME` set to the folder that `make kernel-scala` fills (its
kernelspec does so). The interpreter is a Java program, `deploy/scala/Interpreter.scala`, where
the frames that the two exchange are described.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import queue
import shutil
import signal
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

HOME_VARIABLE: Final = "SCALA_KERNEL_HOME"
OPTIONS_VARIABLE: Final = "SCALA_KERNEL_JAVA_OPTIONS"
"""Environment variable: options for Java, separated by blanks, such as `-Xmx2g`."""

CLASS_PATH: Final = "classpath"
"""In the home: the class path on one line."""
SHARED_CLASSES: Final = "classes.jsa"
"""In the home: an archive of loaded classes, which halves the time of a start."""

_START_SECONDS = 120.0
_END_SECONDS = 2.0
_STREAMS: Final = {"O": "stdout", "E": "stderr"}


class InterpreterEndedError(Exception):
    """The interpreter's process ended; `status` as of `subprocess.Popen.returncode`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def java_command(home: Path) -> list[str]:
    """The command that runs the interpreter of `home`, less its arguments."""
    java_home = os.environ.get("JAVA_HOME")
    java = str(Path(java_home) / "bin" / "java") if java_home else shutil.which("java") or "java"
    return [
        java,
        # An archive that another Java made is of no use, and no reason to complain.
        "-Xshare:auto",
        "-Xlog:disable",
        f"-XX:SharedArchiveFile={home / SHARED_CLASSES}",
        "-XX:-UsePerfData",
        # Most of the work is one compiler's run for each cell: the costlier of Java's compilers
        # would double the processor time of a notebook. Calculations may want it; see the docs.
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-Dfile.encoding=UTF-8",
        # Java asks the system for these, not the environment.
        f"-Duser.home={Path.home()}",
        f"-Djava.io.tmpdir={os.environ.get('TMPDIR', '/tmp')}",  # noqa: S108
        *os.environ.get(OPTIONS_VARIABLE, "").split(),
        "-cp",
        (home / CLASS_PATH).read_text().strip(),
        "nbledger.interpreter.Interpreter",
    ]


class Interpreter:
    """The Java process and the two pipes to it."""

    def __init__(self, home: Path) -> None:
        read_end, self._commands = os.pipe()
        answers, write_end = os.pipe()
        self.process = subprocess.Popen(
            [*java_command(home), f"/dev/fd/{read_end}", f"/dev/fd/{write_end}"],
            stdin=subprocess.DEVNULL,
            pass_fds=(read_end, write_end),
        )
        os.close(read_end)
        os.close(write_end)
        self._answers = os.fdopen(answers, "rb", buffering=1 << 16)

    def send(self, kind: str, *fields: str) -> None:
        """Send one frame; a dead interpreter is noticed by `frames` instead."""
        body = [kind.encode()]
        for field in fields:
            # Java has no lone surrogates in UTF-8.
            data = field.encode("utf-8", "replace")
            body += [struct.pack(">i", len(data)), data]
        frame = b"".join(body)
        message = memoryview(struct.pack(">i", len(frame)) + frame)
        with contextlib.suppress(BrokenPipeError):
            while message:
                message = message[os.write(self._commands, message) :]

    def frames(self) -> Iterator[tuple[str, list[bytes]]]:
        """Every frame that comes, until the interpreter's end."""
        while len(head := self._answers.read(4)) == 4:
            body = self._answers.read(int.from_bytes(head, "big"))
            fields, at = [], 1
            while at < len(body):
                (length,) = struct.unpack_from(">i", body, at)
                fields.append(body[at + 4 : at + 4 + length])
                at += 4 + length
            yield chr(body[0]), fields

    def end(self) -> None:
        """End the process, which sees that nothing more comes."""
        os.close(self._commands)
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()


class ScalaKernel(Kernel):
    """Passes cells to the interpreter and its answers to Jupyter."""

    implementation = "nbledger-scala"
    implementation_version = "1"
    banner = "Scala"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._ended: queue.SimpleQueue[tuple[str, list[str]] | InterpreterEndedError]
        self._ended = queue.SimpleQueue()
        self._parent: dict[str, Any] = {}
        self._closing = False
        self._silent = False
        self._interpreter = Interpreter(Path(os.environ[HOME_VARIABLE]))
        threading.Thread(target=self._listen, name="interpreter", daemon=True).start()
        kind = self._ended.get(timeout=_START_SECONDS)
        if isinstance(kind, InterpreterEndedError):
            message = f"the Scala interpreter did not start: its status was {kind.status}"
            raise SystemExit(message)
        self.language_info = {
            "name": "scala",
            "version": kind[1][0],
            "mimetype": "text/x-scala",
            "file_extension": ".scala",
            "codemirror_mode": "text/x-scala",
        }
        self.banner = f"Scala {kind[1][0]} on Java {kind[1][1]}"

    async def do_execute(
        self,
        code: str,
        silent: bool,  # noqa: FBT001
        store_history: bool = True,  # noqa: ARG002, FBT001, FBT002
        user_expressions: dict[str, Any] | None = None,  # noqa: ARG002
        allow_stdin: bool = False,  # noqa: ARG002, FBT001, FBT002
        *,
        cell_meta: dict[str, Any] | None = None,  # noqa: ARG002
        cell_id: str | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Run one cell to its end and return the content of the reply."""
        self._parent, self._silent = self.get_parent("shell"), silent  # type: ignore[no-untyped-call]
        base = {"execution_count": self.execution_count, "user_expressions": {}, "payload": []}
        if not code.strip():
            return {"status": "ok", **base}
        self._interpreter.send("X", code)
        end = self._until_ended()
        if isinstance(end, InterpreterEndedError):
            if end.status < 0:
                # What killed the interpreter killed the kernel.
                with contextlib.suppress(OSError):
                    # Some cannot be caught, and need no setting.
                    signal.signal(-end.status, signal.SIG_DFL)
                os.kill(os.getpid(), -end.status)
            self.io_loop.call_later(0.2, self.io_loop.stop)
            if end.status == 0:
                return {"status": "ok", **base, "payload": [{"source": "ask_exit"}]}
            error = ["SystemExit", str(end.status), f"SystemExit: {end.status}"]
        elif end[0] == "S":
            return {"status": "ok", **base}
        else:
            error = end[1]
        content = {"ename": error[0], "evalue": error[1], "traceback": error[2:]}
        if not silent:
            self._publish("error", content)
        return {"status": "error", **base, **content}

    def _until_ended(self) -> tuple[str, list[str]] | InterpreterEndedError:
        while True:
            try:
                return self._ended.get()
            except KeyboardInterrupt:
                self._interpreter.send("I")

    async def do_shutdown(self, restart: bool) -> dict[str, Any]:  # noqa: FBT001
        """End the interpreter."""
        if not self._closing:
            self._closing = True
            self._interpreter.end()
            # Threads of ipykernel that wait for each other must not keep the process.
            last = threading.Timer(0.5, os._exit, (0,))
            last.daemon = True
            last.start()
        return {"status": "ok", "restart": restart}

    def _listen(self) -> None:
        """Pass on what the interpreter sends, in a thread of its own."""
        decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in _STREAMS}
        for kind, fields in self._interpreter.frames():
            if kind in _STREAMS:
                if text := decoders[kind].decode(fields[0]):
                    self._publish("stream", {"name": _STREAMS[kind], "text": text})
                continue
            texts = [field.decode("utf-8", "replace") for field in fields]
            if kind in "DV":
                content: dict[str, Any] = {
                    "data": dict(zip(texts[::2], texts[1::2], strict=True)),
                    "metadata": {},
                }
                if kind == "V":
                    content["execution_count"] = self.execution_count
                self._publish("display_data" if kind == "D" else "execute_result", content)
            else:
                self._ended.put((kind, texts))
        self._ended.put(InterpreterEndedError(self._interpreter.process.wait()))

    def _publish(self, kind: str, content: dict[str, Any]) -> None:
        session: Any = self.session
        if self._silent or session is None:
            return
        session.send(self.iopub_socket, kind, content, parent=self._parent, ident=self.topic(kind))

    def topic(self, kind: str) -> bytes:
        """The IOPub topic of a message."""
        return f"kernel.{self.ident}.{kind}".encode()


def main() -> None:
    """Run the kernel until it is told to end."""
    IPKernelApp.launch_instance(kernel_class=ScalaKernel)


if __name__ == "__main__":
    main()
