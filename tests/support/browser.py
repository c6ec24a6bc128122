"""A headless browser that shows what a page has become."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from nbledger_workers.reports import browser

CHROMIUM = browser.find("auto")

_Test = TypeVar("_Test", bound=Callable[..., Any])


def needs_browser(test: _Test) -> _Test:
    """Mark a test that looks at a page through Chromium (`make browser` installs it)."""
    skip = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
    marked: _Test = pytest.mark.browser(skip(test))
    return marked


async def rendered(profile: Path, url: str) -> str:
    """The page as the browser has made it, its scripts run if it runs any."""
    async with (
        _browser(profile, "--timeout=5000", "--dump-dom", url) as process,
        asyncio.timeout(60),
    ):
        return (await process.communicate())[0].decode()


@contextlib.asynccontextmanager
async def showing(profile: Path, url: str) -> AsyncIterator[None]:
    """A browser that has the page open for the block."""
    # A port for its debugger keeps it from ending once the page is loaded.
    async with _browser(profile, "--remote-debugging-port=0", url):
        yield


@contextlib.asynccontextmanager
async def _browser(profile: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    process = await asyncio.create_subprocess_exec(
        *(CHROMIUM, *options, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
