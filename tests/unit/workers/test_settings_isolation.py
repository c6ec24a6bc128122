"""What `nbledger settings` says of the TCP ports that are closed to kernels."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from click.testing import CliRunner

from nbledger.commands import isolation
from nbledger.main import main
from nbledger_workers.confinement import levels

_BROKER = "the Kafka broker when it starts them"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        (
            {},
            f"with `nbledger up` those that it chooses for PostgreSQL and {_BROKER}",
        ),
        (
            {"POSTGRES_DSN": "postgresql://h:6432/x"},
            f"6432; with `nbledger up` also those that it chooses for {_BROKER}",
        ),
        (
            {"POSTGRES_DSN": "postgresql://h/x", "KAFKA_BOOTSTRAP_SERVERS": "k:9092"},
            "5432, 9092",
        ),
        (
            {
                "POSTGRES_DSN": "postgresql://h/x",
                "KAFKA_BOOTSTRAP_SERVERS": "k:9092",
                "WORKER_OPEN_PORTS": "[5432, 9092]",
            },
            "none, for all are named in worker.open_ports",
        ),
        ({"WORKER_NETWORK": "none"}, "all, for there is no network"),
        ({"WORKER_ISOLATION": "process"}, "none, for this cannot be had here"),
    ],
)
def test_it_is_said_which_ports_are_closed(
    environment: Mapping[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(levels, "available", lambda _: None)
    monkeypatch.setattr(levels, "can_close_ports", lambda: True)
    monkeypatch.delenv("PGPORT", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(f"NBLEDGER_{name}", value)
    assert f"  closed TCP ports: {told}" in list(isolation.lines())


def test_a_machine_that_cannot_close_ports_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "available", lambda _: None)
    monkeypatch.setattr(levels, "can_close_ports", lambda: False)
    assert "  closed TCP ports: none, for this cannot be had here" in list(isolation.lines())


def test_settings_that_are_not_usable_end_with_a_status_and_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NBLEDGER_HTTP_PORT", "many")
    monkeypatch.setenv("NBLEDGER_WORKER_POOL_MAXX", "1")
    ended = CliRunner().invoke(main, ["settings"])
    assert ended.exit_code == 2
    assert "[http] port = " in ended.stdout
    (line,) = ended.stderr.splitlines()
    assert line == (
        "Error: the settings are not usable: NBLEDGER_WORKER_POOL_MAXX: there is no such setting; "
        "did you mean NBLEDGER_WORKER_POOL_MAX?; NBLEDGER_HTTP_PORT: 'many' is not a whole number"
    )
