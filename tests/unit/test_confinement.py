"""What the settings make of isolation and limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbledger_infrastructure import settings
from nbledger_workers import confinement
from nbledger_workers.confinement import IsolationMissingError
from nbledger_workers.kernel.isolation import Isolation, available
from nbledger_workers.kernel.limits import Used, check, process_limits
from nbledger_workers.kernel.protocol import Limits, Outcome

_OFFERED = available(Isolation(level="namespaces")) is None


def test_auto_takes_the_best_there_is() -> None:
    chosen = confinement.isolation(settings.Worker(), settings.Limits())
    assert chosen.level == ("namespaces" if _OFFERED else "process")
    assert chosen.network == "host"


def test_process_is_taken_where_it_is_asked_for() -> None:
    chosen = confinement.isolation(settings.Worker(isolation="process"), settings.Limits())
    assert chosen == Isolation()


def test_what_cannot_be_had_stops_the_worker_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IsolationMissingError, match=r"worker\.network and worker\.read_only_sys"):
        confinement.isolation(
            settings.Worker(isolation="process", network="none", read_only_system=True),
            settings.Limits(),
        )
    with pytest.raises(IsolationMissingError, match="no user 'nobody at all'"):
        confinement.isolation(settings.Worker(run_as="nobody at all"), settings.Limits())
    # A machine without a shell for the first process of a namespace.
    monkeypatch.setattr(
        confinement, "available", lambda wanted: None if wanted.level == "process" else "no shell"
    )
    with pytest.raises(IsolationMissingError, match=r'"namespaces" cannot be had .*: no shell'):
        confinement.isolation(settings.Worker(isolation="namespaces"), settings.Limits())
    with pytest.raises(IsolationMissingError, match=r"worker\.network cannot be had"):
        confinement.isolation(settings.Worker(network="none"), settings.Limits())
    hiding = settings.Worker(hidden_folders=["/srv"])
    assert confinement.isolation(hiding, settings.Limits()) == Isolation()


def test_only_root_can_name_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    own = confinement.isolation(
        settings.Worker(isolation="process", run_as="1234"), settings.Limits()
    )
    assert own == Isolation()
    with pytest.raises(IsolationMissingError, match="'4321' needs a worker that is root"):
        confinement.isolation(settings.Worker(run_as="4321"), settings.Limits())


def test_a_run_keeps_its_folders_and_the_interpreter(tmp_path: Path) -> None:
    every = Isolation(level="namespaces", network="none", hidden=("/srv",))
    one = confinement.for_run(every, tmp_path / "work", tmp_path / "sockets")
    assert one.folders == (str(tmp_path / "work"), str(tmp_path / "sockets"))
    assert one.temporary == str(tmp_path / "work" / ".tmp")
    assert one.network == "none"
    assert one.hidden == ("/srv", str(tmp_path))
    assert os.path.dirname(os.__file__) in one.visible  # noqa: PTH120
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
    bounds = confinement.run_limits(settings.Limits(memory_mb=300, disk_mb=0, open_files=64))
    assert bounds.memory_bytes == 300_000_000
    assert bounds.disk_bytes == 0
    assert process_limits(bounds) == {"CORE": 0, "NOFILE": 64}
    assert process_limits(confinement.run_limits(settings.Limits(disk_mb=1)))["FSIZE"] == 1_000_000
    assert process_limits(Limits(open_files=10**9))["NOFILE"] <= 10**9
