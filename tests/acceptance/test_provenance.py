"""How a result came about, told of real runs on a running service."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from importlib import metadata
from typing import Any

import httpx
import pytest
from support.crates import UNMET, faults, needs_validator
from support.local_server import LocalServer

CELL = """
import os, pathlib
from mindzie_sdk import ProcessMiningClient
frame = ProcessMiningClient().load_dataset()
pathlib.Path("outputs").mkdir(exist_ok=True)
pathlib.Path("outputs/note.txt").write_text("a note")
print(open("in.csv").read() * factor)
"""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Runs:
    """A notebook with everything, run once and run again, and once with an error."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        file = {"file": ("log.csv", b"case_id,hours\na,1\n", "text/csv")}
        self.dataset = self._made("/dataset/csv", files=file)["datasetId"]
        cells = [
            {"cellType": "markdown", "content": "# Title"},
            {"cellType": "code", "content": "factor = 1", "metadata": {"tags": ["parameters"]}},
            {"cellType": "code", "content": CELL},
        ]
        made = self._made(
            "/notebook",
            json={
                "notebookName": "Provenance",
                "integration": {"datasetBinding": self.dataset},
                "initialCells": cells,
            },
        )
        self.notebook = f"/notebook/{made['notebookId']}"
        assert client.put(f"{self.notebook}/file/in.csv", content=b"x").status_code == 201
        self.first = self._ended("/execute", parameters={"factor": 2}, tags=["t"])
        again = self.first.removeprefix(self.notebook)
        self.again = self._ended(f"{again}/rerun", datasets="same")
        self.failed = self._ended("/execute", parameters={"factor": None})

    def _made(self, path: str, **request: Any) -> dict[str, Any]:
        answer = self._client.post(path, **request)
        assert answer.status_code in {201, 202}, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def _ended(self, address: str, **body: Any) -> str:
        made = self._made(f"{self.notebook}{address}", json=body)
        path = f"{self.notebook}/execution/{made['executionId']}"
        status = self._client.get(path, headers={"Prefer": "wait=60"}).json()
        assert status["status"] != "Running", status
        return path

    def told(self, path: str, form: str = "json") -> Any:
        answer = self._client.get(f"{path}/provenance?format={form}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def archive(self, path: str) -> zipfile.ZipFile:
        answer = self._client.get(f"{path}/provenance?format=ro-crate-zip")
        assert answer.headers["content-type"] == "application/zip"
        return zipfile.ZipFile(io.BytesIO(answer.content))


@pytest.fixture(scope="module")
def runs(server: LocalServer) -> Any:
    with httpx.Client(base_url=server.base, headers=server.headers, timeout=90) as client:
        yield Runs(client)


@pytest.mark.guarantee("G51")
def test_the_facts_of_a_run_that_repeats_one(runs: Runs) -> None:
    run = runs.told(runs.again)
    first = runs.first.rpartition("/")[2]
    assert run["cause"] == {"kind": "rerun", "executionId": first}
    assert [each["executionId"] for each in run["causes"]] == [first]
    assert run["causes"][0]["cause"] == {"kind": "request"}
    assert (run["status"], run["parameters"], run["tags"]) == ("Completed", {"factor": 2}, ["t"])
    assert run["requestedBy"] != run["requestedById"]
    assert run["notebook"]["digest"] == runs.told(runs.first)["notebook"]["digest"]
    assert run["notebook"]["version"] == "1.1.0"
    kernel = run["kernel"]
    assert (kernel["kernelspec"], kernel["implementation"]) == ("python3", "ipython")
    assert kernel["implementationVersion"] == metadata.version("ipython")
    (dataset,) = run["datasets"]
    assert (dataset["datasetId"], dataset["version"], dataset["rows"]) == (runs.dataset, 1, 1)
    assert run["inputFiles"][0]["content"]["digest"] == sha256(b"x")
    (attempt,) = run["attempts"]
    assert (attempt["attempt"], attempt["outcome"]) == (1, "success")
    markdown, _, cell = run["cells"]
    assert (markdown["cellType"], markdown["status"], cell["status"]) == (
        "markdown",
        None,
        "Success",
    )
    assert run["startTime"] <= cell["startTime"] <= cell["endTime"] <= run["endTime"]
    (output,) = cell["outputs"]
    assert output["representations"][0]["digest"] == sha256(b"xx\n")
    (artifact,) = run["artifacts"]
    assert (artifact["kind"], artifact["content"]["digest"]) == ("file", sha256(b"a note"))
    assert run["lastPosition"] > run["firstPosition"] > 0
    assert run["events"] > 5
    failed = runs.told(runs.failed)
    assert (failed["status"], failed["terminationCode"]) == ("Error", "cell_error")
    assert failed["cells"][2]["error"].startswith("TypeError: ")


@pytest.mark.guarantee("G51")
def test_an_archive_has_every_file_that_it_tells_of(runs: Runs) -> None:
    with runs.archive(runs.first) as archive:
        crate = json.loads(archive.read("ro-crate-metadata.json"))
        entities = {each["@id"]: each for each in crate["@graph"]}
        told = {name: each["sha256"] for name, each in entities.items() if "File" in each["@type"]}
        names = [name for name in archive.namelist() if name != "ro-crate-metadata.json"]
        assert {name: sha256(archive.read(name)) for name in names} == told
        packages = archive.read("environment/packages.txt").decode().splitlines()
        assert f"pandas=={metadata.version('pandas')}" in packages
        names = [each.partition("==")[0] for each in packages]
        assert names == sorted(names)
        notebook = json.loads(archive.read("notebook.ipynb"))
        assert "xx\n" in json.dumps(notebook).encode().decode("unicode_escape")
    action = entities[f"#run-{runs.first.rpartition('/')[2]}"]
    assert action["instrument"] == {"@id": "notebook.ipynb"}
    assert entities["#parameter-factor"]["value"] == 2


@pytest.mark.guarantee("G51")
@needs_validator
def test_the_validator_of_the_profile_finds_nothing(runs: Runs) -> None:
    validate(runs.told(runs.again, "ro-crate"))


@pytest.mark.campaign
@needs_validator
def test_the_validator_finds_nothing_of_a_run_that_failed(runs: Runs) -> None:
    validate(runs.told(runs.failed, "ro-crate"))


def validate(crate: dict[str, Any]) -> None:
    (found,) = faults([crate])
    assert {name: told for name, told in found.items() if name not in UNMET} == {}
    # It has looked: what is recommended and not there is told.
    assert "process-run-crate-0.5_3.2" in found
