"""Worker roles as processes of their own, which can be stopped and killed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import psutil

from nbledger_infrastructure.settings import Settings
from nbledger_infrastructure.settings_loading import environment_names

_PROGRAM = """
import asyncio
from nbledger_infrastructure.settings_loading import load
from nbledger_workers import worker
asyncio.run(worker.run(load(), asyncio.Event(), lambda: print("ready", flush=True)))
"""
_READY_SECONDS = 60.0


@asynccontextmanager
async def worker_process(
    config: Settings, instance: str, *, log: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker that takes commands; killed at the end if it lives. `log` gets what it prints."""
    with (log or Path(os.devnull)).open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _PROGRAM,
            env=os.environ | _environment(config) | {"NBLEDGER_INSTANCE": instance},
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
        )
    reading: asyncio.Task[None] | None = None
    try:
        assert process.stdout is not None
        lines = [b""]
        async with asyncio.timeout(_READY_SECONDS):
            while (line := await process.stdout.readline()) not in (b"ready\n", b""):
                lines.append(line)
        assert line, b"".join(lines).decode()
        reading = asyncio.create_task(_copy(process.stdout, log))
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if reading is not None:
            await reading


def of_instance(instance: str) -> list[int]:
    """Every living process that was started for the instance."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("NBLEDGER_INSTANCE") == instance:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


async def _copy(source: asyncio.StreamReader, log: Path | None) -> None:
    while chunk := await source.read(65536):
        if log is not None:
            with log.open("ab") as file:
                file.write(chunk)


def _environment(config: Settings) -> dict[str, str]:
    """Every setting that is not the default, as the worker reads it."""
    default = Settings()
    given = {}
    for variable, (section, field) in environment_names().items():
        value = getattr(getattr(config, section), field)
        if value != getattr(getattr(default, section), field):
            text = isinstance(value, str | bool | int | float)
            given[variable] = str(value) if text else msgspec.json.encode(value).decode()
    return given
