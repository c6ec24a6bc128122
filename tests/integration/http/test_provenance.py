"""The provenance of runs whose events are written by hand; no kernel runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from support.api import Api, new_notebook, running_api, settings_for
from support.outcomes import Left, Shown, ended

from nbledger_application import repository
from nbledger_domain.execution import (
    Execution,
    KernelFacts,
    Representation,
    Resources,
    RetryPolicy,
    TerminationCode,
)
from nbledger_infrastructure import aggregates
from nbledger_infrastructure.artifacts.store import ArtifactStore
from nbledger_infrastructure.artifacts.store import open_store as open_artifacts
from nbledger_infrastructure.postgres.event_store import Metadata
from nbledger_infrastructure.postgres.tokens import Role

RETRIES = msgspec.to_builtins(RetryPolicy(max_attempts=2))


async def provenance(api: Api, path: str, *roles: Role) -> dict[str, Any]:
    client = await api.client(*roles)
    answer = await client.get(f"{path}/provenance")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_what_was_not_recorded_is_null(database_dsn: str, tmp_path: Path) -> None:
    """As of events of before kernels and packages were told."""
    config = settings_for(database_dsn, tmp_path)
    async with running_api(config) as api:
        artifacts = ArtifactStore(open_artifacts(config.artifacts.url))
        outcome = await ended(
            api,
            artifacts,
            [[Shown([("text/plain", b"shown")])]],
            [Left("file", "../a b.txt", b"left")],
        )
        run = await provenance(api, outcome.execution)
        assert (run["kernel"]["language"], run["kernel"]["implementation"]) == ("python", None)
        assert run["environment"]["resolved"] is None
        assert run["environment"]["provided"] == []
        # Without a sealer there is no log.
        assert run["log"] is None
        crate = (await outcome.client.get(f"{outcome.execution}/provenance?format=ro-crate")).json()
        files = [each["@id"] for each in crate["@graph"] if "File" in each["@type"]]
        (left,) = (each for each in files if each.startswith("results/"))
        assert left.endswith("/_a%20b.txt")
        unknown = await outcome.client.get(f"{outcome.execution}/provenance?format=pdf")
        assert unknown.status_code == 422


async def test_the_last_attempt_is_what_came_of_it(database_dsn: str, tmp_path: Path) -> None:
    async with running_api(settings_for(database_dsn, tmp_path)) as api:
        client = await api.client()
        notebook = f"/notebook/{(await new_notebook(client, 'cell'))['notebookId']}"
        asked = await client.post(f"{notebook}/execute", json={"retryPolicy": RETRIES})
        path = f"{notebook}/execution/{asked.json()['executionId']}"
        loaded = await aggregates.load(api.store, Execution, UUID(asked.json()["executionId"]))
        assert loaded is not None
        run, at = loaded.aggregate, datetime.now(UTC)
        (cell,) = run.cells
        for attempt, version in ((1, "8.0"), (2, "9.0")):
            epoch = run.claim(f"w{attempt}", at=at)
            run.prepare_environment(epoch, "ready", packages=[f"p=={attempt}"], at=at)
            run.start(
                epoch,
                language="python",
                language_version="3.11.7",
                at=at,
                kernel=KernelFacts(
                    kernelspec="python3", implementation="ipython", implementation_version=version
                ),
                packages=Representation("text/plain", str(attempt) * 64, 8),
            )
            run.start_cell(epoch, cell.cell_id, at=at + timedelta(seconds=attempt))
            if attempt == 1:
                run.lose_attempt(epoch, "gone", at=at + timedelta(seconds=1))
        run.fail(
            epoch,
            TerminationCode.INTERNAL_ERROR,
            detail="no",
            resources=Resources(cpu_seconds=1.5),
            at=at + timedelta(seconds=3),
        )
        await repository.save(api.store, run, loaded.stream, Metadata(actor="worker"))
        told = await provenance(api, path, Role.READER)
        assert [(each["workerId"], each["outcome"]) for each in told["attempts"]] == [
            ("w1", "worker_lost"),
            ("w2", "internal_error"),
        ]
        assert told["kernel"]["implementationVersion"] == "9.0"
        assert told["environment"]["provided"] == ["p==2"]
        assert told["environment"]["resolved"]["digest"] == "2" * 64
        assert told["cells"][0]["startTime"] > told["startTime"]
        assert told["resources"]["cpuSeconds"] == 1.5
