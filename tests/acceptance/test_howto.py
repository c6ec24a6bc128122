"""The commands of docs/howto, run in the order of its index on a running server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from support.local_server import LocalServer
from support.node import node
from support.paths import ROOT

from nbledger.embedded.postgres_files import programs_folder

HOWTO = ROOT / "docs" / "howto"
SECONDS = 100.0
# Needs a container engine.
ELSEWHERE = ("docker ",)

# A request fails the page where it fails, unless the page prints its status. A copy may meet
# files that the running server is just about to remove.
PRELUDE = """
curl() {
    local status=0
    command curl --fail-with-body "$@" || status=$?
    [[ $status = 22 && "$*" == *http_code* ]] && return 0
    return $status
}
cp() { command cp "$@" || true; }
# What a page starts in the background ends with it; others on this machine run the same page.
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
"""

# What one page has started may still listen when the next one begins.
FREE_PORT = """
port=$(python3 -c '
import socket
with socket.create_server(("127.0.0.1", 0)) as taken:
    print(taken.getsockname()[1])
')
"""

# What each page has to print, after its own file name.
PRINTED = {
    "deploy.md": ["the schema is up to date", '"status":"ok"', '"kernelType":"python3"'],
    "back-up-and-restore.md": ["nothing was altered"],
    "rotate-tokens.md": ['"notebooks":', "ada, second", "revoked "],
    "add-a-kernel-type.md": ["Available kernels", '"kernelType":"python3"'],
    "raise-isolation.md": ["isolated by", "isolated by process"],
    "upgrade.md": ["the schema is up to date"],
    "find-out-why-a-run-waits.md": [
        "Running ",
        "queue",
        '"kernelType"',
        "longest",
        "silent",
        "success",
    ],
    "rebuild-a-projection.md": [
        *("the last event is at position", "notebook_list: rebuilt as of position"),
        *("execution_status: ", " rows equal at position", '"verified":[{"name":"notebook_list"'),
    ],
    "tell-a-lineage-tool.md": ["Completed\nSTART ", "\nCOMPLETE ", "lineage "],
    "run-a-notebook.md": ["Completed", "1.1.0"],
    "follow-a-run.md": ["Completed", "\n304\n", "event: execution.completed.v1", "\n6\n"],
    "fetch-results.md": [
        "Completed",
        "table {'orders': 2.0} note.txt",
        "order,amount",
        "manifest.json",
    ],
    "pass-parameters.md": ["Completed", "south 100", "region", "422\n"],
    "run-on-change.md": ["idle\n2\n", "Completed\n2 orders\n", "'kind': 'dataset'", "\noff\n"],
    "be-told-of-slow-runs.md": ["runSlow The run takes longer", "Running {'runs': 5", "202\n"],
    "retry-safely.md": ["idempotency-replayed: true", "one run\n1\n"],
    "repair-a-failed-run.md": [
        "cell-002 ZeroDivisionError",
        "['repair']",
        "Completed",
        "request Error\nrepair Completed\n",
        "['notebook', 'parameters'] ['cell-002']",
    ],
    "cancel-or-rerun-many.md": ["3 found", "rerun Completed 1 of 1"],
    # Which events come first is a matter of partitions.
    "consume-events.md": ["nbledger.", " True"],
    "consume-exactly-once.md": ["\n2|2\n", "ended in order\nexample|"],
    "catch-up.md": ["Completed", '"events":[', '"complete":true'],
    "receive-webhooks.md": [
        *("notebook.created.v1", "delivered 204 None\n", "signed\n"),
        *("202\n", "nbledger.notebook.created.v1", "204\n"),
    ],
    "order-and-duplicates.md": ["kept 2"],
    "replay-events.md": [
        *(" events published to nbledger.replay.late, up to position ", '"state":"completed"'),
        "3 events published to nbledger.events, up to position 3 of 3",
    ],
    "replay-a-history.md": ["notebook.renamed.v1", "1.0.1 {} ", "execution.completed.v1"],
    "see-the-past.md": [
        *("1.0.1\n", "1.1.0\n", "Churn\n", "404\ncreated_later\n"),
        *("/notebookName Churn -> Churn by region", "cell-001 changed ['source']"),
        '"notebookVersion": "1.0.1"',
    ],
    "read-histories.md": [
        "/name Looked into -> Looked into twice",
        '"complete":true',
        " project None export\n",
    ],
    "verify-the-chain.md": [
        *("nothing was altered", "anchor: ", '"verifierKeys":["localhost/'),
        *("c2sp.org/tlog-proof@v1", '"hashes":['),
    ],
    "export-a-history.md": [
        *("wrote part: 1 events of notebook ", "wrote history.zip: ", "all of them"),
        *("nothing is wrong: 1 of ", " events of localhost/", "the copy is good"),
    ],
    "run-a-witness.md": [
        *("audit.example.com/w1+", "quorum none\n", "— audit.example.com/w1 "),
        *("entries, signed\n", "cosigned by mine at ", " of 3600 s allowed"),
    ],
    "trace-a-result.md": [
        *("Completed", "1.0.0 ipython 3.", "ro-crate-metadata.json", "environment/packages.txt"),
        # Of what the cell printed: as it was recorded, and as sha256sum has it.
        "084c799cd551dd1d8d5c5f9a5d593b2e931f5e36122ee5c793c1d08a19839cc0\n084c799cd551dd1d",
    ],
    "erase-data.md": [
        *('"erased":true', "erased: position ", "nothing was altered"),
        *("the write-ahead log holds nothing of before", "ada, who leaves", "erased "),
    ],
}


def _by_reader() -> dict[str, list[str]]:
    """The pages of each reader, as the index lists them."""
    found: dict[str, list[str]] = {}
    rows = re.findall(
        r"(?m)^\| ?(.*?) ?\| \[.+\]\((.+\.md)\) \|$", (HOWTO / "README.md").read_text()
    )
    for reader, page in rows:
        if reader:
            found[reader.strip("*").split()[-1]] = []
        found[list(found)[-1]].append(page)
    return found


READERS = _by_reader()


def blocks(page: str) -> list[str]:
    """The commands of a page, without the indentation that a list gives them."""
    found = re.findall(r"(?ms)^( *)```sh\n(.*?)^ *```$", (HOWTO / page).read_text())
    commands = [re.sub(rf"(?m)^{indentation}", "", block) for indentation, block in found]
    return [block for block in commands if not block.startswith(ELSEWHERE)]


def test_every_page_is_listed_and_its_answers_are_looked_at() -> None:
    listed = [page for pages in READERS.values() for page in pages]
    assert {*listed, "README.md"} == {path.name for path in HOWTO.glob("*.md")}
    assert sorted(PRINTED) == sorted(listed)
    assert all(map(blocks, listed))


@pytest.mark.timeout(SECONDS + 30)
@pytest.mark.parametrize("reader", READERS)
def test_the_commands_of_all_pages_work(server: LocalServer, tmp_path: Path, reader: str) -> None:
    # A subscriber gets something to read, whoever else uses the server.
    for _ in range(3):
        requests.post(
            f"{server.base}/notebook",
            json={"notebookName": "n"},
            headers=server.headers,
            timeout=10,
        ).raise_for_status()
    (tmp_path / ".nbledger").symlink_to(server.home)
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    script = [PRELUDE, *blocks("README.md")]
    for page in READERS[reader]:
        script += [f"echo '== {page}'", FREE_PORT, *blocks(page)]
    folders = (Path(sys.executable).parent, programs_folder(None), Path(node()).parent)
    path = ":".join([*map(str, folders), os.environ["PATH"]])
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "NODE_PATH": str(ROOT / ".venv-node" / "node_modules")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-5000:]
    _, *printed = re.split(r"(?m)^== (.+\.md)$", ended.stdout)
    for page, text in zip(printed[::2], printed[1::2], strict=True):
        missing = [each for each in PRINTED[page] if each not in text]
        assert not missing, f"{page}: {missing}\n{text}"
