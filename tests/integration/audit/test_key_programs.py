"""Keys of programs: the one that the documentation shows, with openssl, and others that fail."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from support.paths import ROOT
from support.sealers import ORIGIN, Installation, installation, sealing, until

from nbledger_audit import key_programs, logs, sealer
from nbledger_audit.key_programs import ProgramKey
from nbledger_audit.keys import KeyFileError, Signer, SigningError, sign
from nbledger_audit.sealer import Sealer
from nbledger_audit.signing import CheckpointSigner
from nbledger_infrastructure.settings_loading import SettingsError

TENANT = UUID(int=1)


@pytest.fixture
async def house(database_dsn: str, tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(database_dsn, tmp_path) as made:
        yield made


def program(folder: Path, text: str) -> str:
    path = folder / "program"
    path.write_text(text)
    path.chmod(0o700)
    return str(path)


def documented(folder: Path) -> str:
    """The program of the documentation."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/deployment.md").read_text(), re.DOTALL)
    (found,) = (block for block in blocks if "openssl pkeyutl" in block)
    return program(folder, found)


async def test_a_program_signs_checkpoints(
    house: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key goes away meanwhile: then nothing is signed, that is told, and events are entered."""
    key = tmp_path / "key.pem"
    monkeypatch.setenv("KEY", str(key))
    settings = house.having(key_file="", key_command=[documented(tmp_path)])
    async with sealing(settings) as lacking:
        await house.record(TENANT, 3)
        signed = await house.until_signed(TENANT, 3)
        await house.check_history([signed.note], TENANT)
        key.rename(tmp_path / "away")
        await house.record(TENANT, 2)

        async def told() -> bool:
            return "key" in lacking.now

        await until(told)

        async def entered() -> bool:
            async with house.pool.acquire() as connection:
                size = await connection.fetchval("SELECT size FROM transparency_log")
            return bool(size == 5)

        await until(entered)
        (tmp_path / "away").rename(key)
        later = await house.until_signed(TENANT, 5)
        assert "key" not in lacking.now
    await house.check_history([signed.note, later.note], TENANT)


# It signs once another one is at work; alone it gives up.
_TOGETHER = """#!/bin/sh
if [ "$1" = public ]; then exec openssl pkey -in "$KEY" -pubout; fi
mkdir "$AT_WORK/$$"
trap 'sleep 0.1; rm -rf "$AT_WORK/$$"' EXIT
for try in $(seq 80); do
    if [ "$(ls "$AT_WORK" | wc -l)" -ge 2 ]; then
        cat > "$AT_WORK/$$/text"
        openssl pkeyutl -sign -rawin -inkey "$KEY" -in "$AT_WORK/$$/text"
        exit
    fi
    sleep 0.05
done
echo nobody else is at work >&2
exit 1
"""


async def test_several_programs_sign_side_by_side(
    house: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each log's checkpoints still come in order."""
    (tmp_path / "at-work").mkdir()
    monkeypatch.setenv("AT_WORK", str(tmp_path / "at-work"))
    monkeypatch.setenv("KEY", str(tmp_path / "key.pem"))
    monkeypatch.setattr(key_programs, "ANSWER_SECONDS", 20.0)
    command = [program(tmp_path, _TOGETHER)]
    checkpoints = CheckpointSigner(await ProgramKey.open(command), ORIGIN, tmp_path / "signed")
    at_work = Sealer(house.pool, checkpoints, 0.0)
    tenants = [UUID(int=number) for number in range(1, 5)]
    for count in (3, 2):
        for tenant_id in tenants:
            await house.record(tenant_id, count)
        await at_work._enter()
        await at_work.sign()
    for tenant_id in tenants:
        async with house.pool.acquire() as connection:
            found = await logs.checkpoints_after(connection, tenant_id, 0, 10)
        notes = [each.note for each in found]
        assert [each.size for each in await house.check_history(notes, tenant_id)] == [3, 5]


@pytest.mark.parametrize("form", ["pem", "der", "raw"])
async def test_what_a_program_may_print(tmp_path: Path, form: str) -> None:
    signer = Signer.generate(tmp_path / "key.pem")
    pem = f"openssl pkey -in {tmp_path}/key.pem -pubout"
    prints = {
        "pem": pem,
        "der": f"{pem} -outform DER | base64 -w0",
        "raw": f"echo {base64.b64encode(signer.public).decode()}",
    }
    expected = await signer.raw_signature(b"text\n")
    answers = f"cat > /dev/null; echo {base64.b64encode(expected).decode()}"
    text = f"#!/bin/sh\nif [ $1 = public ]; then {prints[form]}; else {answers}; fi\n"
    key = await ProgramKey.open([program(tmp_path, text)])
    assert key.public == signer.public
    assert await sign(key, "log", "text\n") == signer.sign("log", "text\n")
    # A signature of something else is found at once.
    with pytest.raises(SigningError, match="not of the public key"):
        await sign(key, "log", "another text\n")


async def test_programs_that_fail_are_told(
    house: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_programs, "ANSWER_SECONDS", 0.5)
    monkeypatch.setenv("NBLEDGER_POSTGRES_DSN", "secret")
    told = {
        "exit 3": "status 3",
        "echo access denied >&2; exit 1": "access denied",
        "sleep 60": "no answer in 0.5 seconds",
        "echo AAAA": "prints no Ed25519 key",
        "openssl genpkey -algorithm x25519 | openssl pkey -pubout": "another kind",
        "echo ${NBLEDGER_POSTGRES_DSN:-nothing} >&2; exit 1": "nothing",
        "head -c 100000 /dev/zero": "public",
    }
    for command, reason in told.items():
        path = program(tmp_path, f"#!/bin/sh\n{command}\n")
        with pytest.raises(KeyFileError, match=reason):
            await ProgramKey.open([path])
    with pytest.raises(KeyFileError, match="No such file"):
        await ProgramKey.open([str(tmp_path / "none")])
    for changed in ({"key_command": ["true"]}, {"key_file": ""}):
        with pytest.raises(SettingsError, match="must be set, or key_command"):
            await sealer._open_signer(house.having(**changed).audit)
    with pytest.raises(SettingsError, match=r"audit\.key_command: "):
        await sealer._open_signer(house.having(key_file="", key_command=["false"]).audit)
