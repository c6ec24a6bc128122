"""What the settings make of isolation and limits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nbledger_infrastructure import settings
from nbledger_workers.confinement import levels, places
from nbledger_workers.confinement.levels import Confinement, IsolationMissingError
from nbledger_workers.confinement.run_users import NoUserLeftError, RunUsers
from nbledger_workers.kernel.protocol import Limits, Outcome
from nbledger_workers.kernel.resources.limits import Used, check, process_limits
from nbledger_workers.kernel.standalone.isolation import LEVELS, Isolation
from nbledger_workers.kernel.standalone.isolation_probe import available

_OFFERED = next(level for level in reversed(LEVELS) if available(Isolation(level=level)) is None)


def _of(**worker: Any) -> Confinement:
    return levels.confinement(settings.Settings(worker=settings.Worker(**worker)))


def test_auto_takes_the_best_there_is() -> None:
    chosen = _of()
    assert chosen.every.level == _OFFERED
    assert chosen.every.network == "host"
    assert chosen.every.read_only
    assert (chosen.users is not None) == (os.geteuid() == 0)


@pytest.mark.parametrize("level", LEVELS[: LEVELS.index(_OFFERED) + 1])
def test_a_level_is_taken_where_it_is_asked_for(level: str) -> None:
    chosen = _of(isolation=level, run_as="")
    assert chosen.every.level == level
    assert not chosen.other_user
    assert chosen.describe()["by"] == level
    if level == "process":
        assert chosen.every == Isolation()
        assert chosen.not_stopped


def test_what_cannot_be_had_stops_the_worker_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for level in ("process", "landlock"):
        with pytest.raises(IsolationMissingError, match=r"worker\.network needs \"namespaces\""):
            _of(isolation=level, network="none")
    with pytest.raises(IsolationMissingError, match="no user 'nobody at all'"):
        _of(run_as="nobody at all")
    # A machine without a shell for the first process of a namespace, and without Landlock.
    monkeypatch.setattr(
        levels, "available", lambda wanted: None if wanted.level == "process" else "no shell"
    )
    with pytest.raises(IsolationMissingError, match=r'"namespaces" cannot be had .*: no shell'):
        _of(isolation="namespaces")
    with pytest.raises(IsolationMissingError, match=r"worker\.network cannot be had"):
        _of(network="none")
    lesser = _of(hidden_folders=["/srv"])
    assert lesser.every.level == "process"
    assert lesser.missing == "namespaces: no shell; landlock: no shell"
    assert any("ports of the database" in each for each in lesser.not_stopped)


@pytest.mark.parametrize("level", LEVELS[1:])
def test_an_older_landlock_is_told_of(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "available", lambda _: None)
    monkeypatch.setattr(levels, "keeps_signals", lambda: False)
    told = _of(isolation=level, run_as="").not_stopped
    assert "connects to abstract sockets of the machine's services" in told
    assert ("sends signals to processes of its user" in told) == (level == "landlock")


def test_python_that_only_its_owner_reaches_is_bound_into_view_or_kernels_stay_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(places, "closed_to_others", lambda _: {"/root/python": "/root"})
    monkeypatch.setattr(levels, "available", lambda _: None)
    assert _of().every.passages == ("/root",)
    assert _of(isolation="landlock").every.passages == ("/root",)
    cannot_mount = lambda wanted: "mount" if wanted.passages else None  # noqa: E731
    monkeypatch.setattr(levels, "available", cannot_mount)
    chosen = _of(isolation="landlock")
    assert chosen.users is None
    assert "/etc/shadow" in chosen.every.hidden
    assert "kernels run as root, without capabilities" in chosen.not_stopped
    # One that nobody else may read is not helped by what is around it.
    monkeypatch.setattr(places, "closed_to_others", lambda _: {"/opt/python": "/opt/python"})
    monkeypatch.setattr(levels, "available", lambda _: None)
    assert _of().users is None


def test_ports_of_the_service_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPORT", raising=False)
    config = settings.Settings(
        postgres=settings.Postgres(dsn="postgresql://a:b%40@h,[::1]:6432,h2:7432/x?port=1"),
        kafka=settings.Kafka(bootstrap_servers="one:9092, two"),
        health=settings.HealthServer(port=8081),
        worker=settings.Worker(closed_ports=[9999], open_ports=[8081]),
    )
    # A host without a port has the usual one.
    assert places.ports(config) == (5432, 6432, 7432, 9092, 9999)
    for dsn, ports in (
        ("postgresql://h/x", (5432,)),
        ("postgresql://h:6432/x", (6432,)),
        ("postgresql://[::1]/x", (5432,)),
        ("postgresql://u:p@/x?host=h&port=6432", (6432,)),
        ("postgresql:///x?host=h:6432,h2", (5432, 6432)),
    ):
        plain = settings.Settings(postgres=settings.Postgres(dsn=dsn))
        assert places.ports(plain) == ports
    monkeypatch.setenv("PGPORT", "7000")
    assert places.ports(plain) == (6432, 7000)
    assert places.ports(settings.Settings()) == ()


def test_what_the_service_keeps_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLEDGER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NBLEDGER_CONFIG", str(tmp_path / "nbledger.toml"))
    config = settings.Settings(
        artifacts=settings.Artifacts(url=(tmp_path / "with space").as_uri()),
        worker=settings.Worker(hidden_folders=["/srv"], work_folder=str(tmp_path / "work")),
    )
    kept = {str(tmp_path / name) for name in ("home", "nbledger.toml", "with space", "work")}
    assert kept | {"/srv", "/run"} <= {*places.hidden(config)}
    assert str(Path.home()) not in places.visible(config)


def test_ids_are_of_one_run_at_a_time(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    first = 1_800_000_000 + os.getpid()
    one, other = RunUsers(first, first + 1), RunUsers(first, first + 1)
    assert {one.take(folders[0]), other.take(folders[1])} == {(first,) * 2, (first + 1,) * 2}
    with pytest.raises(NoUserLeftError):
        one.take(folders[2])
    folders[0].rmdir()
    assert one.take(folders[2])[0] in {first, first + 1}


def test_only_root_can_name_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    own = _of(isolation="process", run_as="1234")
    assert own.every == Isolation()
    for name in ("4321", "4321-4399"):
        with pytest.raises(IsolationMissingError, match=f"'{name}' needs a worker that is root"):
            _of(run_as=name)


def test_a_run_keeps_its_folders_and_the_interpreter(tmp_path: Path) -> None:
    every = Isolation(level="namespaces", network="none", hidden=("/srv",))
    one = levels.for_run(every, tmp_path / "work", tmp_path / "sockets")
    assert one.folders == (str(tmp_path / "work"), str(tmp_path / "sockets"))
    assert one.temporary == str(tmp_path / "work" / ".tmp")
    assert one.network == "none"
    assert one.hidden == ("/srv", str(tmp_path))
    assert os.path.dirname(os.__file__) in places.visible(settings.Settings())  # noqa: PTH120
    assert Isolation.from_json(one.to_json()) == one


@pytest.mark.parametrize(
    ("used", "outcome"),
    [
        (Used(memory_bytes=101), Outcome.MEMORY_LIMIT),
        (Used(cpu_seconds=5.1), Outcome.CPU_LIMIT),
        (Used(processes=4), Outcome.PROCESS_LIMIT),
        (Used(disk_bytes=1001), Outcome.DISK_LIMIT),
        (Used(memory_bytes=100, cpu_seconds=5, processes=3, disk_bytes=1000), None),
    ],
)
def test_each_limit_is_held(used: Used, outcome: Outcome | None) -> None:
    bounds = Limits(memory_bytes=100, cpu_seconds=5, processes=3, disk_bytes=1000)
    exceeded = check(bounds, used)
    assert (None if exceeded is None else exceeded.outcome) is outcome
    assert check(Limits(), Used(10**15, 1e9, 10**6, 10**15)) is None


def test_limits_of_settings() -> None:
    bounds = levels.run_limits(settings.RunLimits(memory_mb=300, disk_mb=0, open_files=64))
    assert bounds.memory_bytes == 300_000_000
    assert bounds.disk_bytes == 0
    assert process_limits(bounds) == {"CORE": 0, "NOFILE": 64}
    assert process_limits(levels.run_limits(settings.RunLimits(disk_mb=1)))["FSIZE"] == 1_000_000
    assert process_limits(Limits(open_files=10**9))["NOFILE"] <= 10**9
