"""Run one service for a whole test run: `python service_host.py SERVICE FOLDER OWNER_PID`.

Writes FOLDER/SERVICE.json once the service answers. Ends, and its service with it, on SIGTERM or
when the owner, the process that runs the tests, is gone, however it went.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import psutil

from nbledger.embedded.apache_kafka import start_apache_kafka
from nbledger.embedded.postgres import start_postgres
from nbledger.embedded.tansu import start_tansu


class Service(NamedTuple):
    address: str
    pid: int
    stop: Callable[[], Awaitable[None]]


async def _postgres(folder: Path) -> Service:
    # The tests' data need not survive the machine; several workers share the server.
    quick = {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "max_connections": "300",
        "autovacuum": "off",
    }
    server = await start_postgres(folder / "data", settings=quick)
    return Service(server.dsn, server.pid, server.stop)


async def _tansu(folder: Path) -> Service:
    broker = await start_tansu(folder / "tansu.log")
    return Service(broker.bootstrap_servers, broker.pid, broker.stop)


async def _apache(folder: Path) -> Service:
    broker = await start_apache_kafka(folder / "kafka")
    return Service(broker.bootstrap_servers, broker.pid, broker.stop)


async def _up(folder: Path) -> Service:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from support.local_server import LocalServer

    # What notebooks get in the tests comes from no index, and some of them fill the disk.
    settings = {
        "UV_OFFLINE": "1",
        "NBLEDGER_LIMITS_DISK_MB": "80",
        "NBLEDGER_WORKER_CONCURRENCY": "4",
        "NBLEDGER_WEBHOOKS_ALLOWED_NETWORKS": '["127.0.0.0/8"]',
    }
    server = LocalServer(folder / "up", settings)
    await asyncio.to_thread(server.start)

    async def stop() -> None:
        await asyncio.to_thread(server.stop)

    return Service(str(server.home), server.process.pid, stop)


_SERVICES = {"postgres": _postgres, "tansu": _tansu, "apache": _apache, "up": _up}


async def _owner_gone(pid: int) -> None:
    if not hasattr(os, "pidfd_open"):
        while psutil.pid_exists(pid):  # noqa: ASYNC110 - no event without a pidfd
            await asyncio.sleep(0.5)
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _host(name: str, folder: Path, owner: int) -> None:
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    service = await _SERVICES[name](folder)
    try:
        ready = folder / f"{name}.json"
        unfinished = folder / f"{name}.unfinished"
        content = {"address": service.address, "pid": service.pid, "host": os.getpid()}
        unfinished.write_text(json.dumps(content))
        unfinished.rename(ready)
        waits = [asyncio.create_task(asked.wait()), asyncio.create_task(_owner_gone(owner))]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    finally:
        await service.stop()
        if not asked.is_set():
            # The owner was killed: the last of its services tidies up.
            (folder / f"{name}.json").unlink(missing_ok=True)
            if not list(folder.glob("*.json")):  # noqa: ASYNC240 - nothing else is going on
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(_host(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
