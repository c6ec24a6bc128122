"""The log as a program of others reads it: one in Go that knows nothing of nbledger."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest
from support.api import Api
from support.event_store import METADATA, new_event
from support.paths import TESTS
from support.shared_api import api, api_server

from nbledger_audit.keys import Signer
from nbledger_audit.sealer import Sealer
from nbledger_audit.signing import CheckpointSigner
from nbledger_infrastructure.postgres.event_store import Stream
from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]

pytestmark = [pytest.mark.third_party, pytest.mark.timeout(600)]

SOURCE = TESTS / "integration" / "http" / "tlogcheck"
BUILD_SECONDS = 500
SECONDS = 60


@pytest.fixture(scope="module")
def tlogcheck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    built = tmp_path_factory.mktemp("go") / "tlogcheck"
    subprocess.run(
        [go, "build", "-o", built, "."],
        cwd=SOURCE,
        env={**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false"},
        check=True,
        timeout=BUILD_SECONDS,
    )
    return built


def checked(program: Path, api: Api, token: str, key: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, f"{api.url}/audit/log/{api.tenant_id}", key],
        env={**os.environ, "TOKEN": token},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.mark.guarantee("G37")
async def test_a_program_of_others_verifies_the_log_and_finds_what_was_altered(
    api: Api, tlogcheck: Path, tmp_path: Path
) -> None:
    signer = Signer.generate(tmp_path / "key.pem")
    checkpoints = CheckpointSigner(signer, "ledger.example.com", tmp_path / "signed")
    sealer = Sealer(api.pool, checkpoints, 3600.0)
    client = await api.client(Role.AUDITOR, base=f"/audit/log/{api.tenant_id}")
    token = client.headers["authorization"].removeprefix("Bearer ")
    async with api.pool.acquire() as connection:
        await checkpoints.tell_key(connection)
    for count in (3, 300, 300):
        stream = Stream(uuid4(), uuid4(), api.tenant_id, uuid4())
        events = [new_event(b'{"n": %d}' % number) for number in range(count)]
        await api.store.append(stream, events, expected_version=0, metadata=METADATA)
        await sealer.tick()
        await sealer.sign()
    key = (await client.get("")).json()["verifierKeys"][0]
    origin = f"ledger.example.com/audit/log/{api.tenant_id}"

    found = await asyncio.to_thread(checked, tlogcheck, api, token, key)
    assert (found.returncode, found.stdout) == (
        0,
        f"{origin}: 603 entries, all of them signed for\n",
    ), found.stderr

    other = Signer.generate(tmp_path / "other.pem").key(origin).encoded
    found = await asyncio.to_thread(checked, tlogcheck, api, token, other)
    assert found.returncode == 1, "a key that did not sign"
    async with api.pool.acquire() as connection:
        await connection.execute(
            "UPDATE event SET recorded_at = recorded_at - interval '1 second' "
            "WHERE tenant_id = $1 AND version = 299",
            api.tenant_id,
        )
    found = await asyncio.to_thread(checked, tlogcheck, api, token, key)
    assert found.returncode == 1, "an event was re-dated"
    assert "hash" in found.stderr, found.stderr
