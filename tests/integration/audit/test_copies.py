"""Copies of checkpoints in a folder and in a bucket whose objects are locked."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import os
import re
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from obstore.store import from_url
from structlog.testing import capture_logs
from support.s3 import S3Server, needs_s3, s3_server, s3_variables
from support.sealers import Installation, installation, sealing, until

from nbledger_audit.outside.copies import file_name
from nbledger_infrastructure.artifacts import once
from nbledger_infrastructure.artifacts.errors import ArtifactStoreUnavailableError
from nbledger_infrastructure.artifacts.once import open_once

if TYPE_CHECKING:
    from obstore.store import ClientConfig

TENANTS = [UUID(int=1), UUID(int=2)]
_NAME = re.compile(r"(?P<tenant>[0-9a-f-]{36})/[0-9]{8}T[0-9]{6}\.[0-9]{6}Z-(?P<size>[0-9]+)\.\w+")
# The server looks whether somebody signs, not who.
_SOMEBODY = (
    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, "
    "Signature=none"
)


@pytest.fixture
async def house(database_dsn: str, tmp_path: Path) -> AsyncIterator[Installation]:
    async with installation(database_dsn, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


def copied(folder: Path, tenant_id: UUID) -> list[Path]:
    return sorted((folder / str(tenant_id)).glob("*.checkpoint"))


async def until_copied(folder: Path, tenant_id: UUID, size: int) -> None:
    async def there() -> bool:
        return any(path.stem.endswith(f"-{size}") for path in copied(folder, tenant_id))

    await until(there)


async def test_a_folder_gets_checkpoints_once_and_for_good(
    house: Installation, tmp_path: Path
) -> None:
    """The folder comes later than the sealer, which tells so meanwhile and seals on."""
    folder = tmp_path / "copies"
    one, two = TENANTS
    settings = house.having(copies=folder.as_uri(), copy_seconds=0)
    async with sealing(settings) as lacking:
        await house.record(one, 3)
        await house.until_signed(one, 3)

        async def told() -> bool:
            return lacking.now == {"copies": "the folder is not there"}

        await until(told)
        await house.record(one, 2)
        await house.until_signed(one, 5)
        folder.mkdir()
        await until_copied(folder, one, 5)
        await house.record(one, 1)
        await house.record(two, 7)
        await until_copied(folder, one, 6)
        await until_copied(folder, two, 7)
        assert not lacking.now
    paths = copied(folder, one)
    checkpoints = await house.check_history([path.read_text() for path in paths], one)
    # Names sort as the log has grown.
    assert [each.size for each in checkpoints] == [5, 6]
    for path in folder.rglob("*.checkpoint"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o444
        assert _NAME.fullmatch(str(path.relative_to(folder)))


async def test_what_is_there_is_never_replaced(tmp_path: Path) -> None:
    place = open_once(tmp_path.as_uri())
    for _ in range(2):
        await place.put("a/1.checkpoint", b"whole")
    # What a crash has left half written stays, and the whole one comes beside it.
    (tmp_path / "a" / "2.checkpoint").write_bytes(b"ha")
    for _ in range(2):
        await place.put("a/2.checkpoint", b"half")
    found = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert found == {"1.checkpoint": b"whole", "2.checkpoint": b"ha", "2-1.checkpoint": b"half"}
    if os.geteuid() != 0:
        (tmp_path / "a").chmod(0o555)
        with pytest.raises(ArtifactStoreUnavailableError, match="Permission denied"):
            await place.put("a/3.checkpoint", b"")


def hanging() -> int:
    """How many threads of this process write a copy."""
    count = 0
    for frame in sys._current_frames().values():
        at: FrameType | None = frame
        while at is not None and (at.f_code.co_filename, at.f_code.co_name) != (
            once.__file__,
            "_put",
        ):
            at = at.f_back
        count += at is not None
    return count


async def test_a_folder_that_hangs_holds_up_nothing(
    house: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread waits for it, however often it is tried again; sealing, and stopping, go on."""
    monkeypatch.setattr(once, "WRITE_SECONDS", 0.05)
    tenant_id = TENANTS[0]
    async with sealing(house.settings):
        await house.record(tenant_id, 3)
        signed = await house.until_signed(tenant_id, 3)
    folder = tmp_path / "copies"
    name = file_name(tenant_id, signed.confirmed_at, signed.size)
    pipe = folder / f"{name}.checkpoint"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)  # to open it waits until somebody writes to it
    try:
        with capture_logs() as told:
            settings = house.having(copies=folder.as_uri(), copy_seconds=0)
            async with sealing(settings) as lacking:

                async def tried_again() -> bool:
                    reasons = [each for each in told if "not delivered" in each["event"]]
                    return len(reasons) > 3

                await until(tried_again)
                assert lacking.now == {"copies": "it does not answer"}
                assert hanging() == 1
                await house.record(tenant_id, 2)
                await house.until_signed(tenant_id, 5)
        assert hanging() == 1
    finally:
        os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))


_WRITING = """
import asyncio, sys
from nbledger_infrastructure.artifacts import once

async def main():
    once.WRITE_SECONDS = 0.05
    place = once.open_once(sys.argv[1])
    try:
        await place.put("pipe", b"")
    except once.ArtifactStoreUnavailableError as error:
        print(error)

asyncio.run(main())
"""


async def test_a_process_ends_though_a_folder_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-c", _WRITING, tmp_path.as_uri()]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        async with asyncio.timeout(60):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (told, process.returncode) == (b"it does not answer in time\n", 0)


@needs_s3
async def test_a_bucket_with_retention_keeps_checkpoints(
    house: Installation, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has the sealer's credentials cannot delete what it has written."""
    for name, value in s3_variables(server.port).items():
        monkeypatch.setenv(name, value)
    # S3 itself is content with a checksum; this server asks for the name of its kind, too.
    headers = {"x-amz-sdk-checksum-algorithm": "SHA256"}
    options: ClientConfig = {"default_headers": headers, "allow_http": True}
    monkeypatch.setattr(once, "from_url", partial(from_url, client_options=options))
    bucket = Bucket(server, "locked-copies")
    settings = house.having(copies=f"s3://{bucket.name}/ledger", copy_seconds=0)
    tenant_id = TENANTS[0]
    async with sealing(settings) as lacking:
        for size, count in ((3, 3), (5, 2)):
            await house.record(tenant_id, count)

            async def there(size: int = size) -> bool:
                return any(key.endswith(f"-{size}.checkpoint") for key in bucket.listed())

            await until(there)
        assert not lacking.now
    keys = bucket.listed()
    checkpoints = await house.check_history([bucket.get(key) for key in keys], tenant_id)
    assert [each.size for each in checkpoints] == [3, 5]
    for key in keys:
        assert key.startswith("ledger/")
        told = bucket.call("HEAD", f"/{key}", headers={"x-amz-checksum-mode": "ENABLED"})[2]
        assert told["x-amz-object-lock-mode"] == "COMPLIANCE"
        digest = hashlib.sha256(bucket.get(key).encode()).digest()
        assert told["x-amz-checksum-sha256"] == base64.b64encode(digest).decode()
        assert bucket.call("DELETE", f"/{key}?versionId={told['x-amz-version-id']}")[0] == 403
    # What was written already is not written again.
    place = open_once(settings.audit.copies)
    await place.put(keys[0].removeprefix("ledger/"), b"another")
    assert bucket.get(keys[0]) != "another"


class Bucket:
    """A bucket that keeps each object for a day, whoever wants to delete it."""

    def __init__(self, server: S3Server, name: str) -> None:
        self._server = server
        self.name = name
        self.call("PUT", "", headers={"x-amz-bucket-object-lock-enabled": "true"})
        rule = "<DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention>"
        status, _, _ = self.call(
            "PUT",
            "/?object-lock",
            body="<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>"
            f"<Rule>{rule}</Rule></ObjectLockConfiguration>",
        )
        assert status == 200

    def call(
        self, method: str, path: str, *, body: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection(self._server.host, self._server.port, timeout=10)
        try:
            told = {"Authorization": _SOMEBODY, **(headers or {})}
            connection.request(method, f"/{self.name}{path}", body, told)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), dict(answer.getheaders())
        finally:
            connection.close()

    def listed(self) -> list[str]:
        _, listed, _ = self.call("GET", "/?list-type=2")
        return re.findall("<Key>([^<]+)</Key>", listed)

    def get(self, key: str) -> str:
        status, content, _ = self.call("GET", f"/{key}")
        assert status == 200
        return content
