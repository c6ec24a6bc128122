"""The JavaScript sample of the API's description, in a page of another origin in a real browser."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from typing import cast

import pytest
from support.browser import needs_browser, showing
from support.local_server import local_server

SAMPLE = Path(__file__).parent / "samples" / "workflow.js"
SECONDS = 60.0

# What the program prints goes to whoever has served the page. Its 15 seconds are made shorter.
PAGE = """<!doctype html><meta charset="utf-8"><title>Another origin</title><script type="module">
const print = (...words) => fetch('/printed', {
  method: 'POST', body: words.map((word) => word.message ?? word).join(' ')
});
console.log = console.error = print;
const wait = setTimeout;
window.setTimeout = (then) => wait(then, 500);
const token = %s;
%s
</script>
"""


class Site(ThreadingHTTPServer):
    """A site that has nothing but one page, and hears what the page prints."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.page = ""
        self.printed: SimpleQueue[str] = SimpleQueue()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = cast("Site", self.server).page.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        cast("Site", self.server).printed.put(self.rfile.read(length).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as it is called)
        """Nothing: the test tells what was wrong."""


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    serving = threading.Thread(target=site.serve_forever)
    serving.start()
    yield site
    site.shutdown()
    serving.join()
    site.server_close()


@needs_browser
@pytest.mark.timeout(240)
def test_the_sample_runs_in_a_page_of_a_named_origin(site: Site, tmp_path: Path) -> None:
    settings = {"NBLEDGER_HTTP_CORS_ORIGINS": json.dumps([site.origin])}
    with local_server(settings) as server:
        script = SAMPLE.read_text().replace("/api/{tenantId}/{projectId}", server.base)
        site.page = PAGE % (json.dumps(server.info.token), script)
        printed = asyncio.run(_shown(site, tmp_path / "profile", "Execution Results:"))
        assert printed[0].startswith("Created notebook:")
        assert "Notebook execution completed!" in printed
        assert printed[-1].startswith("Execution Results:")


async def _shown(site: Site, profile: Path, last: str) -> list[str]:
    """What the page prints up to ``last``, while a browser shows it."""
    printed: list[str] = []
    async with showing(profile, site.origin):
        while not any(line.startswith((last, "Notebook workflow failed")) for line in printed):
            printed.append(await asyncio.to_thread(site.printed.get, timeout=SECONDS))
    return printed
