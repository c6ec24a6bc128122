"""``nbledger up`` on a home folder: what it writes, who may share it, how it ends."""

import asyncio
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from aiokafka import AIOKafkaConsumer
from support.local_server import LocalServer, local_server
from support.processes import alive
from support.services import service_pid

pytestmark = pytest.mark.stalls("an orderly end is bounded in seconds of the clock")


def test_server_json_tells_where_everything_is(server: LocalServer) -> None:
    path = server.home / "server.json"
    told = json.loads(path.read_text())
    assert set(told) == {"url", "token", "tenantId", "projectId", "kafka", "postgres"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    answer = requests.get(f"{server.base}/notebooks", headers=server.headers, timeout=10)
    assert answer.status_code == 200


def test_messages_name_schemas_where_the_api_is_although_it_found_its_port(
    server: LocalServer,
) -> None:
    asked = {"notebookName": "named", "initialCells": []}
    made = requests.post(f"{server.base}/notebook", json=asked, headers=server.headers, timeout=10)
    assert made.status_code == 201

    async def first_message() -> dict[str, bytes]:
        async with (
            asyncio.timeout(30),
            AIOKafkaConsumer(
                "nbledger.events", bootstrap_servers=server.info.kafka, auto_offset_reset="earliest"
            ) as consumer,
        ):
            return dict((await consumer.getone()).headers)

    address = asyncio.run(first_message())["ce_dataschema"].decode()
    assert address.startswith(f"{server.info.url}/schema/events/")
    schema = requests.get(address, timeout=10).json()
    assert schema["$id"] == address


def test_a_second_up_on_the_same_home_says_so_and_ends(server: LocalServer) -> None:
    second = server.command("up")
    printed, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    assert f"in use by process {service_pid('up')}" in printed.decode()
    assert server.info.url in printed.decode()
    ready = requests.get(f"{server.info.url}/health/ready", timeout=10)
    assert ready.status_code == 200, "the first was disturbed"


@pytest.mark.parametrize("port", ["", "http", "70000"])
def test_a_port_that_cannot_be_had_is_told_before_anything_starts(
    server: LocalServer, tmp_path: Path, port: str
) -> None:
    taken = server.info.url.rpartition(":")[2]
    other = LocalServer(tmp_path, {"NBLEDGER_PORT": port or taken})
    ended = other.command("up")
    printed, _ = ended.communicate(timeout=30)
    assert ended.returncode == 1
    assert printed.startswith(f"Error: cannot serve on port {port or taken}".encode())
    assert len(printed.splitlines()) == 1
    assert not (tmp_path / "postgres").exists()


def test_a_database_that_is_named_is_told_of_and_one_that_is_not_there_is_one_line(
    tmp_path: Path,
) -> None:
    dsn = "postgresql://ann:hidden@127.0.0.1:1/nb"
    other = LocalServer(tmp_path, {"NBLEDGER_PORT": "0", "NBLEDGER_POSTGRES_DSN": dsn})
    ended = other.command("up")
    printed, _ = ended.communicate(timeout=30)
    assert ended.returncode == 1
    used, refused = printed.decode().splitlines()
    assert used.endswith("Using the database at 127.0.0.1:1/nb (NBLEDGER_POSTGRES_DSN)")
    assert refused.startswith("Error: cannot use the database at 127.0.0.1:1/nb: ")
    assert "NBLEDGER_POSTGRES_DSN" in refused
    assert not (tmp_path / "postgres").exists()


@pytest.mark.timeout(300)
@pytest.mark.stalls("each process has seconds of the clock to end")
def test_ctrl_c_ends_every_process_within_ten_seconds_and_data_stays() -> None:
    with local_server() as server:
        first = requests.get(f"{server.base}/notebooks", headers=server.headers, timeout=10)
        assert first.json()["totalCount"] == 0
        created = requests.post(
            f"{server.base}/notebook",
            json={
                "notebookName": "kept",
                "initialCells": [{"cellType": "code", "content": "print(1)"}],
            },
            headers=server.headers,
            timeout=10,
        ).json()
        path = f"{server.base}/notebook/{created['notebookId']}"
        started = requests.post(f"{path}/execute", headers=server.headers, timeout=10).json()
        ended = requests.get(
            f"{path}/execution/{started['executionId']}",
            headers={**server.headers, "Prefer": "wait=60"},
            timeout=90,
        )
        assert ended.json()["status"] == "Completed"
        members = server.members()
        assert len(members) >= 7, "up, five roles, the broker, the database"
        assert server.stop() < 10
        assert alive(members) == []
        assert not (server.home / "server.json").exists()
        server.start()
        found = requests.get(
            f"{server.base}/notebook/{created['notebookId']}", headers=server.headers, timeout=10
        )
        assert found.json()["notebookName"] == "kept"
        printed = server.printed
        server.stop()
        assert _complaints(printed + server.printed) == []
        logs = [*server.home.rglob("*.log")]
        names = ("api", "relay", "projector", "sealer", "worker", "tansu")
        assert {f"{name}.log" for name in names} <= {log.name for log in logs}
        for log in logs:
            assert _complaints(log.read_text(errors="replace")) == [], log.name


def _complaints(text: str) -> list[str]:
    """Lines of level warning and above."""
    # What this machine does not offer kernels is told at each start.
    return [
        line
        for line in text.splitlines()
        if re.search(r'"level":"(warning|error|critical)"|\b(WARN(ING)?|ERROR|FATAL|PANIC)\b', line)
        and '"event":"kernels are isolated"' not in line
    ]


def test_administration_by_command_line(server: LocalServer, tmp_path: Path) -> None:
    environment = {**os.environ, "NBLEDGER_POSTGRES_DSN": server.info.postgres}

    def nbledger(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nbledger", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    tenant, project = server.info.tenant_id, server.info.project_id
    created = nbledger(
        "token", "create", "--name", "ada", "--tenant", tenant, "--project", project,
        "--role", "reader",
    )  # fmt: skip
    token = created.stdout.strip()
    told = dict(line.split(": ", 1) for line in created.stderr.splitlines())
    token_id = told["id"]
    url = f"{server.base}/notebooks"
    headers = {"Authorization": f"Bearer {token}"}
    assert requests.get(url, headers=headers, timeout=10).status_code == 200
    refused = requests.post(
        f"{server.base}/notebook", json={"notebookName": "n"}, headers=headers, timeout=10
    )
    assert refused.status_code == 403
    listed = nbledger("token", "list").stdout
    assert "ada" in listed
    assert token_id in listed
    assert tenant in listed
    assert token not in listed
    assert nbledger("token", "revoke", token_id).returncode == 0
    assert nbledger("token", "revoke", token_id).returncode == 1
    verified = nbledger("audit", "verify")
    assert verified.returncode == 0, verified.stderr
    anchor = verified.stdout.rpartition("anchor: ")[2].strip()
    assert nbledger("audit", "verify", "--anchor", anchor).returncode == 0
    other = nbledger("audit", "verify", "--anchor", f"999999:{'0' * 64}")
    assert other.returncode == 1
    assert "FAULT" in other.stdout
    key = tmp_path / "key.pem"
    made = nbledger("audit", "key", str(key))
    assert made.returncode == 0, made.stderr
    kept = key.read_bytes()
    again = nbledger("audit", "key", str(key))
    assert (again.returncode, again.stderr) == (1, f"Error: {key}: File exists\n")
    assert key.read_bytes() == kept
    assert nbledger("projections", "rebuild", "notebook_list").returncode == 0
    unknown = nbledger("projections", "rebuild", "nothing")
    assert unknown.returncode == 1
    assert "notebook_list" in unknown.stderr, "it names those that exist"


@pytest.mark.guarantee("G27")
def test_logs_hold_no_secret_and_no_source(server: LocalServer) -> None:
    source = "print('a line of somebody else notebook')"
    requests.post(
        f"{server.base}/notebook",
        json={
            "notebookName": "secretive",
            "initialCells": [{"cellType": "code", "content": source}],
        },
        headers=server.headers,
        timeout=10,
    )
    password = server.info.postgres.split(":")[2].split("@")[0]
    logs = list((server.home / "logs").glob("*.log"))
    assert len(logs) >= 4
    text = "\n".join(Path(log).read_text(errors="replace") for log in logs)
    for secret in (server.info.token, password, "somebody else notebook"):
        assert secret not in text
