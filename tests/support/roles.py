"""The five roles as processes of their own, each with the credentials of its own user."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
from support.databases import as_user
from support.paths import ROOT

from nbledger import notify
from nbledger.children import Child
from nbledger_audit.keys import Signer
from nbledger_infrastructure.postgres import tokens
from nbledger_infrastructure.postgres.database import Pool, close_pool, connect_pool

ROLES = ("api", "relay", "projector", "sealer", "worker")

_STOP_SECONDS = 20.0
_STATEMENT_SECONDS = 30.0
_REQUEST_SECONDS = 60.0

_REFUSED = re.compile("permission denied|InsufficientPrivilege|AuthorizationFailed")

_CELL = """
from mindzie_sdk import ProcessMiningClient
client = ProcessMiningClient()
client.save_enriched_dataset(client.load_dataset(), "again", "csv")
"""


@asynccontextmanager
async def running_roles(
    folder: Path, environments: Mapping[str, Mapping[str, str]]
) -> AsyncIterator[dict[str, Child]]:
    """Start the roles named, each with its environment; ended in reverse order."""
    children: dict[str, Child] = {}
    async with AsyncExitStack() as stack:
        socket = await stack.enter_async_context(notify.sockets())
        for name, environment in environments.items():
            child = Child(
                name,
                environment,
                instance=f"roles-{folder.name}",
                log_file=folder / f"{name}.log",
                socket=socket(name),
            )
            stack.push_async_callback(child.stop, _STOP_SECONDS)
            await child.start()
            children[name] = child
        yield children


@asynccontextmanager
async def database_users(dsn: str) -> AsyncIterator[dict[str, str]]:
    """A user of the database for each role and for an auditor, with its rights and no others.

    Gives their DSNs; the users go at the end.
    """
    owner = await asyncpg.connect(dsn, timeout=_STATEMENT_SECONDS)
    suffix = (await owner.fetchval("SELECT current_database()"))[-8:]
    users = {name: f"{name}_{suffix}" for name in (*ROLES, "auditor")}
    try:
        # Roles are the whole server's, and not made twice by two at a time.
        async with owner.transaction():
            await owner.execute("SELECT pg_advisory_xact_lock(1)", timeout=_STATEMENT_SECONDS)
            rights = (ROOT / "deploy/postgres/roles.sql").read_text()
            await owner.execute(rights.replace("BEGIN;", "").replace("COMMIT;", ""))
            for name, user in users.items():
                await owner.execute(
                    f"CREATE ROLE {user} LOGIN PASSWORD '{user}' IN ROLE nbledger_{name}"
                )
        yield {name: as_user(dsn, user, user) for name, user in users.items()}
    finally:
        for user in users.values():
            await owner.execute(f"DROP ROLE IF EXISTS {user}", timeout=_STATEMENT_SECONDS)
        await owner.close(timeout=_STATEMENT_SECONDS)


async def check_roles_work(
    owner_dsn: str, environments: Mapping[str, Mapping[str, str]], folder: Path
) -> None:
    """Have every role do all of its work: a notebook is made, bound, run, read and erased.

    `environments` hold what each role connects with; the rest is set here.
    """
    tenant, project = uuid.uuid4(), uuid.uuid4()
    pool = await connect_pool(owner_dsn, application_name="test")
    common = {
        "NBLEDGER_ARTIFACTS_URL": (folder / "artifacts").as_uri(),
        "NBLEDGER_HTTP_PORT": "0",
        "NBLEDGER_WORKER_WORK_FOLDER": str(folder / "work"),
        "NBLEDGER_WORKER_POOL_MAX": "1",
        **sealing(folder),
    }
    try:
        token, _ = await tokens.create(
            pool,
            name="test",
            tenant_id=tenant,
            project_ids=[project],
            roles=[tokens.Role.EDITOR, tokens.Role.AUDITOR],
        )
        async with (
            running_roles(
                folder, {name: {**common, **own} for name, own in environments.items()}
            ) as children,
            httpx.AsyncClient(
                base_url=f"{children['api'].details['url']}/api/{tenant}/{project}",
                headers={"Authorization": f"Bearer {token}"},
                timeout=_REQUEST_SECONDS,
            ) as client,
        ):
            notebook = await _check_requests(client)
            async with asyncio.timeout(_REQUEST_SECONDS):
                await _erased(pool, notebook)
                if "sealer" in environments:
                    await _sealed(pool, tenant)
        for name in environments:
            log = (folder / f"{name}.log").read_text()
            refusals = [line for line in log.splitlines() if _REFUSED.search(line)]
            assert not refusals, f"{name}: {refusals[0]}"
    finally:
        await close_pool(pool)


async def _check_requests(client: httpx.AsyncClient) -> uuid.UUID:
    dataset = await client.post("/dataset/csv", files={"file": ("a.csv", b"a,b\n1,2\n")})
    assert dataset.status_code == 201, dataset.text
    created = await client.post(
        "/notebook",
        json={
            "notebookName": "Rights",
            "integration": {"datasetBinding": dataset.json()["datasetId"]},
            "initialCells": [{"cellType": "code", "content": _CELL}],
        },
    )
    assert created.status_code == 201, created.text
    notebook = created.json()["notebookId"]
    for replayed in (None, "true"):
        started = await client.post(
            f"/notebook/{notebook}/execute", headers={"Idempotency-Key": '"rights"'}
        )
        assert started.status_code == 202, started.text
        assert started.headers.get("idempotency-replayed") == replayed
    run = f"/notebook/{notebook}/execution/{started.json()['executionId']}"
    status = await client.get(run, headers={"Prefer": "wait=60"})
    assert status.json()["status"] == "Completed", status.text
    results = await client.get(f"{run}/results")
    assert len(results.json()["enrichedDatasets"]) == 1, results.text
    await _check_automatic_run(client, notebook)
    for path in ("/notebooks", f"{run}/history"):
        answer = await client.get(path)
        assert answer.status_code == 200, answer.text
    deleted = await client.delete(f"/notebook/{notebook}")
    assert deleted.status_code == 204, deleted.text
    return uuid.UUID(notebook)


async def _check_automatic_run(client: httpx.AsyncClient, notebook: str) -> None:
    """The notebook runs because its cells have changed."""
    changed = await client.put(
        f"/notebook/{notebook}",
        json={
            "integration": {"autoExecution": {"quietSeconds": 0}},
            "cells": [{"cellType": "code", "content": "1"}],
        },
    )
    assert changed.status_code == 200, changed.text
    triggers: list[dict[str, str]] = []
    async with asyncio.timeout(_REQUEST_SECONDS):
        while not triggers:
            await asyncio.sleep(0.1)
            told = await client.get(f"/notebook/{notebook}/automatic-execution")
            triggers = told.json()["triggers"]
    run = f"/notebook/{notebook}/execution/{triggers[0]['executionId']}"
    status = await client.get(run, headers={"Prefer": "wait=60"})
    assert (status.json()["status"], status.json()["cause"]["kind"]) == ("Completed", "cells")


def sealing(folder: Path) -> dict[str, str]:
    """What a sealer needs besides the database, with a new key."""
    Signer.generate(folder / "sealer.pem")
    return {
        "NBLEDGER_AUDIT_ORIGIN": "ledger.example.com",
        "NBLEDGER_AUDIT_KEY_FILE": str(folder / "sealer.pem"),
        "NBLEDGER_AUDIT_STATE_FOLDER": str(folder / "signed"),
        "NBLEDGER_AUDIT_CHECKPOINT_SECONDS": "0.1",
    }


async def _sealed(pool: Pool, tenant: uuid.UUID) -> None:
    """Wait until a checkpoint is signed of all that was recorded."""
    async with pool.acquire() as connection:
        while not await connection.fetchval(  # noqa: ASYNC110 - another process signs
            "SELECT max(size) = (SELECT count(*) FROM event WHERE tenant_id = $1) "
            "FROM log_checkpoint WHERE tenant_id = $1", tenant
        ):  # fmt: skip
            await asyncio.sleep(0.05)


async def _erased(pool: Pool, notebook: uuid.UUID) -> None:
    """Wait until the data of the deleted notebook is gone."""
    async with pool.acquire() as connection:
        while not await connection.fetchval(  # noqa: ASYNC110 - another process erases
            "SELECT EXISTS (SELECT FROM erasure WHERE subject_id = $1)", notebook
        ):
            await asyncio.sleep(0.05)
