"""What is hashed has salt, which goes with the data; and a store of before goes on with it."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from support.event_store import METADATA, new_event, new_stream, open_pool, open_store
from support.old_store import old_database, old_token

from nbledger_infrastructure.postgres import principals, tokens
from nbledger_infrastructure.postgres.database import Pool, migrate
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_infrastructure.postgres.event_store.audit import Anchor, verify


async def test_every_event_has_salts_of_its_own(store: EventStore, pool: Pool) -> None:
    """Those of one append, of a batch, and those beside an append that is refused."""
    taken = new_stream()
    await store.append(taken, [new_event()], expected_version=0, metadata=METADATA)
    outcomes = await asyncio.gather(
        store.append(new_stream(), [new_event()], expected_version=0, metadata=METADATA),
        store.append(
            new_stream(),
            [new_event(), new_event(), new_event()],
            expected_version=0,
            metadata=METADATA,
        ),
        store.append(taken, [new_event()], expected_version=0, metadata=METADATA),
        *(
            store.append(new_stream(), [new_event()], expected_version=0, metadata=METADATA)
            for _ in range(20)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(each, Exception) for each in outcomes) == 1
    rows = await pool.fetch("SELECT formula, salt, metadata_salt, digest FROM event")
    assert {each["formula"] for each in rows} == {2}
    salts = [each[name] for each in rows for name in ("salt", "metadata_salt")]
    assert {len(salt) for salt in salts} == {16}
    assert len(set(salts)) == len(salts) == 50
    # The same data, and yet another digest each time.
    assert len({each["digest"] for each in rows}) == 25
    assert (await verify(pool)).intact


@pytest.mark.guarantee("G5")
async def test_the_salt_goes_with_the_data_and_that_of_the_metadata_stays(
    store: EventStore, pool: Pool
) -> None:
    stream, kept = new_stream(), new_stream()
    for each in (stream, kept):
        await store.append(each, [new_event()], expected_version=0, metadata=METADATA)
    gone = new_event(type_="notebook.deleted.v1")
    await store.append(stream, [gone], expected_version=1, metadata=METADATA)
    before = await pool.fetch("SELECT metadata_salt FROM event ORDER BY position")
    assert len(await store.first_salt(stream.stream_id) or b"") == 16
    await store.erase_subject(stream.stream_id)
    rows = await pool.fetch("SELECT salt, metadata_salt FROM event ORDER BY position")
    assert [each["salt"] is None for each in rows] == [True, False, True]
    assert [each["metadata_salt"] for each in rows] == [each["metadata_salt"] for each in before]
    assert await store.first_salt(stream.stream_id) is None
    assert await store.first_salt(uuid.uuid4()) is None
    report = await verify(pool)
    assert (report.intact, report.erased) == (True, 2)


async def test_a_store_of_before_goes_on_and_its_events_stay_as_they_are() -> None:
    going_on, erased = new_stream(), new_stream()
    tenant, other = uuid.uuid4(), uuid.uuid4()
    async with old_database() as (dsn, old):
        async with open_store(old) as store:
            for stream, last in ((going_on, "thing.happened.v1"), (erased, "notebook.deleted.v1")):
                await store.append(
                    *(stream, [new_event(), new_event(type_=last)]),
                    expected_version=0,
                    metadata=METADATA,
                )
        ids = [await old_token(old, name, tenant) for name in ("ann", "ann", "bob")]
        ids.append(await old_token(old, "ann", other))
        before = await old.fetch("SELECT * FROM event ORDER BY position")
        assert await migrate(dsn) != []
        async with open_pool(dsn) as pool:
            after = await pool.fetch("SELECT * FROM event ORDER BY position")
            assert [dict(each) for each in after] == [
                {**dict(each), "formula": 1, "salt": None, "metadata_salt": None} for each in before
            ]
            report = await verify(pool)
            assert (report.intact, report.events, report.unsalted) == (True, 4, 4)
            async with open_store(pool) as store:
                await store.append(going_on, [new_event()], expected_version=2, metadata=METADATA)
                assert await store.first_salt(going_on.stream_id) == b""
                await store.erase_subject(erased.stream_id)
            anchor = Anchor(report.position, report.fingerprint)
            report = await verify(pool, anchor=anchor)
            assert (report.intact, report.events, report.unsalted) == (True, 5, 4)
            assert report.erased == 2
            # Tokens of one name and tenant are of one principal.
            found = {each.token_id: each for each in await tokens.list_all(pool)}
            told = [(found[each].principal_id, found[each].name) for each in ids]
            assert [name for _, name in told] == ["ann", "ann", "bob", "ann"]
            assert told[0] == told[1]
            assert len({principal for principal, _ in told}) == 3
            assert await principals.names_in_events(pool)


_SAMPLED = """
SELECT tablename || '.' || attname FROM pg_stats
WHERE most_common_vals::text LIKE '%Zelda%' OR most_common_elems::text LIKE '%Zelda%'
    OR histogram_bounds::text LIKE '%Zelda%'
"""

_FILES = """
SELECT relname, relfilenode FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
    AND relname ~ '^(idempotency_key|execution_list|execution_tag|automation|schedule)'
ORDER BY relname
"""

_NAMED = """
INSERT INTO idempotency_key
    (tenant_id, principal_id, operation, key_digest, answer, stream_id, subject_id, created_at)
    SELECT id, id, 'o', '', 'Zelda', id, id, now() FROM ids;
INSERT INTO execution_list
    (execution_id, notebook_id, tenant_id, project_id, requested_at, requested_position, status,
     requested_by, cause, tags)
    SELECT id, id, id, id, now(), 1, 's', 'Zelda', 'c', '{Zelda}' FROM ids;
INSERT INTO execution_tag SELECT id, id, id, id, now(), 1, 'Zelda' FROM ids;
INSERT INTO automation SELECT id, id, id, '{}', 'Zelda' FROM ids;
INSERT INTO automation_trigger
    SELECT id, id, id, id, 'Zelda', 'running', '[]', id, NULL, NULL, false FROM ids;
"""


async def test_no_sample_of_what_may_be_erased_outlives_the_migration() -> None:
    async with old_database() as (dsn, pool):
        ids = "CREATE TABLE ids AS SELECT gen_random_uuid() AS id FROM generate_series(1, 10);"
        await pool.execute(f"{ids} {_NAMED} ANALYZE")
        sampled = {each[0] for each in await pool.fetch(_SAMPLED)}
        assert sampled == {
            *("idempotency_key.answer", "execution_list.tags", "execution_list.requested_by"),
            *("execution_tag.tag", "automation.set_by", "automation_trigger.set_by"),
        }
        files = await pool.fetch(_FILES)
        await migrate(dsn)
        assert await pool.fetch(_SAMPLED) == []
        assert await pool.fetch(_FILES) == files  # neither a table nor an index was written anew
        await pool.execute("ANALYZE")
        assert await pool.fetch(_SAMPLED) == []
        # All columns of this kind, those of schedules, too.
        left = """
            SELECT attrelid::regclass || '.' || attname FROM pg_attribute
            JOIN pg_class ON pg_class.oid = attrelid
            WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
                AND attname ~ '_by$' AND attstattarget IS DISTINCT FROM 0
        """
        assert await pool.fetch(left) == []


async def test_names_are_in_no_event_of_a_new_store(store: EventStore, pool: Pool) -> None:
    assert not await principals.names_in_events(pool)
    await store.append(new_stream(), [new_event()], expected_version=0, metadata=METADATA)
    assert not await principals.names_in_events(pool)
