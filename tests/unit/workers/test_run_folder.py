"""What is found in a folder that a notebook has filled."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbledger_workers.kernel import run_folder
from nbledger_workers.kernel.run_folder import Listing, RefusedError


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_files_are_listed_in_order(folder: int, tmp_path: Path) -> None:
    assert run_folder.is_empty(folder)
    assert run_folder.files(folder, limit=10) == Listing([], cut=False, closed=[])
    (tmp_path / "sub").mkdir()
    for name in ("b", "a", "sub/c"):
        (tmp_path / name).touch()
    assert not run_folder.is_empty(folder)
    assert run_folder.files(folder, limit=4) == Listing(["a", "b", "sub/c"], cut=False, closed=[])


def test_of_too_many_those_that_were_seen_are_listed(folder: int, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}").touch()
    paths, cut, closed = run_folder.files(folder, limit=3)
    assert (len(paths), cut, closed) == (3, True, [])
    assert set(paths) < set("01234")


def test_the_limit_holds_for_all_folders_together(folder: int, tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    assert run_folder.files(folder, limit=3) == Listing(["x/file"], cut=True, closed=[])
    assert run_folder.files(folder, limit=4) == Listing(["x/file", "y/file"], cut=False, closed=[])


def test_folders_that_lie_too_deep_are_told(folder: int, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"abcdefghijklmnopq")
    deep.mkdir(parents=True)
    (deep / "file").touch()
    (tmp_path / "file").touch()
    paths, cut, closed = run_folder.files(folder, limit=100)
    assert (paths, cut) == (["file"], False)
    assert closed == ["/".join("abcdefghijklmnopq")]


def test_names_match_and_are_bounded(folder: int, tmp_path: Path) -> None:
    digit = re.compile(r"\d")
    for name in ("2", "1", "x", "10"):
        (tmp_path / name).touch()
    found, cut = run_folder.names(folder, digit, limit=4)
    assert ([name for name, _ in found], cut) == (["1", "2"], False)
    found, cut = run_folder.names(folder, digit, limit=3)
    assert cut
    assert len(found) <= 2


def test_what_has_changed_meanwhile_is_refused(folder: int, tmp_path: Path) -> None:
    path, stop = tmp_path / "1", threading.Event()
    path.write_text("one")
    ((_, mark),), _ = run_folder.names(folder, re.compile(r"\d"), limit=4)
    until = path.stat().st_ctime_ns
    assert run_folder.read(folder, "1", limit=10, mark=mark) == b"one"
    copied = run_folder.copy(
        folder, "1", tmp_path / "copy", limit=10, stop=stop, unchanged_since=until
    )
    assert copied.size == 3
    before = path.stat()
    while path.stat().st_ctime_ns == until:
        # In place, of the same length, with the time of before.
        path.write_text("two")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(RefusedError, match="changed after the cell"):
        run_folder.read(folder, "1", limit=10, mark=mark)
    with pytest.raises(RefusedError, match="changed after the cell"):
        run_folder.copy(folder, "1", tmp_path / "copy", limit=10, stop=stop, unchanged_since=until)


def test_a_link_is_told_to_be_one(folder: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(RefusedError, match="it is a link"):
        run_folder.copy(folder, "link", tmp_path / "copy", limit=10, stop=threading.Event())


def test_a_copy_stops_when_asked_to(folder: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    stop = threading.Event()
    copied = run_folder.copy(folder, "file", tmp_path / "copy", limit=100, stop=stop)
    assert copied.size == 7
    stop.set()
    with pytest.raises(RefusedError, match="no time"):
        run_folder.copy(folder, "file", tmp_path / "copy", limit=100, stop=stop)
