"""What is deleted is gone from everything that a running service keeps, and confirms no guess."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
import pytest
from support.campaigns import times
from support.event_store import open_pool
from support.kafka import everything_on_topics
from support.leftovers import WORDS, all_events, confirmed_by_digest, tables_as_text
from support.local_server import LocalServer
from support.planted import Plant, Planted, everything_below

from nbledger_infrastructure.settings import Kafka

WORD = WORDS[17]
SECONDS = 60.0

PLACES = {
    *("datasetfile", "column", "row", "library", "module", "modulefile", "moduletext"),
    *("newcolumn", "newvalue", "enriched", "report", "reporttitle", "metric"),
    *("outputfile", "outputcontent", "inputfile", "inputcontent", "parameter", "value"),
    *("name", "description", "schedule", "markdown", "celltag", "member", "metadata"),
    *("error", "tag", "long", "repeated", "longvalue"),
}
"""Where something is planted, and found before it is deleted."""


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what other processes do."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


class Kept:
    """What the service keeps besides files that hold a planted text: as text, and on topics."""

    def __init__(self, server: LocalServer, planted: Planted) -> None:
        self._server = server
        self._planted = planted

    def files(self) -> dict[str, set[str]]:
        return self._planted.in_files(self._server.home)

    def topics(self) -> dict[str, set[str]]:
        """Where planted texts are on Kafka: by topic, and part of the message."""
        kafka = Kafka(bootstrap_servers=self._server.info.kafka)
        found: dict[str, set[str]] = {}
        for place, content in asyncio.run(everything_on_topics(kafka)).items():
            if kinds := self._planted.kinds_in(content):
                found[place] = kinds
        return found

    def tables(self) -> Mapping[str, str]:
        async def read() -> Mapping[str, str]:
            async with open_pool(self._server.info.postgres) as pool:
                return await tables_as_text(pool)

        return asyncio.run(read())

    def events(self, *subjects: UUID) -> list[asyncpg.Record]:
        """The rows of all events of these subjects."""

        async def read() -> list[asyncpg.Record]:
            async with open_pool(self._server.info.postgres) as pool:
                return [each for each in await all_events(pool) if each["subject_id"] in subjects]

        return asyncio.run(read())

    def checkpoint(self) -> None:
        """Have the database write what it has in memory."""

        async def write() -> None:
            async with open_pool(self._server.info.postgres) as pool:
                await pool.execute("CHECKPOINT")

        asyncio.run(write())

    def text(self) -> str:
        """Everything that digests may be in."""
        home = self._server.home
        parts = [*self.tables().values(), *(str(path) for path in everything_below(home))]
        folders = ("logs", "sealer", "environments/requests", "environments/locks")
        files = (path for folder in folders for path in everything_below(home / folder))
        parts += [path.read_bytes().decode(errors="replace") for path in files if path.is_file()]
        return "\n".join(parts)


def delete_and_wait(plant: Plant, kept: Kept) -> None:
    plant.delete()
    subjects = [UUID(path.split("/")[2].partition("?")[0]) for path in plant.addresses]

    def left() -> int:
        events = kept.events(*subjects)
        return sum(event["data"] is not None for event in events)

    until(lambda: left() == 0, "events keep their data")


def nbledger(server: LocalServer, *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "nbledger", *arguments],
        env={**os.environ, "NBLEDGER_POSTGRES_DSN": server.info.postgres},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture
def client(server: LocalServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.base, headers=server.headers, timeout=90) as client:
        yield client


@pytest.mark.timeout(4 * SECONDS)
@pytest.mark.guarantee("G5", "G50")
def test_what_is_deleted_is_nowhere_any_more(
    server: LocalServer, client: httpx.Client, tmp_path: Path
) -> None:
    check(server, client, tmp_path, notebooks=1)


@pytest.mark.campaign
@pytest.mark.timeout(20 * SECONDS)
@pytest.mark.guarantee("G50")
def test_much_that_is_deleted_is_nowhere_any_more(
    server: LocalServer, client: httpx.Client, tmp_path: Path
) -> None:
    check(server, client, tmp_path, notebooks=times(small=3, ci=3, full=100))


def check(server: LocalServer, client: httpx.Client, folder: Path, *, notebooks: int) -> None:
    """Plant, find all of it, delete it, and find none of it."""
    planted = Planted()
    kept = Kept(server, planted)
    plants = [Plant(client, planted, WORD, folder / str(n), n) for n in range(notebooks)]
    for plant in plants:
        plant.everything()

    # All of it is found while it is there: in tables, in files, and by who guesses a digest.
    in_files = {kind for kinds in kept.files().values() for kind in kinds}
    tables = {name: planted.kinds_in(text.encode()) for name, text in kept.tables().items()}
    found = in_files.union(*tables.values())
    assert {kind for kind in PLACES if not any(each.startswith(kind) for each in found)} == set()
    # Also in what rows held at earlier positions.
    for name in ("notebook_snapshot", "execution_snapshot", "dataset_snapshot"):
        assert tables[name], name
    assert confirmed_by_digest(WORDS, kept.text()) == {WORD}
    # On Kafka the values of events alone have it: neither a key, a header nor another topic.
    assert set(kept.topics()) == {"nbledger.events value"}
    tags = {path: client.get(path).headers["ETag"] for plant in plants for path in plant.executions}

    for plant in plants:
        delete_and_wait(plant, kept)
    # Environments and the folders of runs go a moment later.
    until(lambda: all(file.startswith("postgres/") for file in kept.files()), "files stay")
    for path, tag in tags.items():
        # Who has a copy is not told that it is still good.
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 404
    text = kept.text()
    assert planted.kinds_in(text.encode()) == set()
    assert confirmed_by_digest(WORDS, text) == set()
    listed = nbledger(server, "audit", "verify", "--erased")
    assert "nothing was altered" in listed
    for plant in plants:
        events = kept.events(UUID(plant.notebook.rpartition("/")[2]))
        (deletion,) = (each for each in events if each["type"] == "notebook.deleted.v1")
        assert listed.count(f"deleted at position {deletion['position']},") == len(events) > 25

    # The bytes are still in files of the database: nothing overwrites them but other data.
    kept.checkpoint()
    assert any(file.startswith("postgres/base/") for file in kept.files())
    assert "holds nothing of before" in nbledger(server, "purge")
    assert kept.files() == {}
    assert "nothing was altered" in nbledger(server, "audit", "verify")
