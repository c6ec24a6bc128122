"""Whoever kills us, our services do not outlive us."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest

from nbledger.embedded.postgres import start_postgres
from nbledger.embedded.processes import is_alive

pytestmark = [
    pytest.mark.skipif(
        sys.platform != "linux", reason="only Linux tells a child of its parent's death"
    ),
    pytest.mark.stalls("what follows a kill is bounded in seconds of the clock"),
]

LIMIT = 15

OWNER = """
import asyncio, sys
from pathlib import Path
import asyncpg
from nbledger.embedded.postgres import start_postgres
from nbledger.embedded.tansu import start_tansu

async def main(folder):
    server = await start_postgres(folder / "postgres")
    broker = await start_tansu(folder / "tansu.log")
    connection = await asyncpg.connect(server.dsn)
    await connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)")
    print("READY", server.pid, broker.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_killed_owner_takes_postgres_and_broker_along(service_dir: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(service_dir), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert owner.stdout is not None
        async with asyncio.timeout(60):
            while not (line := await owner.stdout.readline()).startswith(b"READY"):
                assert line, "the owner ended early"
        services = [psutil.Process(int(pid)) for pid in line.split()[1:]]
        backends = [child for service in services for child in service.children(recursive=True)]
        assert len(backends) >= 3
    finally:
        owner.kill()
        await owner.communicate()
    async with asyncio.timeout(LIMIT):
        while any(is_alive(process) for process in [*services, *backends]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    again = await start_postgres(service_dir / "postgres")
    try:
        connection = await asyncpg.connect(again.dsn, timeout=10)
        assert await connection.fetchval("SELECT n FROM kept") == 42
        await connection.close(timeout=10)
    finally:
        await again.stop()
