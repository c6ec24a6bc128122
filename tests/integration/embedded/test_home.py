"""One home, one owner."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nbledger.embedded.errors import HomeInUseError, HomeNotUsableError
from nbledger.embedded.home import (
    ServerInfo,
    open_home,
    read_server_json,
    write_server_json,
)

INFO = ServerInfo(
    url="http://127.0.0.1:8080",
    token="a-secret",
    tenant_id="t1",
    project_id="p1",
    kafka="127.0.0.1:9092",
    postgres="postgresql://nbledger:another-secret@127.0.0.1:5432/nbledger",
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_identity_is_made_once(tmp_path: Path) -> None:
    with open_home(tmp_path / "home") as first:
        pass
    with open_home(tmp_path / "home") as second:
        pass
    with open_home(tmp_path / "elsewhere") as other:
        pass
    assert first.instance == second.instance != other.instance
    assert mode(tmp_path / "home") & 0o066 == 0


def test_server_json_is_private_whole_and_removed(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        assert read_server_json(home.path) is None
        file = write_server_json(home.path, INFO)
        assert mode(file) == 0o600
        assert json.loads(file.read_text()) == {
            "url": INFO.url,
            "token": INFO.token,
            "tenantId": "t1",
            "projectId": "p1",
            "kafka": INFO.kafka,
            "postgres": INFO.postgres,
        }
        assert read_server_json(home.path) == INFO
        assert "secret" not in repr(INFO)
    assert not file.exists()
    assert {path.name for path in tmp_path.iterdir()} == {"instance", "up.lock"}


def test_a_second_owner_is_told_who_has_it(tmp_path: Path) -> None:
    with open_home(tmp_path) as home:
        with pytest.raises(HomeInUseError) as starting, open_home(tmp_path):
            pass
        assert (starting.value.pid, starting.value.url) == (os.getpid(), None)
        write_server_json(home.path, INFO)
        with pytest.raises(HomeInUseError) as serving, open_home(tmp_path):
            pass
        assert serving.value.url == INFO.url
        assert INFO.url in str(serving.value)
        assert str(os.getpid()) in str(serving.value)
        assert read_server_json(home.path) == INFO


OWNER = """
import sys, signal
from pathlib import Path
from nbledger.embedded.home import open_home
with open_home(Path(sys.argv[1])):
    print("mine", flush=True)
    signal.pause()
"""


def test_a_killed_owner_leaves_no_lock_and_no_server_json(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"mine\n"
        with pytest.raises(HomeInUseError) as refused, open_home(tmp_path):
            pass
        assert refused.value.pid == owner.pid
        write_server_json(tmp_path, INFO)
        owner.kill()
    with open_home(tmp_path) as home:
        assert read_server_json(home.path) is None


FORKING_OWNER = """
import os, sys, signal
from pathlib import Path
from nbledger.embedded.home import open_home
with open_home(Path(sys.argv[1])):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    signal.pause()
"""


def test_a_forked_child_does_not_keep_a_killed_owners_lock(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKING_OWNER, str(tmp_path)], stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        with pytest.raises(HomeInUseError), open_home(tmp_path):
            pass
        owner.kill()
        owner.wait()
        try:
            with open_home(tmp_path):
                os.kill(child, 0)  # still there
        finally:
            os.kill(child, signal.SIGKILL)


def test_an_unusable_home_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(HomeNotUsableError, match="Not a directory"),
        open_home(tmp_path / "file" / "x"),
    ):
        pass
