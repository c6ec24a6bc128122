"""Whoever changes history behind the store's back is found, and the place is named."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping

import asyncpg
import pytest
from support.event_store import METADATA, new_event, new_stream, open_pool, open_store
from support.old_store import old_database

from nbledger_infrastructure.postgres.database import Pool, migrate
from nbledger_infrastructure.postgres.event_store import Stream
from nbledger_infrastructure.postgres.event_store.audit import (
    Anchor,
    ErasedEvent,
    Fault,
    chain,
    verify,
)

DELETED = "notebook.deleted.v1"

CHANGES = {
    "position": ("position = 1000", "no event has this position", False),
    "stream_id": ("stream_id = gen_random_uuid()", "version 1 of the stream is missing", True),
    "version": ("version = 1000", "version 999 of the stream is missing", True),
    "event_id": ("event_id = gen_random_uuid()", "the event does not match its chain", True),
    "type": ("type = 'another.v1'", "the event does not match its chain", True),
    "subject_id": ("subject_id = gen_random_uuid()", "the event does not match its chain", True),
    "tenant_id": ("tenant_id = gen_random_uuid()", "the event does not match its chain", True),
    "project_id": ("project_id = gen_random_uuid()", "the event does not match its chain", True),
    "data": ("data = '{\"a\":  1}'", "the data does not match its digest", True),
    "metadata": ('metadata = \'{"actor":"another"}\'', "the event does not match its chain", True),
    "occurred_at": (
        "occurred_at = occurred_at - interval '1 microsecond'",
        "the event does not match its chain",
        True,
    ),
    "recorded_at": (
        "recorded_at = recorded_at + interval '1 microsecond'",
        "the event does not match its chain",
        True,
    ),
    "digest": ("digest = sha256('x')", "the data does not match its digest", True),
    "chain": ("chain = sha256('x')", "the event does not match its chain", True),
    "formula": ("formula = 3", "is not a known formula", True),
    "salt": ("salt = decode(repeat('00', 16), 'hex')", "the data does not match its digest", True),
    "metadata_salt": (
        "metadata_salt = decode(repeat('00', 16), 'hex')",
        "the event does not match its chain",
        True,
    ),
}

# What has no salt may not get one either.
UNSALTED_CHANGES = {
    **CHANGES,
    "salt": (CHANGES["salt"][0], "the salt is not as the formula says", True),
    "metadata_salt": (
        CHANGES["metadata_salt"][0],
        "the salt of the metadata is not as the formula says",
        True,
    ),
}


async def fill(pool: Pool) -> None:
    """Three streams of three events, written in turns, the second one's last."""
    async with open_store(pool) as store:
        streams = [new_stream() for _ in range(3)]
        for version in range(3):
            for stream in streams:
                await store.append(
                    stream, [new_event()], expected_version=version, metadata=METADATA
                )


@pytest.fixture
async def pool(database_dsn: str) -> AsyncIterator[Pool]:
    """A store with the events of `fill`."""
    async with open_pool(database_dsn) as pool:
        await fill(pool)
        yield pool


@pytest.fixture
async def old_pool() -> AsyncIterator[Pool]:
    """The same of before digests had salt, migrated."""
    async with old_database() as (dsn, pool):
        await fill(pool)
        await migrate(dsn)
        # Its connections have plans of before.
        async with open_pool(dsn) as migrated:
            yield migrated


async def erase(pool: Pool, row: asyncpg.Record) -> None:
    """Delete the subject of the row, whose own stream it is in, and erase it."""
    stream = Stream(row["stream_id"], row["subject_id"], row["tenant_id"], row["project_id"])
    async with open_store(pool) as store:
        await store.append(
            stream, [new_event(type_=DELETED)], expected_version=3, metadata=METADATA
        )
        await store.erase_subject(stream.subject_id)


async def fault_after(pool: Pool, *statements: str) -> Fault | None:
    assert (await verify(pool)).intact
    for statement in statements:
        await pool.execute(statement)
    return (await verify(pool)).fault


async def test_every_column_has_a_change(pool: Pool) -> None:
    columns = await pool.fetch(
        "SELECT attname FROM pg_attribute "
        "WHERE attrelid = 'event'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    assert set(CHANGES) == set(UNSALTED_CHANGES) == {each["attname"] for each in columns}


@pytest.mark.guarantee("G4")
async def test_a_change_of_any_column(pool: Pool) -> None:
    await check_changes(pool, CHANGES)


@pytest.mark.guarantee("G4")
async def test_a_change_of_any_column_of_before_there_was_salt(old_pool: Pool) -> None:
    await check_changes(old_pool, UNSALTED_CHANGES)


async def check_changes(pool: Pool, changes: Mapping[str, tuple[str, str, bool]]) -> None:
    await pool.execute("CREATE TABLE original AS TABLE event")
    for column, (change, what, row_is_named) in changes.items():
        fault = await fault_after(pool, f"UPDATE event SET {change} WHERE position = 5")
        assert fault is not None, column
        assert (fault.position, fault.what) == (5, what), column
        if row_is_named:
            row = await pool.fetchrow("SELECT stream_id, version FROM event WHERE position = 5")
            assert row is not None
            assert (fault.stream_id, fault.version) == tuple(row)
        await pool.execute("TRUNCATE event")
        await pool.execute("INSERT INTO event SELECT * FROM original")


@pytest.mark.guarantee("G4")
async def test_data_that_is_gone_without_an_erasure(pool: Pool) -> None:
    fault = await fault_after(pool, "UPDATE event SET data = NULL WHERE position = 5")
    assert fault is not None
    assert (fault.position, fault.what) == (
        5,
        "the data is missing, but no event deletes its subject",
    )


@pytest.mark.guarantee("G4")
@pytest.mark.guarantee("G50")
async def test_data_that_is_gone_behind_a_forged_erasure(pool: Pool) -> None:
    """The table of erasures says what anybody writes into it; the chain of events does not."""
    # Another subject's deletion covers nothing here, nor does one within the subject's streams.
    subject = await pool.fetchval("SELECT subject_id FROM event WHERE position = 5")
    async with open_store(pool) as store:
        for stream in (new_stream(), new_stream(subject_id=subject)):
            await store.append(
                stream, [new_event(type_=DELETED)], expected_version=0, metadata=METADATA
            )
    fault = await fault_after(
        pool,
        "INSERT INTO erasure (subject_id, position) SELECT DISTINCT subject_id, 9 FROM event",
        "UPDATE event SET data = NULL, salt = NULL WHERE position = 5",
    )
    assert fault is not None
    assert (fault.position, fault.what) == (
        5,
        "the data is missing, but no event deletes its subject",
    )


@pytest.mark.guarantee("G50")
async def test_each_erased_event_is_told_with_the_event_that_deleted_it(pool: Pool) -> None:
    row = await pool.fetchrow("SELECT * FROM event WHERE position = 5")
    assert row is not None
    await erase(pool, row)
    told: list[ErasedEvent] = []
    report = await verify(pool, on_erased=told.append)
    assert (report.intact, report.erased) == (True, 4)
    deletion = await pool.fetchrow("SELECT * FROM event WHERE position = 10")
    assert deletion is not None
    assert [(each.position, each.version) for each in told] == [(2, 1), (5, 2), (8, 3), (10, 4)]
    assert told[1] == ErasedEvent(
        position=5,
        stream_id=row["stream_id"],
        version=2,
        type=row["type"],
        subject_id=row["subject_id"],
        deletion_position=10,
        deleted_at=deletion["occurred_at"],
    )


@pytest.mark.guarantee("G4")
async def test_a_row_under_another_formula(pool: Pool, old_pool: Pool) -> None:
    """Neither can pass for the other, whatever else is changed to fit."""
    to_unsalted = (
        "formula = 1, salt = NULL, metadata_salt = NULL, "
        "digest = sha256(convert_to(data::text, 'UTF8'))"
    )
    fault = await fault_after(pool, f"UPDATE event SET {to_unsalted} WHERE position = 5")
    assert fault is not None
    assert (fault.position, fault.what) == (5, "the event does not match its chain")
    salt = "decode(repeat('07', 16), 'hex')"
    to_salted = (
        f"formula = 2, salt = {salt}, metadata_salt = {salt}, "
        f"digest = sha256({salt} || convert_to(data::text, 'UTF8'))"
    )
    fault = await fault_after(old_pool, f"UPDATE event SET {to_salted} WHERE position = 5")
    assert fault is not None
    assert (fault.position, fault.what) == (5, "the event does not match its chain")


async def test_a_salt_that_outlives_its_data(pool: Pool) -> None:
    row = await pool.fetchrow("SELECT * FROM event WHERE position = 5")
    assert row is not None
    await erase(pool, row)
    fault = await fault_after(pool, "UPDATE event SET salt = metadata_salt WHERE position = 5")
    assert fault is not None
    assert (fault.position, fault.what) == (5, "the salt of erased data is still there")


async def test_an_event_that_is_recorded_before_the_one_before_it(pool: Pool) -> None:
    """Also where its chain was computed to fit."""
    await pool.execute(
        "UPDATE event SET recorded_at = recorded_at - interval '1 hour' WHERE position = 9"
    )
    row = await pool.fetchrow("SELECT * FROM event WHERE position = 9")
    assert row is not None
    before = await pool.fetchval("SELECT chain FROM event WHERE position = 6")
    await pool.execute("UPDATE event SET chain = $1 WHERE position = 9", chain(before, row))
    fault = (await verify(pool)).fault
    assert fault is not None
    assert (fault.position, fault.what) == (9, "was recorded before the event before it")


async def test_data_and_digest_changed_together(pool: Pool) -> None:
    fault = await fault_after(
        pool, "UPDATE event SET data = '{}', digest = sha256(salt || '{}') WHERE position = 5"
    )
    assert fault is not None
    assert (fault.position, fault.what) == (5, "the event does not match its chain")


@pytest.mark.guarantee("G4")
async def test_a_deleted_row(pool: Pool) -> None:
    for position in (8, 5, 1):  # the first fault is the one that is named
        await pool.execute("DELETE FROM event WHERE position = $1", position)
        fault = (await verify(pool)).fault
        assert fault == Fault(position, None, None, "no event has this position")


async def test_a_deleted_row_with_the_gap_closed(pool: Pool) -> None:
    fault = await fault_after(
        pool,
        "DELETE FROM event WHERE position = 5",
        *(f"UPDATE event SET position = {p - 1} WHERE position = {p}" for p in range(6, 10)),
    )
    assert fault is not None
    assert (fault.position, fault.version) == (5, 2)
    assert fault.what == "the event does not match its chain"


@pytest.mark.guarantee("G4")
@pytest.mark.parametrize(
    ("column", "first", "second", "what"),
    [
        ("position", 4, 5, "the event does not match its chain"),
        ("position", 2, 5, "stands before version 1 of the stream"),
        ("version", 5, 8, "stands before version 2 of the stream"),
        ("data", 4, 8, "the data does not match its digest"),
        ("event_id", 4, 5, "the event does not match its chain"),
    ],
)
async def test_swapped_rows(pool: Pool, column: str, first: int, second: int, what: str) -> None:
    if column == "data":
        # Equal data could be swapped without a difference.
        async with open_store(pool) as store:
            for text in (b'{"x": 1}', b'{"x": 2}'):
                await store.append(
                    new_stream(), [new_event(text)], expected_version=0, metadata=METADATA
                )
        first, second = 10, 11
    key = "event_id" if column == "position" else "position"
    rows = await pool.fetch(
        f"SELECT {key}::text, {column}::text FROM event WHERE position IN ($1, $2) "
        "ORDER BY position",
        first,
        second,
    )
    (key_1, value_1), (key_2, value_2) = rows
    free = {"position": "1000", "version": "1000", "data": "{}"}.get(column, "0" * 32)
    fault = await fault_after(
        pool,
        f"UPDATE event SET {column} = '{free}' WHERE {key} = '{key_1}'",
        f"UPDATE event SET {column} = '{value_1}' WHERE {key} = '{key_2}'",
        f"UPDATE event SET {column} = '{value_2}' WHERE {key} = '{key_1}'",
    )
    assert fault is not None
    assert (fault.position, fault.what) == (first, what)


@pytest.mark.guarantee("G4")
async def test_an_anchor_finds_a_cut_off_end(pool: Pool) -> None:
    report = await verify(pool)
    anchor = Anchor(report.position, report.fingerprint)
    assert (await verify(pool, anchor=anchor)).intact
    async with open_store(pool) as store:
        await store.append(new_stream(), [new_event()], expected_version=0, metadata=METADATA)
    assert (await verify(pool, anchor=anchor)).intact
    await pool.execute("DELETE FROM event WHERE position > 7")
    assert (await verify(pool)).intact  # nothing in the table tells
    cut = await verify(pool, anchor=anchor)
    assert cut.fault == Fault(8, None, None, "events are missing from the end")


@pytest.mark.guarantee("G4")
async def test_an_anchor_finds_a_history_written_anew(pool: Pool) -> None:
    report = await verify(pool)
    await pool.execute("TRUNCATE event")
    async with open_store(pool) as store:
        for _ in range(9):
            await store.append(new_stream(), [new_event()], expected_version=0, metadata=METADATA)
    assert (await verify(pool)).intact
    again = await verify(pool, anchor=Anchor(report.position, report.fingerprint))
    assert again.fault is not None
    assert (again.fault.position, again.fault.what) == (
        9,
        "history up to here differs from the earlier audit",
    )


async def test_the_report(pool: Pool) -> None:
    reached: list[int] = []
    report = await verify(pool, progress=reached.append)
    assert (report.events, report.streams, report.erased, report.position) == (9, 3, 0, 9)
    assert report.unsalted == 0
    assert re.fullmatch(r"[0-9a-f]{64}", report.fingerprint)
    assert reached == [9]


async def test_an_empty_store_is_intact(database_dsn: str) -> None:
    async with open_pool(database_dsn) as pool:
        report = await verify(pool)
    assert (report.intact, report.events, report.position) == (True, 0, 0)
