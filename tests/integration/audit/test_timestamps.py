"""Timestamps of checkpoints by a real authority, which openssl checks without us."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from uuid import UUID

import pytest
from structlog.testing import capture_logs
from support.paths import ROOT
from support.sealers import Installation, installation, sealing, until
from support.timestamps import Authority, authority

from nbledger_audit import bundles, logs, reading, sealer, stamps
from nbledger_audit.outside.timestamps import text_of
from nbledger_audit.sealer import Sealer
from nbledger_audit.signing import CheckpointSigner
from nbledger_audit.stamps import Timestamp
from nbledger_infrastructure.settings_loading import SettingsError

TENANTS = [UUID(int=1), UUID(int=2)]


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with authority(tmp_path_factory.mktemp("tsa")) as made:
        yield made


@pytest.fixture
async def house(database_dsn: str, tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(database_dsn, tmp_path) as made:
        yield made


async def stamped(house: Installation, tenant_id: UUID) -> list[Timestamp]:
    async with house.pool.acquire() as connection:
        return await reading.timestamps(connection, tenant_id)


async def until_stamped(house: Installation, tenant_id: UUID, size: int) -> Timestamp:
    async def found() -> Timestamp | None:
        all_of_them = await stamped(house, tenant_id)
        return next((each for each in all_of_them if each.size == size), None)

    return await until(found)


async def test_an_authority_stamps_checkpoints_and_openssl_checks_them(
    house: Installation, tsa: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    began = datetime.now(UTC)
    settings = house.having(
        timestamp_url=tsa.url,
        timestamp_ca_file=str(tsa.ca_file),
        timestamp_seconds=0.2,
        copies=folder.as_uri(),
        copy_seconds=0,
    )
    one, two = TENANTS
    tsa.refuses = True
    async with sealing(settings) as lacking:
        await house.record(one, 3)
        await house.until_signed(one, 3)

        async def told() -> bool:
            return lacking.now == {"timestamps": "the authority answers 503"}

        await until(told)
        tsa.refuses = False
        # Logs at rest are stamped again and again.
        await until_stamped(house, one, 3)
        await house.record(two, 1)
        found = await until_stamped(house, two, 1)

        async def twice() -> bool:
            return len(await stamped(house, two)) > 1

        await until(twice)

        async def copied() -> bool:
            return len(list((folder / str(two)).glob("*-1.tsr"))) > 1

        await until(copied)
        assert not lacking.now
    text = text_of(found.note)
    assert text == "".join(f"{line}\n" for line in found.note.split("\n")[:3]).encode()
    assert tsa.verifies(text, found.response)
    assert not tsa.verifies(text.replace(b"\n1\n", b"\n2\n"), found.response)
    # The authority tells whole seconds.
    assert began - timedelta(seconds=1) <= found.stamped_at <= datetime.now(UTC)
    for path in (folder / str(two)).glob("*.tsr"):
        checkpoint = path.with_suffix(".checkpoint").read_text()
        assert tsa.verifies(text_of(checkpoint), path.read_bytes())
        await house.check_history([checkpoint], two)


# As much of jq as the commands use, for machines that do not have it.
_JQ = f"""#!{sys.executable}
import json, re, sys
form, path, file = sys.argv[1:]
value = json.load(open(file))
for name, number in re.findall(r"[.](\\w+)|\\[(\\d+)\\]", path):
    value = value[name] if name else value[int(number)]
print(value, end="" if form == "-j" else "\\n")
"""


async def test_the_documented_commands_check_a_stamp(
    house: Installation, tsa: Authority, tmp_path: Path
) -> None:
    settings = house.having(timestamp_url=tsa.url, timestamp_ca_file=str(tsa.ca_file))
    async with sealing(settings):
        await house.record(TENANTS[0], 3)
        found = await until_stamped(house, TENANTS[0], 3)
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/proofs.md").read_text(), re.DOTALL)
    (block,) = (each for each in blocks if "openssl ts" in each)
    (fetching, *checking) = block.splitlines()
    assert fetching.startswith("curl ")
    response = base64.b64encode(found.response).decode()
    answer = {"items": [{"checkpoint": found.note, "response": response}]}
    (tmp_path / "newest.json").write_text(json.dumps(answer))
    shutil.copy(tsa.ca_file, tmp_path / "tsa.pem")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "jq").write_text(_JQ)
    (tmp_path / "bin" / "jq").chmod(0o700)
    paths = [f"{tmp_path / 'bin'}:{os.environ['PATH']}"]
    if shutil.which("jq") is not None:
        paths.append(os.environ["PATH"])
    for path in paths:
        done = await asyncio.to_thread(
            subprocess.run, ["bash", "-euo", "pipefail", "-c", "\n".join(checking)], cwd=tmp_path,
            env={**os.environ, "PATH": path}, timeout=60, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        assert "Verification: OK" in done.stdout + done.stderr
        assert (tmp_path / "checkpoint.txt").read_bytes() == text_of(found.note)
        assert (tmp_path / "checkpoint.tsr").read_bytes() == found.response
        (tmp_path / "checkpoint.tsr").unlink()


async def test_the_commands_of_a_bundle_check_a_stamp(
    house: Installation, tsa: Authority, tmp_path: Path
) -> None:
    settings = house.having(timestamp_url=tsa.url, timestamp_ca_file=str(tsa.ca_file))
    async with sealing(settings):
        await house.record(TENANTS[0], 3)
        found = await until_stamped(house, TENANTS[0], 3)
    told = (resources.files(bundles) / "VERIFY.md").read_text()
    (block,) = (each for each in re.findall(r"```\n(.*?)```", told, re.DOTALL) if "openssl" in each)
    (tmp_path / "checkpoint").write_text(found.note)
    (tmp_path / "checkpoint.tsr").write_bytes(found.response)
    shutil.copy(tsa.ca_file, tmp_path / "authority.pem")
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path,
        timeout=60, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Verification: OK" in done.stdout + done.stderr
    assert "Time stamp: " in done.stdout


async def test_only_a_checkpoint_of_this_moment_is_stamped(
    house: Installation, tsa: Authority
) -> None:
    """Of an older one, what was recorded since would look as if it was dated back."""
    tenant_id = TENANTS[0]
    async with sealing(house.settings):
        await house.record(tenant_id, 3)
        await house.until_signed(tenant_id, 3)
    async with house.pool.acquire() as connection:
        hour = "confirmed_at = confirmed_at - interval '1 hour'"
        await connection.execute(f"UPDATE transparency_log SET {hour}")
    # Nobody has entered these yet; a stamp of the old checkpoint would be later than them.
    await house.record(tenant_id, 2)
    settings = house.having(
        timestamp_url=tsa.url,
        timestamp_ca_file=str(tsa.ca_file),
        timestamp_seconds=1e6,
        idle_checkpoint_seconds=1e6,
    )
    async with sealing(settings):
        await until_stamped(house, tenant_id, 5)
    assert [each.size for each in await stamped(house, tenant_id)] == [5]
    # Nor of a log that has not grown: it is signed anew.
    async with house.pool.acquire() as connection:
        await connection.execute(f"UPDATE transparency_log SET {hour}")
        await connection.execute(
            "UPDATE log_delivery SET confirmed_at = '2000-01-01', delivered_at = '2000-01-01'"
        )
        before = await logs.newest(connection, tenant_id)
    async with sealing(settings):

        async def again() -> bool:
            async with house.pool.acquire() as connection:
                told = await connection.fetchval("SELECT confirmed_at FROM log_delivery")
            return bool(told.year > 2000)

        await until(again)
    async with house.pool.acquire() as connection:
        after = await logs.newest(connection, tenant_id)
    assert before is not None
    assert after is not None
    assert after.confirmed_at > before.confirmed_at


async def test_what_an_authority_answers_is_checked(
    house: Installation, tsa: Authority, tmp_path: Path
) -> None:
    (other := tmp_path / "other").mkdir()
    with authority(other) as stranger:
        settings = house.having(timestamp_url=tsa.url, timestamp_ca_file=str(stranger.ca_file))
        async with sealing(settings) as lacking:
            await house.record(TENANTS[0], 1)

            async def told() -> bool:
                return "the authority's answer is not good" in lacking.now.get("timestamps", "")

            await until(told)
    assert not await stamped(house, TENANTS[0])
    with pytest.raises(SettingsError, match="timestamp_ca_file: no file"):
        sealer.outlets_of(house.having(timestamp_url=tsa.url), house.pool)


async def test_events_that_are_dated_back_are_told(house: Installation, tmp_path: Path) -> None:
    one, two = TENANTS
    signer = CheckpointSigner(house.signer, "ledger.example.com", tmp_path / "signed")

    def at_work() -> Sealer:
        return Sealer(house.pool, signer, 3600.0, skew_seconds=60)

    async def told_of(change: str, *, of: UUID = one, count: int = 2) -> list[tuple[str, int]]:
        """What a sealer tells of some events, the last of which is changed before it comes."""
        await house.record(of, count)
        async with house.pool.acquire() as connection:
            await connection.execute(
                f"UPDATE event SET recorded_at = recorded_at {change} "
                "WHERE position = (SELECT max(position) FROM event)"
            )
            head = await connection.fetchval("SELECT max(position) FROM event")
        with capture_logs() as lines:
            await at_work().tick()
        return [(line["event"], line["position"] - head) for line in lines if "position" in line]

    before, without = (
        "an event is dated before one before it",
        "an event is dated before a checkpoint without it",
    )
    assert await told_of("") == []
    assert await told_of("- interval '1 second'") == [(before, 0)]
    # Across batches, too: the one before was entered by another sealer.
    assert await told_of("+ interval '1 hour'") == []
    assert await told_of("- interval '1 second'", count=1) == [(before, 0)]
    async with house.pool.acquire() as connection:
        await connection.execute("UPDATE event SET recorded_at = clock_timestamp()")
        for later, tenant_id in ((50, one), (70, two)):
            seen = datetime.now(UTC) + timedelta(seconds=later)
            await stamps.keep(connection, tenant_id, 1, seen, b"")
    assert await told_of("", of=one) == []
    assert await told_of("", of=two) == [(without, -1), (without, 0)]
