"""Printing a page to PDF with a Chromium that reaches nothing."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Final

from nbledger_infrastructure.programs import Program
from nbledger_workers.kernel.driving.pair import python_environment

_PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PRINT_SECONDS: Final = 30.0
_OPTIONS: Final = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--password-store=basic",
    # The page forbids it itself; this holds where the page is wrong.
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9",
    "--proxy-bypass-list=<-loopback>",
    "--no-pdf-header-footer",
)


# A page may say by these how it is to be shown. Others lead away from it, also to files.
_META: Final = re.compile(rb"<meta\b[^<]*", re.IGNORECASE)
_EQUIVALENT: Final = re.compile(rb"http-equiv", re.IGNORECASE)
_KNOWN_EQUIVALENT: Final = re.compile(
    rb'http-equiv="(?:content-security-policy|x-dns-prefetch-control)"', re.IGNORECASE
)


class PrintError(Exception):
    """There is no PDF; the message says why."""


def find(setting: str) -> str | None:
    """The browser's program: as the setting names it, or the first that is found for ``auto``."""
    if not setting:
        return None
    names = _PROGRAMS if setting == "auto" else (setting,)
    return next((path for name in names if (path := shutil.which(name))), None)


async def print_pdf(program: str, page: bytes) -> bytes:
    """The page as PDF. Raises :class:`PrintError`."""
    if _leads_away(page):
        raise PrintError("the page leads to another")
    # The browser puts a socket there, whose path must be short.
    with tempfile.TemporaryDirectory(prefix="nbp-", ignore_cleanup_errors=True) as private:
        place = Path(private)
        source, target = place / "report.html", place / "report.pdf"
        await asyncio.to_thread(source.write_bytes, page)
        # As root a browser cannot have its own sandbox.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [
            program,
            *_OPTIONS,
            *sandbox,
            f"--user-data-dir={place / 'profile'}",
            f"--print-to-pdf={target}",
            source.as_uri(),
        ]
        variables = {**python_environment(), "HOME": private, "TMPDIR": private}
        # It is killed with all the processes that it has started.
        async with await Program.start(
            command, env=variables, stdout=False, stderr=False
        ) as browser:
            try:
                async with asyncio.timeout(_PRINT_SECONDS):
                    status = (await browser.finish()).status
            except TimeoutError:
                raise PrintError(f"printing took longer than {_PRINT_SECONDS:g} seconds") from None
        if not target.is_file():
            raise PrintError(f"the browser ended with status {status} and printed nothing")
        return await asyncio.to_thread(target.read_bytes)


def _leads_away(page: bytes) -> bool:
    return any(
        len(_EQUIVALENT.findall(tag)) > len(_KNOWN_EQUIVALENT.findall(tag))
        for tag in _META.findall(page)
    )
