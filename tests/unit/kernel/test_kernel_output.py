"""What a kernel writes past its messages."""

from __future__ import annotations

import asyncio
import os

from nbledger_workers.kernel.supervising.kernel_output import KernelOutput


def write(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


async def test_more_than_is_kept_is_told() -> None:
    async with asyncio.timeout(20):
        output = KernelOutput()
        output.keeps = True
        stdout, stderr = output.pipe("stdout"), output.pipe("stderr")
        await asyncio.to_thread(write, stderr, b"short")
        assert output.take() == {"stderr": "short"}
        assert not output.take_cut()
        await asyncio.to_thread(write, stdout, b"x" * 9_000_000)
        (text,) = output.take().values()
        assert 8_000_000 <= len(text) < 8_100_000
        assert output.take_cut()
        assert not output.take_cut()
        assert output.last_words().endswith("xxx")
