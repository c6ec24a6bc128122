"""Children of `nbledger up` are started again, whatever a start met."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from nbledger import children
from nbledger.children import Child, Service


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "RESTART_PAUSE_SECONDS", 0.01)


async def test_a_role_is_started_again_after_a_start_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its folder for sockets is gone: somebody tidied up the temporary files.
    child = Child(
        "settings", {}, instance="i", log_file=tmp_path / "log", socket=tmp_path / "gone" / "s"
    )
    starts = asyncio.Queue[int]()
    start = child.start

    async def counted() -> None:
        starts.put_nowait(1)
        await start()

    monkeypatch.setattr(child, "start", counted)
    child._process = ended()
    keeper = asyncio.create_task(child.keep_running())
    async with asyncio.timeout(10):
        for _ in range(2):
            await starts.get()
    assert not keeper.done()
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)
    await child.stop(1)


class Stopped:
    """An embedded service that has ended."""

    def __init__(self) -> None:
        self.process = ended()

    async def stop(self) -> None:
        """There is nothing left to stop."""


async def test_a_service_is_started_again_after_a_start_that_failed() -> None:
    starts = asyncio.Queue[int]()

    async def start_again() -> Stopped:
        starts.put_nowait(1)
        raise OSError("no space left on device")

    service = Service("tansu", Stopped(), start_again)
    keeper = asyncio.create_task(service.keep_running())
    async with asyncio.timeout(10):
        for _ in range(2):
            await starts.get()
    assert not keeper.done()
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)


def ended() -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process


async def test_a_service_that_fills_its_memory_is_started_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(children, "MEMORY_SECONDS", 0.02)
    growing = "x = []\nwhile True: x.append(bytearray(100_000)); __import__('time').sleep(0.01)"
    started: list[Growing] = []

    class Growing:
        def __init__(self) -> None:
            self.process = subprocess.Popen([sys.executable, "-c", growing])
            started.append(self)

        async def stop(self) -> None:
            self.process.kill()
            self.process.wait()

    again = asyncio.Queue[int]()

    async def start_again() -> Growing:
        again.put_nowait(1)
        return Growing()

    service = Service("growing", Growing(), start_again, memory_mb=1)
    keeper = asyncio.create_task(service.keep_running())
    async with asyncio.timeout(30):
        for _ in range(2):
            await again.get()
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)
    await service.stop()
    assert [each.process.poll() for each in started] == [-9] * len(started)
