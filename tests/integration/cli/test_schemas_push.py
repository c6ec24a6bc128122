"""``nbledger schemas push`` against a strict small registry, and against a real one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft7Validator  # type: ignore[import-untyped]
from support.paths import ROOT
from support.registry import Registry, basic, serving

from nbledger import registry
from nbledger.embedded.ports import free_port
from nbledger.main import main
from nbledger_schemas import published, states

COUNT = len(published()) + len(states())
APICURIO = ("io.apicurio:apicurio-registry-app:3.3.3:tar.gz:all", 21)
CREATED = "nbledger.notebook.created.v1"


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLEDGER_HTTP_PUBLIC_URL", "https://notebooks.example.com")


def push(url: str, *options: str) -> Result:
    return CliRunner().invoke(main, ["schemas", "push", "--registry", url, *options])


def test_everything_is_registered_once() -> None:
    with serving(Registry()) as there:
        first = push(there.url)
        assert (first.exit_code, first.stderr) == (0, "")
        assert first.stdout.endswith(f"{COUNT} registered, 0 unchanged\n")
        assert there.schemas.keys() == {f"nbledger.{each}" for each in (*published(), *states())}
        assert set(there.levels.values()) == {"FORWARD_TRANSITIVE"}
        schema = json.loads(there.schemas[CREATED][0])
        assert (
            schema["$id"] == "https://notebooks.example.com/schema/events/notebook.created.v1.json"
        )
        changes = len(there.changes)
        again = push(there.url)
        assert again.stdout == f"0 registered, {COUNT} unchanged\n"
        assert len(there.changes) == changes
        # Another level, and nothing else.
        other = push(there.url, "--compatibility", "NONE", "--dry-run")
        assert f"{CREATED}: unchanged, compatibility NONE" in other.stdout
        assert len(there.changes) == changes
        assert there.faults == []


def test_a_dry_run_changes_nothing_and_tells_what_would_be_refused() -> None:
    with serving(Registry()) as there:
        told = push(there.url, "--dry-run")
        assert told.stdout.endswith(f"{COUNT} would be registered, 0 unchanged\n")
        assert there.changes == []
        there.refuses = CREATED
        refused = push(there.url, "--dry-run")
        assert refused.exit_code == 1
        assert "PROPERTY_REMOVED" in refused.stderr
        assert there.changes == there.faults == []


def test_a_refusal_is_explained() -> None:
    with serving(Registry(refuses=CREATED)) as there:
        told = push(there.url, "--keep-compatibility")
        assert told.exit_code == 1
        assert f"{CREATED}: it is incompatible with a schema that the registry has" in told.stderr
        assert "PROPERTY_REMOVED at #/properties/name" in told.stderr
        assert "FORWARD_TRANSITIVE" in told.stderr
        assert there.levels == {}


@pytest.mark.parametrize(
    ("variable", "value", "authorization"),
    [
        ("NBLEDGER_REGISTRY_USER", "ada:se:cret", basic("ada:se:cret")),
        ("NBLEDGER_REGISTRY_TOKEN", "abc", "Bearer abc"),
    ],
)
def test_credentials_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, authorization: str
) -> None:
    with serving(Registry(authorization=authorization)) as there:
        refused = push(there.url, "--dry-run")
        assert refused.exit_code == 1
        assert "401 Unauthorized: set NBLEDGER_REGISTRY_USER" in refused.stderr
        monkeypatch.setenv(variable, value)
        told = push(there.url, "--dry-run")
        assert (told.exit_code, there.faults) == (0, [])
        assert "se:cret" not in told.output


def test_a_registry_that_is_away_is_told_in_a_line() -> None:
    told = push(f"http://127.0.0.1:{free_port()}")
    assert told.exit_code == 1
    assert told.stderr.startswith("Error: http://127.0.0.1:")
    assert told.stderr.count("\n") == 1


def test_subjects_may_begin_with_their_topic() -> None:
    named = {
        each.name
        for each in registry.subjects("http://h", topic_prefix="own", naming="topic-record")
    }
    assert f"own.events-{CREATED}" in named
    assert "own.notebook-state-nbledger.notebook-state.v1" in named


@pytest.mark.parametrize("name", [*published(), *states()])
def test_the_older_dialect_says_the_same(name: str) -> None:
    found = registry.subjects("http://h", topic_prefix="nbledger", dialect="draft-07")
    (text,) = (each.schema for each in found if each.name == f"nbledger.{name}")
    schema = json.loads(text)
    Draft7Validator.check_schema(schema)
    assert "$defs" not in text
    validator = Draft7Validator(schema)
    for example in schema.get("examples", []):
        assert [each.message for each in validator.iter_errors(example)] == []
        for member in schema.get("required", []):
            assert not validator.is_valid({k: v for k, v in example.items() if k != member})


def java() -> str | None:
    """A Java that runs the registry."""
    homes = [os.environ.get("JAVA_HOME", ""), *map(str, Path("/usr/lib/jvm").glob("*"))]
    for program in (shutil.which("java"), *(f"{home}/bin/java" for home in homes)):
        if program and Path(program).exists():
            told = subprocess.run(
                [program, "-version"], capture_output=True, text=True, check=False
            )
            version = re.search(r'version "(\d+)', told.stderr)
            if version and int(version[1]) >= APICURIO[1]:
                return program
    return None


@pytest.fixture(scope="module")
def apicurio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Confluent API of an Apicurio Registry, which keeps everything in memory."""
    program, maven = java(), shutil.which("mvn")
    if program is None or maven is None:
        pytest.skip(f"needs Java {APICURIO[1]} and Maven")
    folder = ROOT / ".cache" / "apicurio-3.3.3"
    if not (folder / "quarkus-run.jar").exists():
        archive = folder.with_suffix(".tar.gz")
        folder.mkdir(parents=True, exist_ok=True)
        copy = [maven, "-q", "dependency:copy", f"-Dartifact={APICURIO[0]}", "-Dmdep.stripVersion"]
        subprocess.run(
            [*copy, f"-DoutputDirectory={archive.parent}"],
            check=True,
            timeout=600,
            cwd=archive.parent,
        )
        found = archive.parent / "apicurio-registry-app-all.tar.gz"
        subprocess.run(["tar", "xzf", found, "-C", folder], check=True, timeout=120)
        found.unlink()
    port = free_port()
    process = subprocess.Popen(
        [program, "-Xmx384m", "-XX:TieredStopAtLevel=1", "-jar", folder / "quarkus-run.jar"],
        env={
            "PATH": os.environ["PATH"],
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(port),
            "QUARKUS_MANAGEMENT_HOST": "127.0.0.1",
            "QUARKUS_MANAGEMENT_PORT": str(free_port()),
            "APICURIO_STORAGE_KIND": "sql",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path_factory.mktemp("apicurio"),
    )
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    try:
        end = time.monotonic() + 120
        while True:
            assert process.poll() is None
            assert time.monotonic() < end
            try:
                if httpx.get(f"{url}/subjects", timeout=10).is_success:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield url
    finally:
        process.kill()
        process.wait(30)


@pytest.mark.third_party
@pytest.mark.timeout(900)
def test_a_real_registry_takes_them_and_refuses_what_breaks_readers(
    apicurio: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert push(apicurio, "--dry-run").stdout.endswith(
        f"{COUNT} would be registered, 0 unchanged\n"
    )
    first = push(apicurio, "--dialect", "draft-07")
    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout.endswith(f"{COUNT} registered, 0 unchanged\n")
    again = push(apicurio, "--dialect", "draft-07")
    assert again.stdout == f"0 registered, {COUNT} unchanged\n"
    kept = httpx.get(f"{apicurio}/config/{CREATED}").json()
    assert kept == {"compatibilityLevel": "FORWARD_TRANSITIVE"}
    told = httpx.get(f"{apicurio}/subjects/{CREATED}/versions/latest").json()
    assert told["schemaType"] == "JSON"
    schema = json.loads(told["schema"])
    # What our own rules allow, it takes.
    schema["properties"]["mood"] = {"type": "string"}
    more = registry.Subject(CREATED, json.dumps(schema))
    client = registry.Registry(apicurio, {})
    options = {"compatibility": "FORWARD_TRANSITIVE", "dry_run": False}
    assert [each.outcome for each in client.push([more], **options)] == ["registered"]  # type: ignore[arg-type]
    schema["properties"]["name"] = {"type": "integer"}
    wrong = registry.Subject(CREATED, json.dumps(schema))
    with pytest.raises(registry.RegistryError, match="incompatible with a schema"):
        list(client.push([wrong], **options))  # type: ignore[arg-type]
    with pytest.raises(registry.RegistryError, match="incompatible with a schema"):
        list(client.push([wrong], compatibility="FORWARD_TRANSITIVE", dry_run=True))
    client.close()


@pytest.mark.third_party
@pytest.mark.timeout(900)
def test_a_real_registry_takes_the_newer_dialect_once(apicurio: str) -> None:
    newer = push(apicurio, "--subjects", "topic-record")
    assert (newer.exit_code, newer.stderr) == (0, "")
    again = push(apicurio, "--subjects", "topic-record")
    assert again.stdout == f"0 registered, {COUNT} unchanged\n"
