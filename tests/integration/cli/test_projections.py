"""`nbledger projections`: how far they are, rebuilding, verifying; killed in the middle."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from uuid import UUID

import msgspec
import pytest
from support.event_store import connect, open_pool, open_store
from support.read_models import all_contents, catch_up
from support.stories import begin, record, step

from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_projections.registry import READ_MODELS
from nbledger_projections.status import ConsumerStatus, status

PROJECT = UUID(int=1)


async def started(dsn: str, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nbledger", "projections", *arguments),
        env={**os.environ, "NBLEDGER_POSTGRES_DSN": dsn},
        stdout=PIPE,
        stderr=PIPE,
    )


async def ended(dsn: str, *arguments: str) -> tuple[int | None, str, str]:
    process = await started(dsn, *arguments)
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def tell(store: EventStore, steps: int = 20) -> int:
    dice = random.Random(1)
    story = begin(dice, tenant_id=PROJECT, project_id=PROJECT)
    for _ in range(steps):
        step(story, dice)
    return await record(store, story)


async def status_of(pool: Pool, name: str) -> ConsumerStatus:
    found = await status(pool)
    return next(each for each in found.consumers if each.name == name)


@pytest.mark.guarantee("G52")
async def test_commands_on_projections(pool: Pool, store: EventStore, database_dsn: str) -> None:
    head = await tell(store)
    await catch_up(pool)
    async with acquire(pool) as connection:
        await connection.execute("INSERT INTO projection_checkpoint VALUES ('relay', $1)", head - 1)
        await connection.execute("DELETE FROM notebook_list")

    code, output, _ = await ended(database_dsn, "status", "--json")
    told = msgspec.json.decode(output)
    assert (code, told["position"]) == (0, head)
    consumers = {each["name"]: each for each in told["consumers"]}
    assert [each for each in consumers if consumers[each]["kind"] == "projection"] == [*READ_MODELS]
    known = consumers["notebook_list"]
    assert (known["state"], known["position"], known["lagEvents"]) == ("live", head, 0)
    assert (known["lagSeconds"], known["rebuild"]) == (0, None)
    assert known["perSecond"] == round(head / 60, 1)
    assert (consumers["relay"]["kind"], consumers["relay"]["lagEvents"]) == ("consumer", 1)
    assert consumers["relay"]["lagSeconds"] > 0

    code, output, errors = await ended(database_dsn, "verify", "notebook_list", "trigger_list")
    assert (code, errors.count("Traceback")) == (1, 0)
    assert f"notebook_list: 1 rows DIFFER at {head}" in output
    assert "is missing" in output
    assert "trigger_list: 0 rows equal" in output

    code, output, errors = await ended(database_dsn, "rebuild", "notebook_list", "--json")
    assert code == 0
    assert msgspec.json.decode(output) == {"rebuilt": [{"name": "notebook_list", "position": head}]}
    lines = [msgspec.json.decode(line) for line in errors.splitlines() if '"progress"' in line]
    assert [each["phase"] for line in lines for each in line["progress"]][-1] == "done"
    assert (await ended(database_dsn, "verify", "notebook_list"))[0] == 0

    code, output, _ = await ended(database_dsn, "status")
    rows = {line.split()[0]: line.split()[1:4] for line in output.splitlines()}
    assert rows["notebook_list"] == ["live", str(head), "0"]
    code, _, errors = await ended(database_dsn, "rebuild", "nothing")
    assert code == 1
    assert "notebook_list" in errors, "it names those that exist"


@pytest.mark.guarantee("G52")
async def test_a_rebuild_that_is_killed_is_begun_anew(database_dsn: str) -> None:
    """Killed while it waits to take its place: nothing has changed, and nothing is left at last."""
    name = "notebook_list"
    async with open_pool(database_dsn) as pool, open_store(pool) as store:
        head = await tell(store)
        await catch_up(pool)
        before = await all_contents(pool)
        async with connect(database_dsn) as other:
            held = other.transaction()
            await held.start()
            await other.execute(
                "SELECT FROM projection_checkpoint WHERE name = $1 FOR UPDATE", name
            )
            process = await started(database_dsn, "rebuild", name)
            assert process.stderr is not None
            async with asyncio.timeout(60):
                while b"waiting" not in await process.stderr.readline():
                    pass
            going = await status_of(pool, name)
            assert (going.state, going.position) == ("rebuilding", head)
            assert going.rebuild is not None
            assert (going.rebuild.percent, going.rebuild.phase) == (100, "waiting")
            process.send_signal(signal.SIGKILL)
            await process.communicate()
            async with asyncio.timeout(20):
                while (await status_of(pool, name)).state != "interrupted":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await held.rollback()
        assert await all_contents(pool) == before

        code, output, _ = await ended(database_dsn, "rebuild", name)
        assert (code, output) == (0, f"{name}: rebuilt as of position {head}\n")
        assert (await status_of(pool, name)).state == "live"
        assert await all_contents(pool) == before
        async with acquire(pool) as connection:
            assert not await connection.fetch(
                "SELECT FROM pg_namespace WHERE nspname LIKE 'rebuild%'"
            )
