"""Who acts is told by name, is stored by id, and can be erased."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from support.api import Api, running_api, settings_for
from support.event_store import METADATA, connect, new_event, new_stream, open_pool, open_store
from support.leftovers import tables_as_text
from support.old_store import old_database, old_token
from support.read_models import catch_up
from support.schedules import SetClock, scheduler
from support.wheels import make_wheel

from nbledger_http.representations.filters import by_recorded_ids, with_filter_by_names
from nbledger_infrastructure.kafka.cloudevents import attributes, event_headers
from nbledger_infrastructure.postgres import principals, tokens
from nbledger_infrastructure.postgres.database import Pool, acquire, migrate
from nbledger_infrastructure.postgres.principals import Erased, Names
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_projections.registry import READ_MODELS

NAME = "Zelda Quux"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def make_everything(api: Api, client: httpx.AsyncClient, folder: Path) -> dict[str, str]:
    """One of each of what tells who made it; the addresses."""
    made = await client.post(
        "/notebook",
        json={
            "notebookName": "N",
            "initialCells": [
                # A client's own members are nobody's names.
                {"cellType": "code", "content": "1", "metadata": {"createdBy": NAME[::-1]}}
            ],
            "integration": {"scheduleExecution": {"cron": "0 0 1 1 *"}},
        },
        headers={"traceparent": TRACE},
    )
    assert made.status_code == 201, made.text
    assert made.json()["createdBy"] == NAME
    notebook = f"/notebook/{made.json()['notebookId']}"
    asked = await client.post(f"{notebook}/execute", headers={"traceparent": f"of {NAME}"})
    assert asked.status_code == 202, asked.text
    assert asked.json()["requestedBy"] == NAME
    execution = f"{notebook}/execution/{asked.json()['executionId']}"
    cancelled = await client.post(f"{execution}/cancel")
    assert (cancelled.status_code, cancelled.json()["requestedBy"]) == (202, NAME)
    dataset = await client.post("/dataset/csv", files={"file": ("a.csv", b"a,b\n1,2\n")})
    assert dataset.status_code == 201, dataset.text
    assert dataset.json()["createdBy"] == NAME
    wheel = make_wheel(folder, "rules")
    content = await asyncio.to_thread(wheel.read_bytes)
    library = await client.post("/library", files={"file": (wheel.name, content)})
    assert library.status_code == 201, library.text
    assert library.json()["uploadedBy"] == NAME
    await catch_up(api.pool, "execution_status")
    # It finds no other execution, and is told as it was asked for.
    asked_for = {"action": "cancel", "filter": f'requestedBy = "{NAME}" AND NOT tag:*'}
    missed = await client.post("/execution-actions", json={**asked_for, "expectedCount": 7})
    assert missed.json()["code"] == "count_mismatch"
    assert missed.json()["count"] == 1
    action = await client.post("/execution-actions", json={**asked_for, "expectedCount": 1})
    assert (action.status_code, action.json()["requestedBy"]) == (202, NAME), action.text
    assert action.json()["filter"] == asked_for["filter"]
    return {
        "notebook": notebook,
        "execution": execution,
        "action": f"/execution-actions/{action.json()['actionId']}",
        "dataset": f"/dataset/{dataset.json()['datasetId']}",
        "library": f"/library/{library.json()['libraryId']}",
    }


async def unseen(pool: Pool) -> None:
    """Wait until nobody on the server, which other tests use as well, can see what was before."""
    async with asyncio.timeout(60):
        while await pool.fetchval(principals._SEEN):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)


async def erase_whole(pool: Pool, principal_id: UUID) -> None:
    """Erase a name, from the file of the table, too."""
    assert await principals.erase(pool, principal_id) is not None
    await unseen(pool)
    # What is erased already is so again.
    assert await principals.erase(pool, principal_id) == Erased(rewritten=True)


async def told(client: httpx.AsyncClient, made: dict[str, str], name: str) -> dict[str, Any]:
    """Who is said to have done each of these things, by that ``name``."""

    async def get(path: str) -> Any:
        answer = await client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    dataset = await get(made["dataset"])
    listed = await get(f"{made['notebook']}/executions")
    followed = await client.get(f"{made['execution']}/events")
    lines = [line for line in followed.text.splitlines() if line.startswith("data: ")]
    found = await get(f"/executions?filter=requestedBy = '{name}'")
    return {
        "found": found["executions"][0]["requestedBy"],
        "chain": (await get(f"{made['execution']}/chain"))["executions"][0]["requestedBy"],
        "action": (await get(made["action"]))["requestedBy"],
        "listed action": (await get("/execution-actions"))["actions"][0]["requestedBy"],
        "filter": (await get(made["action"]))["filter"].split('"')[1],
        "notebook": (await get(made["notebook"]))["createdBy"],
        "execution": (await get(made["execution"]))["requestedBy"],
        "listed": listed["executions"][0]["requestedBy"],
        "schedule": (await get(f"{made['notebook']}/schedule"))["setBy"],
        "dataset": dataset["createdBy"],
        "version": dataset["versions"][0]["createdBy"],
        "library": (await get(made["library"]))["uploadedBy"],
        "followed": json.loads(lines[0].removeprefix("data: "))["actor"],
        **{
            f"history of {kind}": (await get(f"{path}/history"))["events"][0]["actor"]
            for kind, path in made.items()
            if kind != "action"
        },
    }


@pytest.mark.guarantee("G5")
async def test_a_name_is_kept_in_one_place_and_erased_there(
    database_dsn: str, tmp_path: Path
) -> None:
    config = settings_for(database_dsn, tmp_path / "artifacts")
    async with running_api(config) as api:
        made, principal_id, client = await act(api, tmp_path)
        await scheduler(api.pool, api.store, SetClock()).tick()
        for name in READ_MODELS:
            await catch_up(api.pool, name)
        before = await told(client, made, NAME)
        assert set(before.values()) == {NAME}
        history = (await client.get(f"{made['notebook']}/history")).json()["events"]
        assert history[0]["actorId"] == str(principal_id)
        assert history[0]["data"]["createdBy"] == str(principal_id)
        assert history[0]["data"]["cells"][0]["metadata"] == {"createdBy": NAME[::-1]}
        tables = await tables_as_text(api.pool)
        assert [name for name, text in tables.items() if NAME in text] == ["principal"]

        await erase_whole(api.pool, principal_id)
        assert await principals.erase(api.pool, UUID(int=7)) is None
        tables = await tables_as_text(api.pool)
        assert [name for name, text in tables.items() if NAME in text] == []
        (left,) = [
            each
            for each in await principals.list_all(api.pool, api.tenant_id)
            if each.principal_id == principal_id
        ]
        assert (left.name, left.valid_tokens) == (None, 0)
        recorded = await api.store.read_all(after_position=0, limit=100)
        assert NAME not in repr([event_headers(each, address="") for each in recorded])
        assert {each.metadata.traceparent for each in recorded} == {TRACE, None}
        tenant, project = api.tenant_id, api.project_id
        secret = client.headers["authorization"]
    # An API that has no name in memory any more.
    async with running_api(config) as api:
        base = f"/api/{tenant}/{project}"
        other = await api.client(base=base, tenant_id=tenant)
        shown = await told(other, made, str(principal_id))
        assert set(shown.values()) == {str(principal_id)}
        ended = api.anonymous(base=base, headers={"Authorization": secret})
        assert (await ended.get("/notebooks")).status_code == 401
        # Who comes later under that name is somebody else.
        _, again = await tokens.create(
            api.pool, name=NAME, tenant_id=tenant, project_ids=None, roles=[Role.READER]
        )
        assert again.principal_id != principal_id


async def act(api: Api, folder: Path) -> tuple[dict[str, str], UUID, httpx.AsyncClient]:
    secret, token = await tokens.create(
        api.pool, name=NAME, tenant_id=api.tenant_id, project_ids=None, roles=[Role.ADMIN]
    )
    client = api.anonymous(base=api.base, headers={"Authorization": f"Bearer {secret}"})
    return await make_everything(api, client, folder), token.principal_id, client


async def test_a_filter_tells_no_name_of_another_tenant(database_dsn: str, tmp_path: Path) -> None:
    async with running_api(settings_for(database_dsn, tmp_path / "artifacts")) as api:
        _, other = await tokens.create(
            api.pool, name=NAME, tenant_id=UUID(int=7), project_ids=None, roles=[Role.READER]
        )
        wanted = f'requestedBy = "{other.principal_id}"'
        client = await api.client(Role.EDITOR)
        made = await client.post(
            "/execution-actions", json={"action": "cancel", "filter": wanted, "expectedCount": 0}
        )
        assert (made.status_code, made.json()["filter"]) == (202, wanted), made.text


async def test_a_name_is_shown_for_moments_after_its_erasure(database_dsn: str) -> None:
    async with open_pool(database_dsn) as pool:
        _, token = await tokens.create(
            pool, name=NAME, tenant_id=UUID(int=1), project_ids=None, roles=[Role.READER]
        )
        moment = 0.0
        names = Names(pool, clock=lambda: moment)
        actor = str(token.principal_id)
        others = ["scheduler", "worker:w1", str(UUID(int=7)), "ann"]
        assert await names.of(UUID(int=1), [actor, *others]) == {
            actor: NAME,
            **{each: each for each in others},
        }
        # To another tenant it is an id, whoever was told first.
        assert (await names.of(UUID(int=2), [actor]))[actor] == actor
        await principals.erase(pool, token.principal_id)
        assert (await names.of(UUID(int=1), [actor]))[actor] == NAME
        moment = principals.REMEMBER_SECONDS + 0.1
        assert (await names.of(UUID(int=1), [actor]))[actor] == actor


async def test_an_erasure_does_not_wait_for_who_keeps_the_table_in_use(database_dsn: str) -> None:
    async def erase(principal_id: UUID) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nbledger", "principals", "erase", str(principal_id)),
            env={**os.environ, "NBLEDGER_POSTGRES_DSN": database_dsn},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            told, wrong = await process.communicate()
        return process.returncode, told.decode(), wrong.decode()

    async with open_pool(database_dsn) as pool:
        _, token = await tokens.create(
            pool, name=NAME, tenant_id=UUID(int=1), project_ids=None, roles=[Role.READER]
        )
        principal_id = token.principal_id
        file = "SELECT pg_relation_filenode('principal')"
        before = await pool.fetchval(file)
        async with acquire(pool) as connection, connection.transaction():
            await connection.fetch("SELECT FROM principal")
            status, told, wrong = await erase(principal_id)
        assert (status, told) == (1, f"erased {principal_id}\n")
        assert "the name is erased" in wrong
        assert f"nbledger principals erase {principal_id}" in wrong
        assert await pool.fetchval(file) == before
        (left,) = await principals.list_all(pool, UUID(int=1))
        assert (left.name, left.valid_tokens) == (None, 0)
        await unseen(pool)
        assert await erase(principal_id) == (0, f"erased {principal_id}\n", "")
        assert await pool.fetchval(file) != before


async def test_events_of_before_keep_their_names_and_publish_none() -> None:
    stream = new_stream()
    async with old_database() as (dsn, old):
        async with open_store(old) as store:
            old_metadata = type(METADATA)(actor=NAME)
            await store.append(stream, [new_event()], expected_version=0, metadata=old_metadata)
        await old_token(old, NAME, stream.tenant_id)
        await migrate(dsn)
        async with open_pool(dsn) as pool, open_store(pool) as store:
            (principal,) = await principals.list_all(pool)
            await erase_whole(pool, principal.principal_id)
            tables = await tables_as_text(pool)
            assert [name for name, text in tables.items() if NAME in text] == ["event"]
            (recorded,) = await store.read_stream(stream.stream_id)
            published = attributes(event_headers(recorded, address=""))
            assert (published["authtype"], "authid" in published) == ("api_key", False)
            assert NAME not in repr(published)
            # Nor is it in the files, where dead rows and dropped columns stay otherwise.
            await pool.execute("CHECKPOINT")
            for table in ("api_token", "principal"):
                content = await pool.fetchval(
                    "SELECT pg_read_binary_file(pg_relation_filepath($1))", table
                )
                assert NAME.encode() not in content


@pytest.mark.parametrize("where", ["a snapshot here", "a transaction elsewhere"])
async def test_a_name_that_is_still_to_be_seen_is_not_called_gone(
    database_dsn: str, where: str
) -> None:
    server, _, _ = database_dsn.rpartition("/")
    other_dsn = database_dsn if where == "a snapshot here" else f"{server}/postgres"
    async with open_pool(database_dsn) as pool, connect(other_dsn) as other:
        async with acquire(pool) as connection:
            principal_id = await principals.ensure(connection, uuid4(), NAME)
        async with other.transaction(isolation="repeatable_read"):
            await other.execute(
                "SELECT FROM pg_class LIMIT 1"
                if where == "a snapshot here"
                else "SELECT pg_current_xact_id()"
            )
            assert await principals.erase(pool, principal_id) == Erased(rewritten=False)
        await unseen(pool)
        assert await principals.erase(pool, principal_id) == Erased(rewritten=True)
        await pool.execute("CHECKPOINT")
        content = await pool.fetchval(
            "SELECT pg_read_binary_file(pg_relation_filepath('principal'))"
        )
        assert NAME.encode() not in content


async def test_a_filter_for_events_of_before_finds_id_and_name_and_is_shown_as_one() -> None:
    stream = new_stream()
    async with old_database() as (dsn, old):
        async with open_store(old) as store:
            await store.append(stream, [new_event()], expected_version=0, metadata=METADATA)
        await old_token(old, NAME, stream.tenant_id)
        await migrate(dsn)
        async with open_pool(dsn) as pool:
            (principal,) = await principals.list_all(pool)
            said = f'requestedBy = "{NAME}" OR tag = "x" AND requestedBy != "{NAME}"'
            names = Names(pool)
            _, kept = await by_recorded_ids(names, stream.tenant_id, said)
            assert (kept.count(NAME), kept.count(str(principal.principal_id))) == (2, 2)
            document = json.dumps({"filter": kept}).encode()
            (shown,) = await with_filter_by_names(names, stream.tenant_id, [document])
            assert json.loads(shown)["filter"] == said
