"""compose.yaml and the Dockerfile against the program they start.

No container engine is needed: what is checked is that they agree with the settings, the
commands and the files of the repository.
"""

import re
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from support.paths import ROOT

from nbledger.main import NEEDS
from nbledger_infrastructure.settings_loading import environment_names, load, require

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
ROLES = ["api", "projector", "relay", "sealer", "worker"]
OURS = [*ROLES, "migrate"]


def test_every_role_is_a_service_of_its_own() -> None:
    assert sorted(SERVICES) == sorted([*OURS, "kafka", "postgres"])
    for name in OURS:
        assert SERVICES[name]["command"] == [name]


@pytest.mark.parametrize("name", sorted({"kafka", "postgres", *ROLES}))
def test_lasting_service_is_watched_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", ROLES)
def test_role_waits_for_the_schema_and_its_servers(name: str) -> None:
    waits = {other: entry["condition"] for other, entry in SERVICES[name]["depends_on"].items()}
    expected = {
        "migrate": "service_completed_successfully",
        "postgres": "service_healthy",
    }
    if name in {"relay", "worker"}:
        expected["kafka"] = "service_healthy"
    assert waits == expected


@pytest.mark.parametrize("name", OURS)
def test_service_sets_only_settings_that_exist(name: str) -> None:
    ours = {key for key in SERVICES[name]["environment"] if key.startswith("NBLEDGER_")}
    assert ours
    assert ours <= set(environment_names())


@pytest.mark.parametrize("name", ROLES)
def test_health_is_asked_where_the_service_answers(name: str) -> None:
    service = SERVICES[name]
    setting = "NBLEDGER_HTTP_PORT" if name == "api" else "NBLEDGER_HEALTH_PORT"
    port = service["environment"][setting]
    assert f"127.0.0.1:{port}/health/ready" in service["healthcheck"]["test"][-1]


@pytest.mark.parametrize("command", OURS)
def test_command_exists(command: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "nbledger", command, "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert f"nbledger {command}" in finished.stdout


@pytest.mark.parametrize("name", OURS)
def test_service_sets_all_that_its_command_needs(name: str) -> None:
    environment = {key: str(value) for key, value in SERVICES[name]["environment"].items() if value}
    # As compose fills in ${NAME:-default} and ${NAME:?what is missing}.
    given = {
        key: re.sub(r"\$\{\w+:[-?]([^}]*)\}", r"\1", value) for key, value in environment.items()
    }

    require(load(given), *NEEDS[name])


def test_who_needs_the_artifacts_shares_them() -> None:
    for name in ("api", "projector", "worker"):
        assert SERVICES[name]["volumes"] == ["artifacts:/var/lib/nbledger/artifacts"]
        url = SERVICES[name]["environment"]["NBLEDGER_ARTIFACTS_URL"]
        assert "file:///var/lib/nbledger/artifacts" in url


def test_the_key_of_the_sealer_is_in_a_volume_of_its_own() -> None:
    (volume,) = SERVICES["sealer"]["volumes"]
    folder = volume.partition(":")[2]
    for setting in ("KEY_FILE", "STATE_FOLDER"):
        path = SERVICES["sealer"]["environment"][f"NBLEDGER_AUDIT_{setting}"]
        assert path.startswith(f"{folder}/")
    assert all(
        volume not in service.get("volumes", [])
        for name, service in SERVICES.items()
        if name != "sealer"
    )
    # Of the user that the image runs as.
    assert f"install -d -o nbledger -g nbledger -m 700 {folder}\n" in DOCKERFILE


def test_volumes_are_declared() -> None:
    used = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
    }
    assert used == set(COMPOSE["volumes"])


def test_no_secret_is_written_down() -> None:
    for service in SERVICES.values():
        for key, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|DSN", key) and value is not None:
                assert "${POSTGRES_PASSWORD:?" in value


def test_only_loopback_is_published() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_are_built_from_targets_that_exist() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    assert {SERVICES[name]["build"]["target"] for name in OURS} <= targets


def test_images_copy_only_paths_that_exist() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    paths = [path for line in copied for path in line.split()]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_images_do_not_run_as_root() -> None:
    runtime, *stages = DOCKERFILE.split("AS runtime\n")[1].split("\nFROM ")
    assert "\nUSER nbledger\n" in runtime
    assert stages
    for stage in stages:
        assert re.findall(r"^USER (\S+)$", stage, re.MULTILINE)[-1:] in ([], ["nbledger"])


def test_kafka_is_the_version_the_tests_run_on() -> None:
    pom = ET.parse(ROOT / "deploy/kafka/pom.xml")  # noqa: S314 -- our own file
    version = pom.findtext(".//{*}kafka.version")
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"
