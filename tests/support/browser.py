"""A headless browser that shows what a page has become."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
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
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    process = await asyncio.create_subprocess_exec(
        *(CHROMIUM, *options, "--timeout=5000", "--dump-dom", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(60):
            return (await process.communicate())[0].decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
