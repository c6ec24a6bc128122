"""Whatever the owner of the database does to history, ``verify.py`` finds it in the next bundle.

The tables of docs/proofs.md say what shows it; this is where they are from.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest
import pytest_asyncio
from support.databases import create_database, drop_database
from support.paths import ROOT
from support.tampering import COLUMNS, Scene, open_scene

from nbledger_audit.keys import Signer

pytestmark = [pytest.mark.asyncio(loop_scope="module")]

FOUND_BY: Final = {
    "export: ": "export",
    "the entry is not in the tree": "tree",
    "has another digest": "digest",
    "it is not signed by a key of its log": "key",
    "the log does not begin with what was signed here": "held",
    "entries, and the log ends after": "held",
    "nothing erased the data": "erasure",
    "outside times deny its date": "time",
    "it is older than the event before it": "order",
}


async def alone(scene: Scene, forger: Signer, kept: str) -> None:
    """Leave it at that."""


async def recomputed(scene: Scene, forger: Signer, kept: str) -> None:
    """Compute all digests, chains and the log anew, and sign it with a key of their own."""
    await scene.recompute(forger, kept)


async def signed(scene: Scene, forger: Signer, kept: str) -> None:
    """The same, signed with the key of the log."""
    await scene.recompute(None, kept)


KINDS: Final = (alone, recomputed, signed)


async def deleted(scene: Scene) -> None:
    await scene.execute(f"DELETE FROM event WHERE position = {scene.altered}")


async def inserted(scene: Scene) -> None:
    at = scene.altered
    await scene.execute(
        f"UPDATE event SET position = position + 1 WHERE position > {at}",
        "INSERT INTO event SELECT (jsonb_populate_record(e, jsonb_build_object("
        "'position', position + 1, 'event_id', gen_random_uuid(), 'stream_id', gen_random_uuid(), "
        f"'version', 1))).* FROM event AS e WHERE position = {at}",
    )


async def cut(scene: Scene) -> None:
    await scene.execute(f"DELETE FROM event WHERE position > {scene.held_position - 2}")


async def last_stream(scene: Scene) -> None:
    await scene.execute(f"DELETE FROM event WHERE stream_id = '{scene.last_stream}'")


async def forged_erasure(scene: Scene) -> None:
    subject = await scene.pool.fetchval(
        "UPDATE event SET data = NULL, salt = NULL WHERE position = $1 RETURNING subject_id",
        scene.altered,
    )
    await scene.pool.execute("INSERT INTO erasure VALUES ($1, 1000)", subject)


async def redated(scene: Scene) -> None:
    """What happened today is said to have happened before the witness came by."""
    await scene.execute(
        "UPDATE event SET recorded_at = (SELECT max(recorded_at) FROM event "
        f"WHERE position <= {scene.held_position}) WHERE position > {scene.held_position}"
    )


async def dated_before_others(scene: Scene) -> None:
    await scene.execute(
        "UPDATE event SET recorded_at = recorded_at - interval '1 hour' "
        "WHERE position = (SELECT max(position) FROM event)"
    )


async def split_view(scene: Scene) -> None:
    """Somebody else is shown another history of the same length."""
    await scene.alter("occurred_at")
    await scene.execute(f"DELETE FROM event WHERE position > {scene.held_position}")


ROWS: Final[tuple[Callable[[Scene], Awaitable[None]], ...]] = (
    *(deleted, inserted, cut, last_stream, forged_erasure, redated, dated_before_others),
    split_view,
)


UNSEEN: Final = {(redated, signed)}
"""What the audit of the database does not find."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    dsn = create_database()
    async with open_scene(dsn, tmp_path_factory.mktemp("ledger")) as opened:
        yield opened
    drop_database(dsn)


@pytest_asyncio.fixture(loop_scope="module")
async def scene(shared: Scene) -> Scene:
    await shared.restore()
    return shared


@pytest.fixture(scope="module")
def forger(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.generate(tmp_path_factory.mktemp("forger") / "key.pem")


def found_by(what: str | None) -> str:
    """In one word, what shows a tampering."""
    assert what is not None, "nothing is found"
    (word,) = {word for part, word in FOUND_BY.items() if part in what} or {what}
    return word


def documented() -> dict[str, list[str]]:
    """The cells of the tables in the docs, by the first one of each row."""
    page = (ROOT / "docs" / "proofs.md").read_text()
    page = page.split("## Whatever is altered shows")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([a-z |]+) \|$", page, re.MULTILINE)
    return {name: cells.split(" | ") for name, cells in rows}


async def test_the_docs_name_every_column_and_kind() -> None:
    rows = (change.__name__.replace("_", " ") for change in ROWS)
    assert set(documented()) == {*(f"`{column}`" for column in COLUMNS), *rows}


async def test_what_was_not_touched_is_not_wrong(scene: Scene) -> None:
    assert await scene.found() is None
    assert await scene.audited() is None


async def test_every_column_has_a_change(scene: Scene) -> None:
    columns = await scene.pool.fetch(
        "SELECT attname FROM pg_attribute "
        "WHERE attrelid = 'event'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    assert set(COLUMNS) == {each["attname"] for each in columns}


@pytest.mark.guarantee("G44")
@pytest.mark.parametrize("column", COLUMNS)
async def test_a_column(scene: Scene, forger: Signer, column: str) -> None:
    told = []
    for change in (scene.alter, scene.exchange):
        for kind in KINDS:
            await scene.restore()
            await change(column)
            await kind(scene, forger, column)
            told.append(found_by(await scene.found()))
            assert await scene.audited() is not None, kind
    assert told == documented()[f"`{column}`"]


@pytest.mark.guarantee("G44")
@pytest.mark.parametrize("change", ROWS, ids=lambda each: each.__name__)
async def test_rows(
    scene: Scene, forger: Signer, change: Callable[[Scene], Awaitable[None]]
) -> None:
    told = []
    for kind in KINDS:
        await scene.restore()
        await change(scene)
        await kind(scene, forger, "")
        told.append(found_by(await scene.found()))
        # What of today is dated anew with the log's key, only the times of witnesses show.
        assert await scene.audited() is not None or (change, kind) in UNSEEN
    assert told == documented()[change.__name__.replace("_", " ")]


@pytest.mark.guarantee("G44")
async def test_a_log_that_is_set_back(scene: Scene) -> None:
    """All of it is true and signed; whoever holds a later checkpoint sees that it ends early."""
    await scene.set_back()
    assert found_by(await scene.found()) == "held"
    assert await scene.audited() is not None
