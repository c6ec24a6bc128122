"""How much the memory of the API grows by a large dataset: it is read as a stream."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.api import open_api, settings_for
from support.paths import TESTS

MEGABYTE = 1024 * 1024
LARGE_MB = int(os.environ.get("NBLEDGER_TEST_DATASET_MB", "48"))
BOUNDARY = "boundary"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def status(pid: int, name: str) -> float:
    """A line of the process's status, in megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def forget_peak(pid: int) -> None:
    """Let the peak of the process's memory begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def rows(number: int) -> bytes:
    return "".join(
        f"C{row // 6:08d},Review {row % 7},2024-01-{1 + row % 28:02d}T08:00:00,{row * 0.37:.2f},"
        f"{row * 7919 % 100_003}\n"
        for row in range(number * 10_000, (number + 1) * 10_000)
    ).encode()


async def form(size: int) -> AsyncIterator[bytes]:
    yield (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=file; filename=log.csv\r\n\r\n"
        "case_id,activity,timestamp,cost,quantity\n"
    ).encode()
    number = 0
    while size > 0:
        content = rows(number)
        number += 1
        size -= len(content)
        yield content
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.mark.timeout(600)
async def test_a_large_upload_and_its_download_take_little_memory(
    database_dsn: str, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.api_process",
        database_dsn,
        str(tmp_path / "artifacts"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    reading: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(60):
            while not (line := (await process.stdout.readline()).decode()).startswith("http"):
                assert line, "the API has ended"
        reading = asyncio.create_task(process.stdout.read())
        settings = settings_for(database_dsn, tmp_path / "artifacts")
        async with open_api(settings, line.strip()) as api:
            client = await api.client()
            client.timeout = 500
            before = status(process.pid, "VmRSS")
            forget_peak(process.pid)
            headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
            made = await client.post(
                "/dataset/csv", content=form(LARGE_MB * MEGABYTE), headers=headers
            )
            assert made.status_code == 201, made.text
            uploaded = status(process.pid, "VmHWM") - before
            size = 0
            path = f"/dataset/{made.json()['datasetId']}/download"
            async with client.stream("GET", path) as answer:
                async for piece in answer.aiter_raw():
                    size += len(piece)
            downloaded = status(process.pid, "VmHWM") - before
        print(f"{LARGE_MB} MB: growth {uploaded:.0f} MB, with the download {downloaded:.0f} MB")
        assert size > 0.8 * LARGE_MB * MEGABYTE
        assert uploaded <= 64
        assert downloaded <= 80
    finally:
        process.stdin.close()
        async with asyncio.timeout(20):
            await process.wait()
        if reading is not None:
            await reading
