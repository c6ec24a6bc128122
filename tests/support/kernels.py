"""Runs of small notebooks on real kernels."""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from nbledger_workers.kernel.driving.driver import KernelRun, Report
from nbledger_workers.kernel.driving.pair import ForkServers, python_environment
from nbledger_workers.kernel.processes import family
from nbledger_workers.kernel.processes.fork_client import can_fork
from nbledger_workers.kernel.protocol import (
    CellFinished,
    CellStarted,
    CellStatus,
    Heartbeat,
    OutputPart,
    OutputsUpdated,
    RunFinished,
    RunNotebook,
)
from nbledger_workers.kernel.standalone.isolation import Preparation

_GONE_SECONDS = 2.0


class _Kept(ForkServers):
    """Fork servers that stay when whoever used them closes them: to import takes them a second."""

    def close(self) -> None:
        pass

    def end(self) -> None:
        super().close()


def fork_servers(*, preparation: Preparation | None = None) -> ForkServers:
    """The fork servers of this process for kernels of its present environment; they end with it."""
    return _kept(preparation, frozenset(python_environment().items()))


@functools.cache
def _kept(preparation: Preparation | None, environment: frozenset[tuple[str, str]]) -> ForkServers:
    del environment
    made = _Kept(preparation=preparation)
    atexit.register(made.end)
    return made


def code(source: str, *tags: str) -> dict[str, Any]:
    """A code cell of nbformat 4."""
    return {
        "cell_type": "code",
        "metadata": {"tags": list(tags)} if tags else {},
        "source": source,
        "execution_count": None,
        "outputs": [],
    }


def request(
    working_dir: Path, *cells: str | dict[str, Any], run: list[int] | None = None, **options: Any
) -> RunNotebook:
    """A request for all cells, given as source or as cells, or those of `run`."""
    options.setdefault("timeout", 60.0)
    full = [code(cell) if isinstance(cell, str) else cell for cell in cells]
    notebook = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": full}
    return RunNotebook(
        notebook=json.dumps(notebook).encode(),
        cells_to_run=list(range(len(full))) if run is None else run,
        working_dir=str(working_dir),
        **options,
    )


class Recorded:
    """A run with what it reported, and when."""

    def __init__(
        self,
        request: RunNotebook,
        hook: Callable[[Report, Recorded], None] | None = None,
        *,
        on_usage: Callable[[Heartbeat], None] | None = None,
    ) -> None:
        self.reports: list[Report] = []
        self.times: list[float] = []
        self.ended = 0.0
        self.finished: RunFinished | None = None
        self._hook = hook
        self.usages: list[Heartbeat] = []
        self.run = KernelRun(
            request,
            on_message=self._take,
            on_usage=on_usage or self.usages.append,
            fork_servers=fork_servers() if can_fork() else None,
        )

    async def _take(self, report: Report) -> None:
        self.reports.append(report)
        self.times.append(time.monotonic())
        if self._hook is not None:
            self._hook(report, self)

    async def result(self) -> RunFinished:
        """Run to the end; no process of the run may be left."""
        try:
            self.finished = await self.run.run()
            self.ended = time.monotonic()
        finally:
            await self.run.close()
        # The guardian of a kernel that was just being forked ends it, but nobody waits for that.
        async with asyncio.timeout(_GONE_SECONDS):
            while family.marked(self.run.token):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return self.finished

    def cell(self, index: int) -> CellFinished:
        """The one report of the cell's end."""
        (cell,) = [
            each for each in self.reports if isinstance(each, CellFinished) and each.index == index
        ]
        return cell

    def started(self, index: int) -> float:
        """When the report of the cell's start came (monotonic seconds)."""
        return next(
            at
            for at, report in zip(self.times, self.reports, strict=True)
            if isinstance(report, CellStarted) and report.index == index
        )

    @property
    def statuses(self) -> list[CellStatus]:
        """Statuses of the cells in the order in which they ended."""
        return [each.status for each in self.reports if isinstance(each, CellFinished)]

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """The kept outputs of a cell, long texts put together."""
        found = [msgspec.json.decode(output) for output in self.cell(index).outputs]
        for output in found:
            if (number := output.pop("parts", None)) is not None:
                parts = [
                    each.data
                    for each in self.reports
                    if isinstance(each, OutputPart) and (each.index, each.number) == (index, number)
                ]
                output["text"] = b"".join(parts).decode() + output["text"]
        return found

    def updated(self, index: int) -> list[dict[str, Any]]:
        """The outputs of a cell as told last, after its end."""
        last = [r for r in self.reports if isinstance(r, OutputsUpdated) and r.index == index][-1]
        return [msgspec.json.decode(output) for output in last.outputs]

    def text(self, index: int, name: str = "stdout") -> str:
        """All text of one stream of a cell."""
        return "".join(
            output["text"]
            for output in self.outputs(index)
            if output["output_type"] == "stream" and output["name"] == name
        )


async def recorded(
    working_dir: Path, *cells: str | dict[str, Any], run: list[int] | None = None, **options: Any
) -> Recorded:
    """Run to the end and return what happened."""
    result = Recorded(request(working_dir, *cells, run=run, **options))
    await result.result()
    return result
