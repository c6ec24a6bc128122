"""Witnesses over HTTP: checkpoints with their signatures, and the policy to judge them by."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from support.api import Api
from support.event_store import METADATA, new_event
from support.shared_api import api, api_server
from support.tlog import new_signer
from support.witnesses import serving

from nbledger_audit.cosigning import kept
from nbledger_audit.cosigning.asking import Asking
from nbledger_audit.cosigning.client import http_client
from nbledger_audit.keys import verify
from nbledger_audit.sealer import Sealer
from nbledger_audit.signing import CheckpointSigner
from nbledger_domain.transparency.notes import read_note
from nbledger_domain.transparency.policies import UntrustedCheckpointError, read_policy
from nbledger_domain.transparency.proofs import read_proof
from nbledger_infrastructure.postgres.event_store import Stream
from nbledger_infrastructure.postgres.tokens import Role

__all__ = ["api", "api_server"]


@pytest.mark.guarantee("G42")
async def test_whoever_has_the_policy_judges_checkpoints_and_proofs(
    api: Api, tmp_path: Path
) -> None:
    signer = new_signer(tmp_path, "sealer")
    checkpoints = CheckpointSigner(signer, "ledger.example.com", tmp_path / "signed")
    sealer = Sealer(api.pool, checkpoints, 3600.0)
    vkey = signer.key(checkpoints.origin_of(api.tenant_id)).encoded
    client = await api.client(Role.AUDITOR, base=f"/audit/log/{api.tenant_id}")

    async def record() -> int:
        stream = Stream(uuid4(), uuid4(), api.tenant_id, uuid4())
        events = [new_event(b"{}") for _ in range(3)]
        await api.store.append(stream, events, expected_version=0, metadata=METADATA)
        await sealer.tick()
        await sealer.sign()
        return (await api.store.read_all(after_position=0, limit=1000))[-1].position

    async with api.pool.acquire() as connection:
        await checkpoints.tell_key(connection)
    position = await record()
    told = (await client.get("/policy")).text
    assert read_policy(told).maximum_age is None, "nobody has told of witnesses yet"
    async with serving(tmp_path, vkey, name="witness.example/w1") as witness:
        policy = read_policy(
            f"# maximum-age 600\nwitness w1 {witness.key.encoded} {witness.url}\nquorum w1"
        )
        async with api.pool.acquire() as connection:
            await kept.tell_policy(connection, policy)
        state = (await client.get("")).json()
        assert (state["size"], state["signedSize"], state["maximumAgeSeconds"]) == (3, 3, 600)
        assert state["witnesses"] == [
            {
                "name": "w1",
                "verifierKey": witness.key.encoded,
                "size": 0,
                "cosignedAt": None,
                "problem": None,
            }
        ]
        answer = await client.get("/policy")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        known = read_policy(answer.text)
        assert known.logs[0].key.encoded == vkey
        assert known.logs[0].url == state["links"]["policy"].removesuffix("/policy")
        assert witness.url not in answer.text
        with pytest.raises(UntrustedCheckpointError):
            known.judge(read_note((await client.get("/checkpoint")).text), verify)

        async with http_client() as http:
            await Asking(api.pool, policy, policy.witnesses[0], http).round()
        await record()
        state = (await client.get("")).json()
        assert (state["size"], state["signedSize"]) == (3, 6), "the witness was not asked again"
        assert (state["witnesses"][0]["size"], state["witnesses"][0]["problem"]) == (3, None)
        note = read_note((await client.get("/checkpoint")).text)
        verdict = known.judge(note, verify)
        assert verdict.checkpoint.size == 3
        assert verdict.witnessed_at is not None
        proof = await client.get(f"/inclusion?position={position}&format=tlog-proof")
        assert known.judge(read_proof(proof.text).checkpoint, verify) == verdict
        later = await client.get(f"/inclusion?position={position + 3}")
        assert later.json()["code"] == "event_not_signed"
        assert (await client.get("/consistency?from=1")).json()["checkpoint"] == str(note)
        foreign = await api.client(Role.ADMIN, tenant_id=uuid4(), base=client.base_url.path)
        assert (await foreign.get("/policy")).status_code == 404
