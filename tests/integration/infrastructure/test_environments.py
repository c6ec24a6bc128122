"""Environments that are provided: by the real uv, from wheels that are made here."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support.wheels import make_wheel, only_from

from nbledger_infrastructure.artifacts.store import file_digest
from nbledger_infrastructure.packages import (
    Environment,
    EnvironmentCache,
    EnvironmentFailedError,
    Installed,
    KeptWheel,
    Libraries,
    Wanted,
    parse_requirement,
)
from nbledger_infrastructure.packages.libraries import can_import

MARKER = "nbledger-environment.json"
PROGRAM = """
import asyncio, sys
from pathlib import Path
from nbledger_infrastructure.packages import EnvironmentCache, Installed, Wanted

async def main():
    cache = EnvironmentCache(
        Path(sys.argv[1]), Installed(), max_bytes=0, max_environment_bytes=0, build_seconds=60
    )
    async def tell(stage, key, packages):
        print(stage, file=sys.stderr, flush=True)
    (await cache.open(Wanted(tuple(sys.argv[2:])), tell)).release()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def installed() -> Installed:
    return Installed()


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wheels"
    only_from(folder, monkeypatch)
    return folder


class Cache:
    """A cache in a folder, with what it has told."""

    def __init__(
        self,
        folder: Path,
        installed: Installed,
        *,
        max_bytes: int = 0,
        max_environment_bytes: int = 0,
        build_seconds: float = 60.0,
    ) -> None:
        self.folder = folder
        self.told: list[str] = []
        self.cache = EnvironmentCache(
            folder,
            installed,
            max_bytes=max_bytes,
            max_environment_bytes=max_environment_bytes,
            build_seconds=build_seconds,
        )

    async def tell(self, stage: str, key: str | None, packages: Sequence[str]) -> None:
        self.told.append(stage)

    async def made(self, *requirements: str, libraries: Sequence[Path] = ()) -> Environment:
        """The environment, let go of."""
        held = await self.cache.open(Wanted(requirements, tuple(libraries)), self.tell)
        assert held is not None
        held.release()
        return held.environment

    def there(self) -> set[str]:
        """The keys of all environments that are there, whole or not."""
        return {path.name for path in (self.folder / "environments").iterdir()}


def imported(environment: Environment, *names: str) -> list[str]:
    """What an interpreter of the environment says that these are, in their order."""
    program = "; ".join(f"import {name.partition('.')[0]}; print({name})" for name in names)
    run = subprocess.run(
        [environment.python, "-c", program], capture_output=True, text=True, check=True
    )
    return run.stdout.splitlines()


async def test_an_environment_has_what_is_asked_for_beside_what_kernels_have(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    make_wheel(wheels, "tinyone", requires=["tinytwo>=2"])
    make_wheel(wheels, "tinytwo", "1.0")
    make_wheel(wheels, "tinytwo", "2.5")
    cache = Cache(tmp_path / "cache", installed)
    made = await cache.made("tinyone")
    assert made.packages == ["tinyone==1.0", "tinytwo==2.5"]
    assert cache.told == ["resolving", "building", "ready"]
    versions = imported(
        made, "tinyone.VERSION", "tinytwo.VERSION", "mindzie_sdk.__name__", "ipykernel.__file__"
    )
    assert versions[:3] == ["1.0", "2.5", "mindzie_sdk"]
    assert Path(versions[3]).is_relative_to(sys.prefix)

    # The same is found again, also by others, and without uv.
    again = Cache(tmp_path / "cache", installed)
    (tmp_path / "uv.toml").write_text("nonsense")
    assert await again.made("tinyone") == made
    assert again.told == ["ready"]


async def test_another_version_than_the_installed_one_comes_before_it(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    assert installed.version("click") is not None
    make_wheel(wheels, "click", "99.0")
    made = await Cache(tmp_path / "cache", installed).made("click==99.0")
    assert made.packages == ["click==99.0"]
    assert imported(made, "click.VERSION") == ["99.0"]


async def test_what_resolves_to_the_same_is_the_same(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    make_wheel(wheels, "tinyone", "1.5")
    cache = Cache(tmp_path / "cache", installed)
    made = await cache.made("tinyone")
    assert await cache.made("tinyone<2") == made
    assert cache.told == ["resolving", "building", "ready", "resolving", "ready"]


async def test_what_cannot_be_had_is_told_in_words_and_leaves_nothing(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    make_wheel(wheels, "tinyone")
    make_wheel(wheels, "against", requires=["ipykernel<1"])
    cache = Cache(tmp_path / "cache", installed)
    for asked, reason in (
        ("tinynone", "tinynone was not found"),
        ("tinyone>=2", "tinyone>=2"),
        ("against", "ipykernel<1"),
    ):
        with pytest.raises(EnvironmentFailedError, match=reason):
            await cache.made(asked)
    assert cache.there() == set()


async def test_a_source_is_never_built(wheels: Path, tmp_path: Path, installed: Installed) -> None:
    project = tmp_path / "evil-1.0"
    project.mkdir()
    (project / "setup.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom setuptools import setup\nsetup(name='evil')\n"
    )
    (project / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: evil\nVersion: 1.0\n")
    with tarfile.open(wheels / "evil-1.0.tar.gz", "w:gz") as archive:
        archive.add(project, "evil-1.0")
    with pytest.raises(EnvironmentFailedError, match="evil"):
        await Cache(tmp_path / "cache", installed).made("evil")
    assert not (tmp_path / "ran").exists()


async def test_nothing_of_a_wheel_is_run_where_it_is_installed(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    ran = tmp_path / "ran"
    make_wheel(
        wheels,
        "evil",
        besides={
            # What an interpreter runs when it starts, and what might be taken for a program.
            "evil.pth": f"import pathlib; pathlib.Path({str(ran)!r}).touch()\n",
            "sitecustomize.py": f"open({str(ran)!r}, 'w')\n",
            "compileall.py": f"open({str(ran)!r}, 'w')\n",
            "evil-1.0.data/scripts/uv": f"#!/bin/sh\ntouch '{ran}'\n",
            "evil/broken.py": "this is no Python",
        },
    )
    made = await Cache(tmp_path / "cache", installed).made("evil")
    assert not ran.exists()
    # Nevertheless it is compiled, as far as it can be: a kernel cannot write there.
    (package,) = made.folder.rglob("evil/__pycache__")
    assert [path.name.partition(".")[0] for path in package.iterdir()] == ["__init__"]


async def test_the_same_is_built_once_also_by_several_processes(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    make_wheel(wheels, "tinyone")
    other = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        str(tmp_path / "cache"),
        "tinyone",
        stderr=asyncio.subprocess.PIPE,
    )
    assert other.stderr is not None
    # It is as far as we are.
    first = (await other.stderr.readline()).decode()
    mine = Cache(tmp_path / "cache", installed)
    made = await asyncio.gather(mine.made("tinyone"), mine.made("tinyone"))
    told = [*mine.told, *(first + (await other.stderr.read()).decode()).split()]
    assert await other.wait() == 0
    assert made[0] == made[1]
    assert told.count("building") == 1
    assert told.count("ready") == 3


async def test_a_build_that_is_given_up_leaves_nothing_and_can_be_made_again(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    make_wheel(wheels, "tinyone")
    cache = Cache(tmp_path / "cache", installed)
    building = asyncio.Event()

    async def tell(stage: str, key: str | None, packages: Sequence[str]) -> None:
        if stage == "building":
            building.set()

    task = asyncio.create_task(cache.cache.open(Wanted(("tinyone",)), tell))
    await building.wait()
    async with asyncio.timeout(10):
        # Into the midst of uv's work.
        while not cache.there():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cache.there() == set()
    assert imported(await cache.made("tinyone"), "tinyone.VERSION") == ["1.0"]


async def test_what_is_given_up_is_removed_beside_the_loop_and_under_its_lock(
    wheels: Path, tmp_path: Path, installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(wheels, "tinyone")
    cache = Cache(tmp_path / "cache", installed)
    removing, go_on = threading.Event(), threading.Event()
    remove = shutil.rmtree

    def slow(folder: Path, *, ignore_errors: bool) -> None:
        assert threading.current_thread() is not threading.main_thread()
        if folder.exists():
            removing.set()
            assert go_on.wait(20)
        remove(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", slow)
    task = asyncio.create_task(cache.cache.open(Wanted(("tinyone",)), cache.tell))
    try:
        async with asyncio.timeout(10):
            while "building" not in cache.told or not cache.there():  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        task.cancel()
        assert await asyncio.to_thread(removing.wait, 10)
        # Who does not wait for its end either does not let others in.
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (lock,) = (cache.folder / "locks").iterdir()
        with lock.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        go_on.set()
    assert imported(await cache.made("tinyone"), "tinyone.VERSION") == ["1.0"]


async def test_who_loses_the_lock_between_building_and_using_waits_for_it(
    wheels: Path, tmp_path: Path, installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(wheels, "tinyone")
    cache = Cache(tmp_path / "cache", installed)
    lock = fcntl.flock
    others: list[int] = []

    def flock(file: int, how: int) -> None:
        if how & fcntl.LOCK_SH and "building" in cache.told and not others:
            # A change lets go of a lock before it takes the other: here somebody comes between.
            lock(file, fcntl.LOCK_UN)
            (path,) = (cache.folder / "locks").iterdir()
            others.append(os.open(path, os.O_RDWR))
            lock(others[0], fcntl.LOCK_EX)
        lock(file, how)

    def let_go() -> None:
        lock(others[0], fcntl.LOCK_UN)

    monkeypatch.setattr(fcntl, "flock", flock)
    making = asyncio.create_task(cache.made("tinyone"))
    stuck = threading.Timer(15, let_go)
    stuck.start()
    async with asyncio.timeout(14):
        while "waiting" not in cache.told:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    stuck.cancel()
    let_go()
    made = await making
    os.close(others[0])
    assert imported(made, "tinyone.VERSION") == ["1.0"]
    assert cache.told.count("building") == 1


@pytest.mark.parametrize("noted", [b"", b"../locks", b"\xff", b"py3.11-0123456789abcdef0123"])
async def test_a_note_that_a_crash_has_spoilt_is_no_hindrance(
    wheels: Path, tmp_path: Path, installed: Installed, noted: bytes
) -> None:
    make_wheel(wheels, "tinyone")
    cache = Cache(tmp_path / "cache", installed)
    made = await cache.made("tinyone")
    (note,) = (cache.folder / "requests").iterdir()
    for request in (note, note.with_name("another")):
        request.write_bytes(noted)
    assert await cache.made("tinyone") == made
    # It is right again, and the other is tidied away.
    assert [path.name for path in note.parent.iterdir()] == [note.name]
    assert note.read_text() == made.key


async def test_an_environment_is_there_also_where_it_cannot_be_noted(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    make_wheel(wheels, "tinyone")
    cache = Cache(tmp_path / "cache", installed)
    await cache.made("tinyone")
    (note,) = (cache.folder / "requests").iterdir()
    note.unlink()
    # Nothing can take its place.
    (note / "in the way").mkdir(parents=True)
    made = await cache.made("tinyone")
    assert imported(made, "tinyone.VERSION") == ["1.0"]


async def test_a_folder_that_cannot_be_used_is_told_in_words(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    make_wheel(wheels, "tinyone")
    cache = Cache(tmp_path / "cache", installed)
    made = await cache.made("tinyone")
    lock = cache.folder / "locks" / made.key
    lock.unlink()
    lock.mkdir()
    with pytest.raises(EnvironmentFailedError, match="Is a directory"):
        await cache.made("tinyone")
    library = tmp_path / "gone.py"
    with pytest.raises(EnvironmentFailedError, match="No such file"):
        await cache.made(libraries=[library])


async def test_what_a_killed_worker_left_half_made_is_made_anew(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    make_wheel(wheels, "tinyone")
    make_wheel(wheels, "tinytwo")
    cache = Cache(tmp_path / "cache", installed)
    made = await cache.made("tinyone")
    # As it is when the marker was not written yet.
    (made.folder / MARKER).unlink()
    (made.folder / "lib").rename(made.folder / "lost")
    assert imported(await cache.made("tinyone"), "tinyone.VERSION") == ["1.0"]

    (made.folder / MARKER).unlink()
    other = await cache.made("tinytwo")
    assert cache.there() == {other.key}


async def test_a_build_that_takes_too_long_or_too_much_room_fails(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    make_wheel(wheels, "tinyone", source=f"DATA = {'x' * 2_000_000!r}\n")
    small = Cache(tmp_path / "cache", installed, max_environment_bytes=1_000_000)
    with pytest.raises(EnvironmentFailedError, match="may take 1 MB"):
        await small.made("tinyone")
    hasty = Cache(tmp_path / "cache", installed, build_seconds=0.001)
    with pytest.raises(EnvironmentFailedError, match=r"within 0\.001 seconds"):
        await hasty.made("tinyone")
    assert small.there() == set()


async def test_the_longest_unused_goes_first_but_none_in_use(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    for name in ("tinyone", "tinytwo", "tinythree", "tinyfour"):
        make_wheel(wheels, name, source=f"DATA = {'x' * 400_000!r}\n")
    # Each takes as much twice, with its compiled form: two have room.
    cache = Cache(tmp_path / "cache", installed, max_bytes=2_200_000)
    one = await cache.cache.open(Wanted(("tinyone",)), cache.tell)
    assert one is not None
    two = await cache.made("tinytwo")
    used_at(one.environment, 1_000)
    used_at(two, 2_000)
    three = await cache.made("tinythree")
    assert cache.there() == {one.environment.key, three.key}
    one.release()
    used_at(three, 3_000)
    four = await cache.made("tinyfour")
    assert cache.there() == {three.key, four.key}
    # What is gone is made again.
    cache.told.clear()
    await cache.made("tinyone")
    assert "building" in cache.told


def used_at(environment: Environment, moment: float) -> None:
    os.utime(environment.folder / MARKER, (moment, moment))


async def test_who_comes_later_waits_for_whoever_builds(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    make_wheel(wheels, "tinyone")
    cache = Cache(tmp_path / "cache", installed)
    made = await cache.made("tinyone")
    with (cache.folder / "locks" / made.key).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (made.folder / MARKER).unlink()
        waiting = asyncio.create_task(cache.made("tinyone"))
        async with asyncio.timeout(10):
            while "waiting" not in cache.told:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert cache.told.count("building") == 1
    # It has ended without having made it.
    assert await waiting == made
    assert cache.told.count("building") == 2


async def test_libraries_of_a_folder_are_provided_too(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    folder = tmp_path / "libraries"
    make_wheel(folder, "customer_analytics", "1.0")
    make_wheel(folder, "customer_analytics", "1.10", requires=["tinyone"])
    make_wheel(folder, "customer_analytics", "1.9")
    make_wheel(wheels, "tinyone")
    (folder / "ml_models").mkdir()
    (folder / "ml_models" / "__init__.py").write_text("DEPTH = 3\n")
    (folder / "helpers.py").write_text("HELP = 'yes'\n")
    (folder / "notes.txt").write_text("no library")
    libraries = Libraries(str(folder))
    assert libraries.names() == [
        "customer_analytics",
        "helpers",
        "mindzie_sdk",
        "ml_models",
        "process_mining_utils",
    ]
    paths = [libraries.find(name) for name in ("Customer-Analytics", "ml_models", "helpers")]
    found = [path for path in paths if path is not None]
    cache = Cache(tmp_path / "cache", installed)
    made = await cache.made(libraries=found)
    assert made.packages == ["customer-analytics==1.10", "tinyone==1.0", "ml_models", "helpers"]
    assert imported(
        made, "customer_analytics.VERSION", "tinyone.VERSION", "ml_models.DEPTH", "helpers.HELP"
    ) == ["1.10", "1.0", "3", "yes"]
    # Another content is another library.
    (folder / "helpers.py").write_text("HELP = 'no'\n")
    other = await cache.made(libraries=found)
    assert other.key != made.key
    assert imported(other, "helpers.HELP") == ["no"]


def test_a_module_is_found_by_its_own_name_and_by_that_of_its_distribution() -> None:
    # PIL has capitals; the other is looked for as it is written in lists of packages.
    assert can_import("PIL")
    assert can_import("Jupyter-Client")
    assert not can_import("no_such_module")
    assert not can_import("../PIL")


def test_what_is_installed_meets_what_it_meets(installed: Installed) -> None:
    def lacking(*texts: str) -> list[str]:
        return [str(each) for each in installed.lacks([parse_requirement(each) for each in texts])]

    met = [
        "pandas",
        "Scikit_Learn>=1",
        "mindzie-sdk",
        "process.mining.utils",
        "x; sys_platform=='no'",
    ]
    assert lacking(*met) == []
    assert lacking("tinyone", "pandas<1", "pandas") == ["tinyone", "pandas<1"]
    # An extra is there when what it stands for is.
    assert lacking("nbledger[kernel]") == []
    assert {"ipykernel", "pandas"} <= set(installed.kernel_packages())


@pytest.mark.parametrize(
    "text",
    ["", "-r /etc/passwd", "a b", "==1", "x @ file:///etc", "x @ https://h/x.whl", "../x", "x;y"],
)
def test_what_is_no_requirement_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no requirement|no address"):
        parse_requirement(text)


def kept(path: Path, *, digest: str | None = None) -> KeptWheel:
    """A wheel that is kept elsewhere, as if it were the one with this digest."""

    async def fetch(target: Path) -> None:
        await asyncio.to_thread(shutil.copyfile, path, target)

    return KeptWheel(uuid4(), path.name, digest or file_digest(path), fetch)


async def test_a_kept_wheel_is_fetched_for_a_new_environment_only(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    make_wheel(wheels, "tinyone")
    ours = make_wheel(tmp_path / "ours", "our_rules", "1.0", requires=["tinyone"])
    cache = Cache(tmp_path / "cache", installed)

    async def made(wheel: KeptWheel) -> Environment:
        held = await cache.cache.open(Wanted((), (), (wheel,)), cache.tell)
        assert held is not None
        held.release()
        return held.environment

    environment = await made(kept(ours))
    assert environment.packages == ["our-rules==1.0", "tinyone==1.0"]
    assert imported(environment, "our_rules.VERSION", "tinyone.VERSION") == ["1.0", "1.0"]
    # Nothing of it stays beside the environment, whoever may delete it where it is kept.
    assert list((tmp_path / "cache" / "fetching").iterdir()) == []
    assert list((tmp_path / "uv-cache").rglob("our_rules/__init__.py")) == []

    ours.rename(tmp_path / "elsewhere.whl")
    digest = file_digest(tmp_path / "elsewhere.whl")
    cache.told.clear()
    assert await made(kept(ours, digest=digest)) == environment
    assert cache.told == ["ready"]

    # Another content is another environment, whatever version it says that it is.
    changed = make_wheel(tmp_path / "ours", "our_rules", "1.0", source="NEW = 'yes'\n")
    other = await made(kept(changed))
    assert other.key != environment.key
    assert imported(other, "our_rules.NEW") == ["yes"]


@pytest.mark.guarantee("G50")
async def test_an_environment_is_forgotten_with_the_library_that_is_in_it(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    make_wheel(wheels, "tinyone")
    cache = Cache(tmp_path / "cache", installed)
    await cache.made("tinyone")
    wheel = kept(make_wheel(tmp_path / "ours", "our_rules"))
    held = await cache.cache.open(Wanted((), (), (wheel,)), cache.tell)
    assert held is not None
    key = held.environment.key
    # What comes from an index is nobody's to delete.
    assert cache.cache.uploads() == {key: [wheel.library_id]}
    assert not cache.cache.forget(key)  # a kernel runs in it
    held.release()
    assert cache.cache.forget(key)
    assert cache.cache.uploads() == {}
    left = [path.name for path in cache.folder.rglob("*") if key in path.name]
    assert left == []
    assert len(list((cache.folder / "requests").iterdir())) == 1
    # It is made anew for whoever has it still.
    again = await cache.cache.open(Wanted((), (), (wheel,)), cache.tell)
    assert again is not None
    assert again.environment.key == key
    # One of before does not tell what is in it.
    marker = again.environment.folder / MARKER
    marker.write_text(json.dumps({"packages": ["our-rules==1.0"], "size": 1}))
    assert cache.cache.uploads() == {key: None}
    again.release()


async def test_a_kept_wheel_that_is_not_what_it_was_is_not_installed(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    ours = make_wheel(tmp_path / "ours", "our_rules")
    cache = Cache(tmp_path / "cache", installed)
    with pytest.raises(EnvironmentFailedError, match=r"our_rules-1\.0-.* is damaged"):
        await cache.cache.open(Wanted((), (), (kept(ours, digest="5f" * 32),)), cache.tell)
    assert cache.there() == set()
    assert list((tmp_path / "cache" / "fetching").iterdir()) == []


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"requires_python": ">=4"}, "Python>=4"),
        ({"tag": "cp27-cp27m-win32"}, "matching Python version tag"),
        ({"requires": ["tinynone"]}, "tinynone was not found"),
    ],
)
async def test_a_kept_wheel_that_does_not_fit_is_told_without_its_path(
    wheels: Path, tmp_path: Path, installed: Installed, about: dict[str, Any], reason: str
) -> None:
    ours = make_wheel(tmp_path / "ours", "our_rules", **about)
    cache = Cache(tmp_path / "cache", installed)
    with pytest.raises(EnvironmentFailedError) as failed:
        await cache.cache.open(Wanted((), (), (kept(ours),)), cache.tell)
    assert reason in str(failed.value)
    assert str(tmp_path) not in str(failed.value)
    assert cache.there() == set()


async def test_what_a_killed_worker_had_fetched_is_removed(
    wheels: Path, tmp_path: Path, installed: Installed
) -> None:
    make_wheel(wheels, "tinyone")
    cache = Cache(tmp_path / "cache", installed)
    cache.cache.prepare()
    old, new = (tmp_path / "cache" / "fetching" / name for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir()
        (folder / "our_rules-1.0-py3-none-any.whl").touch()
    os.utime(old, (0, 0))
    await cache.made("tinyone")
    assert not old.exists()
    assert new.exists()
