"""Bundles: what it costs to export a history, and to check it as a stranger does."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from uuid import UUID

from benchmarks.bench import Bench
from benchmarks.figures import Figure, within
from benchmarks.filling import append_all
from benchmarks.history import histories
from nbledger_audit.keys import Signer
from nbledger_audit.sealer import Sealer
from nbledger_audit.signing import CheckpointSigner
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres.database import Pool
from nbledger_infrastructure.postgres.event_store import EventStore

EVENTS = 200_000
EVENTS_IN_FULL = 1_000_000
EVENTS_OF_A_NOTEBOOK = 15
MEGABYTES = 200
"""What each of the two may take, whatever the size of the history."""


def bundles(bench: Bench) -> list[Figure]:
    """Export of a tenant's whole history, and its check by the program that comes with it."""
    events = 3_000 if bench.quick else EVENTS_IN_FULL if bench.full else EVENTS
    dsn = bench.new_database("bundles")
    pool = bench.connect(dsn)
    tenant = new_id()
    notebooks = events // EVENTS_OF_A_NOTEBOOK
    bench.run(_filled(pool, tenant, notebooks, bench.scratch / "bundle-keys"))
    bench.run(pool.close())
    count = notebooks * EVENTS_OF_A_NOTEBOOK

    folder = bench.scratch / "bundle"
    command = ("-m", "nbledger", "audit", "export", "--tenant", str(tenant), "--no-artifacts")
    exported = _measured(bench, [*command, str(folder)], {"NBLEDGER_POSTGRES_DSN": dsn})
    bench.drop_database("bundles")
    size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    bench.say(f"  a bundle of {count:,} events has {size / 1e6:,.0f} MB")
    told = f"{count:,} events"
    figures = [
        _bounded(f"export of {told}", "s", exported[0], 180 * count / 1e6),
        _bounded(f"memory of an export of {told}", "MB", exported[1], MEGABYTES),
    ]
    program = resources.files("nbledger_audit.bundles") / "verify.py"
    if program.is_file():
        checked = _measured(bench, [str(program), str(folder)], {})
        figures += [
            _bounded(f"check of a bundle of {told}", "s", checked[0], 60 * count / 1e6),
            _bounded(f"memory of a check of a bundle of {told}", "MB", checked[1], MEGABYTES),
        ]
    return figures


async def _filled(pool: Pool, tenant: UUID, notebooks: int, folder: Path) -> None:
    store = EventStore(pool)
    await store.start()
    try:
        await append_all(store, histories(notebooks), tenant, new_id())
    finally:
        await store.close()
    await asyncio.to_thread(folder.mkdir)
    checkpoints = CheckpointSigner(
        Signer.generate(folder / "key.pem"), "bench.example.com", folder / "signed"
    )
    async with pool.acquire() as connection:
        await checkpoints.tell_key(connection)
    sealer = Sealer(pool, checkpoints, 3600.0)
    await sealer.tick()
    await sealer.sign()


def _measured(
    bench: Bench, arguments: list[str], environment: dict[str, str]
) -> tuple[float, float]:
    """Seconds and most megabytes of a Python program, which has to succeed."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    bench.say(f"  processor time of its process: {used.ru_utime + used.ru_stime:.1f} s")
    # Linux tells kilobytes, macOS bytes.
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return seconds, used.ru_maxrss / scale


def _bounded(figure: str, unit: str, value: float, bound: float) -> Figure:
    return within(figure=figure, unit=unit, values=[value], bound=bound)
