"""One API for the tests of a module, in a thread with a loop of its own; a tenant for each test."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.api import Api, open_api, settings_for
from support.databases import create_database, drop_database

from nbledger_http.edge import server


class ServerThread:
    """Serves until stopped, while test functions come and go with loops of their own."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.settings = settings_for(dsn, folder)
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="api")

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(30)
        assert self.url, self._error

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(
                server.serve(self.settings, stop=self._stop, on_ready=self._set_url)
            )
        except BaseException as error:  # noqa: BLE001 (told by the thread that waits)
            self._error = error
        finally:
            self._loop.close()
            self._ready.set()

    def _set_url(self, url: str) -> None:
        self.url = url
        self._ready.set()


@pytest.fixture(scope="module")
def api_server() -> Iterator[ServerThread]:
    dsn = create_database()
    with tempfile.TemporaryDirectory() as folder:
        thread = ServerThread(dsn, Path(folder) / "artifacts")
        thread.start()
        yield thread
        thread.stop()
    drop_database(dsn)


@pytest.fixture
async def api(api_server: ServerThread) -> AsyncIterator[Api]:
    """The API of this module, with a tenant that is this test's alone."""
    async with open_api(api_server.settings, api_server.url) as api:
        yield api
