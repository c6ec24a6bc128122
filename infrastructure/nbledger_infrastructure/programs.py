"""Programs that do one thing for us: started, talked to over pipes, and never left behind.

Each is the head of a process group, which is killed as a whole. What a program prints is bounded,
and so is the wait for its end.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

_END_SECONDS: Final = 5.0
_ERROR_BYTES: Final = 64 * 1024
_PIECE_BYTES: Final = 64 * 1024


class OutputTooLargeError(Exception):
    """A program prints more than its caller takes."""


class Finished(msgspec.Struct, frozen=True):
    """A program that has ended: its status (-N: by signal N), its output, its last errors."""

    status: int
    output: bytes
    errors: bytes

    @property
    def last_line(self) -> str:
        """What it said last on standard error, or its status where it said nothing."""
        lines = self.errors.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"status {self.status}"


class Program:
    """A running program. Whoever starts it calls :meth:`end`, or uses it as a context."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._killed = False

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        keep: Sequence[int] = (),
        line_bytes: int = _PIECE_BYTES,
    ) -> Self:
        """Start it with pipes to the streams that are asked for; the others lead nowhere.

        ``env`` is its whole environment. Descriptors to ``keep`` stay open in it: a lock that it
        works under lasts until it ends, even where its caller is killed. Lines that are read have
        at most ``line_bytes``. Raises OSError.
        """

        def pipe(wanted: bool) -> int:  # noqa: FBT001
            return subprocess.PIPE if wanted else subprocess.DEVNULL

        return cls(
            await asyncio.create_subprocess_exec(
                *command,
                env=env,
                cwd=cwd,
                stdin=pipe(stdin),
                stdout=pipe(stdout),
                stderr=pipe(stderr),
                pass_fds=keep,
                limit=line_bytes,
                start_new_session=True,
            )
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.end()

    @property
    def pid(self) -> int:
        """The process, and its group."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """As of :class:`Finished`; ``None`` while it runs."""
        return self._process.returncode

    async def ask(self, line: bytes) -> bytes:
        """Write a line and read one; empty when the program has ended.

        Raises OSError when it does not read, and ValueError for a longer line than is taken.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 (the caller has asked for pipes)
        assert stdout is not None  # noqa: S101
        stdin.write(line + b"\n")
        await stdin.drain()
        return await stdout.readline()

    async def read(self, most_bytes: int) -> bytes:
        """The next piece of its output; empty at the end."""
        assert self._process.stdout is not None  # noqa: S101 (the caller has asked for a pipe)
        return await self._process.stdout.read(most_bytes)

    async def finish(self, content: bytes = b"", *, most_bytes: int = 1 << 30) -> Finished:
        """Write all of ``content``, and wait for the end.

        Raises :class:`OutputTooLargeError`. On whatever is raised the program still runs.
        """
        work = [
            asyncio.ensure_future(each)
            for each in (
                _feed(self._process.stdin, content),
                _all_of(self._process.stdout, most_bytes),
                _end_of(self._process.stderr),
            )
        ]
        try:
            _, output, errors = await asyncio.gather(*work)
        finally:
            for each in work:
                each.cancel()
            await asyncio.gather(*work, return_exceptions=True)
        status = await self._process.wait()
        # What it has started and left: as long as there is any, the group keeps its number.
        self._kill_group()
        return Finished(status, output, errors)

    async def end(self) -> None:
        """Kill what is left of it and of what it has started, and close its pipes.

        Its end is waited for even if the caller is cancelled meanwhile.
        """
        # Also where the program itself has ended: a process of its group may hold its pipes open.
        self._kill_group()
        ending = asyncio.ensure_future(self._drained())
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait({ending})
            raise

    def _kill_group(self) -> None:
        if not self._killed:
            self._killed = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _drained(self) -> None:
        # What is left in the pipes is read and dropped, so that they are closed as well.
        process = self._process
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(_END_SECONDS):
                await _feed(process.stdin, b"")
                await asyncio.gather(_end_of(process.stdout), _end_of(process.stderr))
                await process.wait()


async def _feed(stdin: asyncio.StreamWriter | None, content: bytes) -> bytes:
    if stdin is not None:
        # A program that ends early says so by its status.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if content:
                stdin.write(content)
                await stdin.drain()
        stdin.close()
    return b""


async def _all_of(stdout: asyncio.StreamReader | None, most_bytes: int) -> bytes:
    pieces: list[bytes] = []
    left = most_bytes
    while stdout is not None and (piece := await stdout.read(_PIECE_BYTES)):
        left -= len(piece)
        if left < 0:
            raise OutputTooLargeError(f"more than {most_bytes} bytes of output")
        pieces.append(piece)
    return b"".join(pieces)


async def _end_of(stream: asyncio.StreamReader | None) -> bytes:
    tail = b""
    while stream is not None and (piece := await stream.read(_PIECE_BYTES)):
        tail = (tail + piece)[-_ERROR_BYTES:]
    return tail
