"""papermill, nbclient and jupyter_client, as their documentation uses them.

Choices in the peers' favour: everything is imported before the clock starts; papermill shows no
progress bar and its processes are warm; nbclient's cells are awaited on one event loop, on a
kernel that has run cells before, and neither its start nor reading and writing files counts.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import statistics
import sys
import tempfile
import time

import papermill as pm
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbformat import from_dict

from benchmarks.kernel_times import seconds_to_reply, seconds_to_wait
from benchmarks.peers.protocol import serve
from benchmarks.scheduler_server import notebook_of

_loop = asyncio.Runner()


def run_once(file: str) -> float:
    """Milliseconds of one notebook, from its file to its file."""
    with tempfile.TemporaryDirectory() as folder:
        for may_fail in (True, True, False):
            begin = time.perf_counter()
            try:
                pm.execute_notebook(
                    file, f"{folder}/out.ipynb", kernel_name="python3", progress_bar=False
                )
            except RuntimeError as error:
                # Now and then somebody has taken one of the ports that were picked for the kernel.
                if not may_fail:
                    raise
                print(f"papermill: {error}; once more", file=sys.stderr)
            else:
                break
        return (time.perf_counter() - begin) * 1000


def papermill(file: str, runs: int) -> float:
    """Median milliseconds of a run, in this process."""
    return statistics.median(run_once(file) for _ in range(runs))


def papermill_rate(file: str, count: int, processes: int) -> float:
    """Notebooks a second with so many processes, which are there and have imported all."""
    with multiprocessing.get_context("spawn").Pool(processes, initializer=_quiet) as pool:
        pool.map(_nothing, range(processes))
        begin = time.perf_counter()
        pool.map(run_once, [file] * count, chunksize=1)
        return count / (time.perf_counter() - begin)


def _quiet() -> None:
    logging.disable(logging.CRITICAL)


def _nothing(number: int) -> None:
    del number


def cells(source: str, count: int) -> float:
    """Milliseconds that so many cells take on a kernel that has run one."""
    notebook = from_dict(notebook_of(*[source] * count))

    async def run() -> float:
        client = NotebookClient(notebook, kernel_name="python3")
        async with client.async_setup_kernel():
            await client.async_execute_cell(notebook.cells[0], 0)
            begin = time.perf_counter()
            for number, cell in enumerate(notebook.cells):
                await client.async_execute_cell(cell, number)
            return (time.perf_counter() - begin) * 1000

    return _loop.run(run())


def start_to_ready() -> dict[str, float]:
    """Milliseconds from the start of a kernel until it is ready, told in two ways."""
    return {
        "wait": seconds_to_wait(KernelManager(kernel_name="python3")) * 1000,
        "reply": seconds_to_reply(KernelManager(kernel_name="python3")) * 1000,
    }


if __name__ == "__main__":
    serve(
        {
            "papermill": papermill,
            "papermill_rate": papermill_rate,
            "cells": cells,
            "start_to_ready": start_to_ready,
        }
    )
