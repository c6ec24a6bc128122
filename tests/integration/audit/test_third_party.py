"""A bundle as a program of others checks it: ``fsck`` of Tessera, which knows nothing of us."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.bundles import open_ledger
from support.paths import TESTS

pytestmark = [pytest.mark.third_party, pytest.mark.timeout(600)]

MODULE = TESTS / "integration" / "audit" / "fsck"
PROGRAM = "github.com/transparency-dev/tessera/cmd/fsck"
BUILD_SECONDS = 500
SECONDS = 60


@pytest.fixture(scope="module")
def fsck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    built = tmp_path_factory.mktemp("go") / "fsck"
    subprocess.run(
        [go, "build", "-o", built, PROGRAM],
        cwd=MODULE,
        env={**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false"},
        check=True,
        timeout=BUILD_SECONDS,
    )
    return built


def checked(program: Path, bundle: Path, key: str) -> str:
    """What the program says; its status is 0 whatever it finds.

    A worker of it ends at the first tile that is wrong, and nothing goes on without any: there are
    more of them than tiles.
    """
    key_file = bundle.with_name("key")
    key_file.write_text(key)
    ended = subprocess.run(
        [
            program,
            "--ui=false",
            "-N=16",
            f"--storage_url=file://{bundle}/",
            f"--public_key={key_file}",
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    return ended.stderr


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swapped(path: Path) -> None:
    """The first two entries of a bundle of entries in each other's place."""
    content = path.read_bytes()
    first = 2 + int.from_bytes(content[:2], "big")
    second = first + 2 + int.from_bytes(content[first : first + 2], "big")
    path.write_bytes(content[first:second] + content[:first] + content[second:])


TOUCHED: list[tuple[str, Callable[[Path], None]]] = [
    ("tile/entries/000", flipped),
    ("tile/entries/001", swapped),
    ("tile/entries/002.p/92", Path.unlink),
    ("tile/0/000", flipped),
    ("tile/0/002.p/92", flipped),
    ("tile/1/000.p/2", flipped),
    ("tile/1/000.p/2", Path.unlink),
    ("checkpoint", flipped),
]


@pytest.mark.guarantee("G43")
async def test_a_whole_bundle_is_a_log_to_programs_of_others(
    database_dsn: str, fsck: Path, tmp_path: Path
) -> None:
    async with open_ledger(database_dsn, tmp_path) as ledger:
        notebook = await ledger.notebook()
        await ledger.execution(notebook, 600)
        await ledger.delete(notebook)
        await ledger.execution(await ledger.notebook(), 1)
        await ledger.seal()
        bundle = tmp_path / "bundle"
        await ledger.export(bundle)
        key = ledger.key
    found = await asyncio.to_thread(checked, fsck, bundle, key)
    assert "Successfully fsck'd log with size 604 " in found
    for name, touch in TOUCHED:
        copy = tmp_path / "copy"
        shutil.copytree(bundle, copy)
        touch(copy / name)
        found = await asyncio.to_thread(checked, fsck, copy, key)
        assert "fsck failed" in found, (name, touch)
        assert "Successfully" not in found
        shutil.rmtree(copy)
