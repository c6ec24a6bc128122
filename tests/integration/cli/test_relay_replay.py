"""`nbledger relay --replay`: killed at any moment, the same command goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from uuid import uuid4

import pytest
from click.testing import CliRunner
from support.replays import assert_first_in_order, fill, messages_in, positions
from support.services import kafka_name

from nbledger.main import main
from nbledger_infrastructure.postgres.database import Pool, acquire
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.settings import Kafka, Settings

EVENTS = 12_000
TENANT = uuid4()


def environment(dsn: str, kafka: str, prefix: str) -> dict[str, str]:
    return {
        "NBLEDGER_POSTGRES_DSN": dsn,
        "NBLEDGER_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "NBLEDGER_KAFKA_TOPIC_PREFIX": prefix,
        "NBLEDGER_KAFKA_IDEMPOTENT": str(kafka_name() == "apache").lower(),
    }


async def begun(env: dict[str, str], *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nbledger", "relay", "--replay", *arguments),
        env={**os.environ, **env},
        stdout=PIPE,
        stderr=PIPE,
    )


async def until_beyond(pool: Pool, position: int, process: Process) -> int:
    """How far the replay is, once that is further; nobody is told when."""
    async with asyncio.timeout(60):
        while process.returncode is None:
            async with acquire(pool) as connection:
                found: int = await connection.fetchval("SELECT max(position) FROM event_replay")
            if (found or 0) > position:
                return found
            await asyncio.sleep(0.005)
    return position


@pytest.mark.guarantee("G57")
async def test_what_is_killed_goes_on_without_a_gap(
    pool: Pool, store: EventStore, database_dsn: str, kafka: str, topic_prefix: str
) -> None:
    await fill(store, 40, EVENTS // 40, tenant=TENANT, project=uuid4())
    env = environment(database_dsn, kafka, topic_prefix)
    topic = f"{topic_prefix}.replay.late"
    kills, position = 0, 0
    for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM):
        process = await begun(env, "--topic", topic)
        position = await until_beyond(pool, position, process)
        if process.returncode is None:
            process.send_signal(number)
        out, told = await process.communicate()
        if process.returncode not in {0, 3, -signal.SIGKILL}:
            raise AssertionError((out, told))
        kills += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
    assert kills
    if process.returncode != 0:
        process = await begun(env, "--topic", topic)
        out, told = await process.communicate()
        assert process.returncode == 0, told
        assert b"Going on after position" in told
    assert out.decode() == (
        f"{EVENTS} events published to {topic}, up to position {EVENTS} of {EVENTS}\n"
    )
    config = Settings(kafka=Kafka(bootstrap_servers=kafka, topic_prefix=topic_prefix))
    found = await messages_in(config, topic, events=EVENTS)
    assert set(positions(found)) == set(range(1, EVENTS + 1))
    assert_first_in_order(found)
    # Each kill repeats what was on its way, and no more.
    assert len(found) - EVENTS <= kills * 2_000
    async with acquire(pool) as connection:
        assert await connection.fetchval("SELECT count(*) FROM event_replay") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--replay"], "--replay needs --topic"),
        (["--topic", "x"], "These options go with --replay"),
        (["--replay", "--topic", "own.events"], "is the live topic"),
        (["--replay", "--topic", "own.control"], "must begin with own.replay."),
        (["--replay", "--topic", "x", "--project", str(uuid4())], "--project needs --tenant"),
        (["--replay", "--topic", "x", "--from", "0"], "0 is not in the range"),
    ],
)
def test_what_cannot_be_replayed_is_told_before_anything_is_done(
    arguments: list[str], told: str
) -> None:
    env = environment("postgresql://nobody@127.0.0.1:1/none", "127.0.0.1:1", "own")
    result = CliRunner(env=env).invoke(main, ["relay", *arguments])
    assert result.exit_code == 2
    assert told in result.output


async def test_the_live_topic_gets_everything_again_where_that_is_confirmed(
    pool: Pool, store: EventStore, database_dsn: str, kafka: str, topic_prefix: str
) -> None:
    await fill(store, 2, 10, tenant=TENANT, project=uuid4())
    env = environment(database_dsn, kafka, topic_prefix)
    topic = f"{topic_prefix}.events"
    process = await begun(env, "--topic", topic, "--from", "5", "--to", "18", "--confirm-live")
    out, told = await process.communicate()
    assert process.returncode == 0, told
    assert out.startswith(b"14 events published")
    config = Settings(kafka=Kafka(bootstrap_servers=kafka, topic_prefix=topic_prefix))
    found = await messages_in(config, topic, events=14)
    assert sorted(positions(found)) == list(range(5, 19))
