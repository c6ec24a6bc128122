"""The worker's side of one run: takes a pair, hands it the notebook, passes on what it reports."""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from nbledger_infrastructure.packages import Environment
from nbledger_workers.kernel.driving.pair import (
    ForkServers,
    Pair,
    finish_even_if_cancelled,
    new_launch,
)
from nbledger_workers.kernel.driving.pool import KernelPool
from nbledger_workers.kernel.processes.fork_client import ForkServerLostError
from nbledger_workers.kernel.protocol import (
    START_SECONDS,
    Cancel,
    CellFinished,
    CellStarted,
    CellStatus,
    Confirm,
    Heartbeat,
    KernelStarted,
    Outcome,
    OutputPart,
    OutputsSoFar,
    OutputsUpdated,
    ProtocolError,
    RunFinished,
    RunNotebook,
    WidgetsLeft,
)
from nbledger_workers.kernel.resources.limits import process_limits

#: What `on_message` is given; `RunFinished` is returned instead.
Report = (
    KernelStarted
    | CellStarted
    | CellFinished
    | OutputPart
    | OutputsSoFar
    | OutputsUpdated
    | WidgetsLeft
)
OnMessage = Callable[[Report], Awaitable[None]]
Prepare = Callable[[Path], Awaitable[bytes]]

#: A child that says nothing for so long, heartbeats included, is lost.
SILENCE_SECONDS: Final = 60.0
# What a child may need beyond the run's own timeout: ending the cell and the kernel.
_OVERTIME_SECONDS: Final = 30.0
# What is left of its time to a run that could be prepared just in time.
_LEAST_SECONDS: Final = 0.1
# Pairs that turn out to have died while they waited, before a run gives up.
_MOST_DEAD: Final = 3

log = structlog.get_logger(__name__)


class SupervisorSilentError(Exception):
    """The child is there, but does not do its part in time."""


class NotPreparedError(Exception):
    """What the notebook needs could not be put into its folder."""


class KernelRun:
    """One run of a notebook; use once, and `close` it whatever happened.

    The kernel comes from `pool`; without one it is started for the run in the request's folder,
    forked from `fork_servers` where there are any. A Python kernel is started in `environment`,
    where there is one. `on_message` is awaited for each report, in order;
    while it runs nothing more is read, so that a slow store slows the run and fills no memory. Its
    errors end the run and reach the caller. `on_usage` is told about once a second what the run
    uses. `prepare` is given the kernel's folder before anything of the notebook runs; it returns
    the request's `context`.
    """

    def __init__(
        self,
        request: RunNotebook,
        *,
        on_message: OnMessage,
        on_usage: Callable[[Heartbeat], None] | None = None,
        prepare: Prepare | None = None,
        pool: KernelPool | None = None,
        fork_servers: ForkServers | None = None,
        environment: Environment | None = None,
    ) -> None:
        self._environment = environment
        self._request = request
        self._on_message = on_message
        self._on_usage = on_usage
        self._prepare = prepare
        self._pool = pool
        self._fork_servers = fork_servers
        self._pair: Pair | None = None
        self._cancel: Cancel | None = None
        self._cancelled = asyncio.Event()
        self._asked = False
        self._clean = False
        self._reported: set[int] = set()
        self._started = False
        self._confirmed = False
        self._held_since: float | None = None
        self._end_by = math.inf

    @property
    def token(self) -> str:
        """Value of the environment variable NBLEDGER_RUN in every process of the notebook."""
        return "" if self._pair is None else self._pair.token

    @property
    def child_pid(self) -> int | None:
        """Process id of the supervising child once it was started."""
        return None if self._pair is None else self._pair.child_pid

    @property
    def folder(self) -> Path | None:
        """The kernel's working folder once it was started; there until `close`."""
        return None if self._pair is None else self._pair.folder

    def cancel(self, reason: str) -> None:
        """Ask for the end of the run; `run` then returns `cancelled`. Safe to call at any time."""
        if self._cancel is None:
            self._cancel = Cancel(reason)
            self._cancelled.set()
            self._send_cancel()

    def confirm(self) -> None:
        """Let the cells go that the request holds; call it after the report that one started."""
        self._confirmed = True
        if self._held_since is not None:
            self._end_by += asyncio.get_running_loop().time() - self._held_since
            self._held_since = None
        if self._pair is not None:
            self._pair.send_soon(Confirm())

    async def run(self) -> RunFinished:
        """Run to the end of the last cell; never raises for what the notebook does.

        The kernel may still be there then: `close` waits for its end.
        """
        try:
            finished = await self._run()
        except (OSError, ForkServerLostError) as error:
            finished = RunFinished(
                outcome=Outcome.FAILED_TO_START, detail=f"no kernel can be started: {error}"
            )
        except NotPreparedError as error:
            finished = RunFinished(outcome=Outcome.FAILED_TO_START, detail=str(error))
        except ProtocolError as error:
            return self._lost(f"the supervisor sent an unreadable report: {error}")
        except SupervisorSilentError as error:
            return self._lost(str(error))
        if finished is None:
            return self._lost("the supervisor ended")
        if not self._started:
            # The child ended before it came to the cells, of which each gets its report.
            for index in self._request.cells_to_run:
                if index not in self._reported:
                    await self._on_message(CellFinished(index=index, status=CellStatus.SKIPPED))
        return finished

    async def close(self) -> None:
        """Wait for the kernel's orderly end, or make an end; nothing of it is left afterwards."""
        pair = self._pair
        if pair is not None:
            await finish_even_if_cancelled(self._end(pair, clean=self._clean))

    async def _end(self, pair: Pair, *, clean: bool) -> None:
        await pair.close(clean=clean)
        if self._pool is not None:
            await asyncio.to_thread(shutil.rmtree, pair.folder, ignore_errors=True)

    async def _run(self) -> RunFinished | None:
        """Talk to the child until it reports the end; None when it ended without."""
        dead = 0
        while True:
            self._pair = pair = await self._take()
            waited = pair.started is not None
            if pair.started is not None:
                await self._report(pair.started)
            if (late := await self._prepared(pair)) is not None:
                return late
            if not waited and pair.started is not None:
                # It got ready meanwhile, and the pool, which waited for that, has its report.
                await self._report(pair.started)
            finished = await self._talk(pair)
            self._clean = finished is not None
            # One that died while it waited is not the notebook's fault: nothing of it has run.
            if (
                not waited
                or self._started
                or (finished is not None and finished.outcome is not Outcome.KERNEL_DIED)
                or dead == _MOST_DEAD
            ):
                return finished
            dead += 1
            log.warning("waiting kernel was dead", kernel=self._request.kernel_name)
            self._asked, self._pair = False, None
            await finish_even_if_cancelled(self._end(pair, clean=False))

    async def _take(self) -> Pair:
        request = self._request
        if self._pool is not None:
            return await self._pool.take(request.kernel_name, self._environment)
        launch = await asyncio.to_thread(
            new_launch,
            Path(request.working_dir),
            request.kernel_name,
            process_limits=process_limits(request.limits),
            environment=self._environment,
        )
        return await Pair.start(launch, self._fork_servers)

    async def _prepared(self, pair: Pair) -> RunFinished | None:
        """Put into the folder what the notebook needs; the end, when there is no time for it."""
        if self._prepare is None:
            return None
        preparing = asyncio.ensure_future(self._prepare(pair.folder))
        cancelled = asyncio.create_task(self._cancelled.wait())
        limit, begun = self._request.timeout, time.monotonic()
        try:
            done, _ = await asyncio.wait(
                {preparing, cancelled}, timeout=limit, return_when=asyncio.FIRST_COMPLETED
            )
            if preparing.done():
                left = limit
                if limit is not None:
                    left = max(limit - (time.monotonic() - begun), _LEAST_SECONDS)
                self._request = msgspec.structs.replace(
                    self._request, context=preparing.result(), timeout=left
                )
        except OSError as error:
            # No fault of the kernel, nor for want of one.
            late = isinstance(error, TimeoutError)
            reason = error.strerror or ("it took too long" if late else str(error))
            raise NotPreparedError(
                f"what the run needs cannot be put into place: {reason}"
            ) from error
        finally:
            for task in (preparing, cancelled):
                task.cancel()
            await asyncio.gather(preparing, cancelled, return_exceptions=True)
        if done or limit is None:
            return None
        return RunFinished(
            outcome=Outcome.TIMED_OUT, detail=f"the run took longer than {limit:g} seconds"
        )

    async def _talk(self, pair: Pair) -> RunFinished | None:
        request = self._request
        try:
            await pair.send(request)
        except (BrokenPipeError, ConnectionResetError):
            return await self._last(pair)
        except TimeoutError:
            raise SupervisorSilentError("the supervisor did not take the notebook") from None
        self._asked = True
        self._send_cancel()
        loop = asyncio.get_running_loop()
        overtime = 2 * request.grace + request.exit_seconds + _OVERTIME_SECONDS
        if request.timeout is not None:
            self._end_by = loop.time() + request.timeout + overtime
        # A kernel that starts says nothing meanwhile.
        patience = SILENCE_SECONDS + (0 if pair.started else START_SECONDS)
        while True:
            silence = loop.time() + patience
            try:
                async with asyncio.timeout_at(min(self._end_at(), silence)):
                    message = await pair.receive()
            except TimeoutError:
                raise SupervisorSilentError(
                    "the supervisor did not report the end in time"
                ) from None
            patience = SILENCE_SECONDS
            if message is None or isinstance(message, RunFinished):
                return message
            if not isinstance(message, Heartbeat):
                await self._report(message)
            elif self._on_usage is not None:
                self._on_usage(message)

    def _end_at(self) -> float:
        """When the child must have reported the end; never, while a cell is held."""
        return math.inf if self._held_since is not None else self._end_by

    async def _last(self, pair: Pair) -> RunFinished | None:
        """What a child said before it ended."""
        while (message := await pair.receive()) is not None:
            if isinstance(message, RunFinished):
                return message
        return None

    async def _report(self, message: Report) -> None:
        if isinstance(message, CellStarted):
            self._started = True
            if message.index in self._request.held_cells and not self._confirmed:
                self._held_since = asyncio.get_running_loop().time()
        elif isinstance(message, CellFinished):
            self._reported.add(message.index)
        await self._on_message(message)

    def _send_cancel(self) -> None:
        """Send a cancel that is asked for, once the child has its notebook."""
        if self._cancel is not None and self._asked and self._pair is not None:
            self._pair.send_soon(self._cancel)

    def _lost(self, what: str) -> RunFinished:
        self._clean = False
        pair = self._pair
        code = None if pair is None else pair.status
        status = "" if code is None else f" ({code})"
        words = "" if pair is None else pair.last_words()
        log.warning("kernel supervisor lost", pid=self.child_pid, what=what + status)
        detail = f"supervisor lost: {what}{status}" + (f": {words}" if words else "")
        return RunFinished(outcome=Outcome.SUPERVISOR_LOST, detail=detail)
