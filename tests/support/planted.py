"""Text planted wherever a user may write, and the search for it in all that a service keeps."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from support.wheels import make_wheel

_LETTERS = "ghijklmnopqrstuvwxyz"
"""No digits of hexadecimal: no id or digest looks like it."""

_MARK_LETTERS = 16
_LITERALS = 8
"""PostgreSQL's compression writes a byte of its own after so many bytes that do not repeat."""


def noise(letters: int) -> str:
    """Text that cannot be compressed."""
    return " " + "".join(secrets.choice(_LETTERS) for _ in range(letters))


def everything_below(folder: Path) -> list[Path]:
    """Files and folders below one, but for those that go while they are looked for."""
    return sorted(
        Path(place, name) for place, *names in os.walk(folder) for each in names for name in each
    )


class Planted:
    """A mark that nobody else has, the texts made with it, and what was made of them."""

    def __init__(self) -> None:
        self.mark = "".join(secrets.choice(_LETTERS) for _ in range(_MARK_LETTERS))
        self.since = time.time() - 1.0

    def text(self, kind: str) -> str:
        """The text for a kind of place: letters only, so that it may be a name anywhere."""
        return f"{self.mark}{kind}"

    def kinds_in(self, content: bytes) -> set[str]:
        """The kinds of texts that are to be read in ``content``."""
        mark = self.mark.encode()
        found, at = set[str](), content.find(mark)
        while at >= 0:
            begin = at + len(mark)
            end = begin
            while end < len(content) and content[end : end + 1].isalpha() and end - begin < 20:
                end += 1
            found.add(content[begin:end].decode())
            at = content.find(mark, begin)
        if not found and any(
            mark[begin : begin + _LITERALS] in content
            for begin in range(_MARK_LETTERS - _LITERALS + 1)
        ):
            found.add("(compressed)")
        return found

    def in_files(self, folder: Path) -> dict[str, set[str]]:
        """The files below a folder, changed since, that have a text in their name or content."""
        found: dict[str, set[str]] = {}
        for path in everything_below(folder):
            kinds = self.kinds_in(path.name.encode())
            kinds |= {f"{kind} (name)" for kind in kinds}
            for content in self._content(path):
                kinds |= self.kinds_in(content)
            if kinds:
                found[str(path.relative_to(folder))] = kinds
        return found

    def _content(self, path: Path) -> Iterator[bytes]:
        try:
            if path.is_file() and not path.is_symlink() and path.stat().st_mtime > self.since:
                yield path.read_bytes()
        except FileNotFoundError:
            return  # gone meanwhile, as temporary files go


CELL = """
import os
from mindzie_sdk import ProcessMiningClient
import {library}
client = ProcessMiningClient()
frame = client.load_dataset()
frame["{newcolumn}"] = "{newvalue}"
client.save_enriched_dataset(frame, "{enriched}")
client.save_report("# {report}", title="{reporttitle}")
client.log_metric("{metric}", 1.0)
os.makedirs("outputs", exist_ok=True)
open("outputs/{outputfile}.txt", "w").write("{outputcontent}")
open("outputs/word.txt", "w").write("{word}")
print("{word}", open("{inputfile}.csv").read(), client.parameters["{parameter}"])
"""


class Plant:
    """What was planted through the API of a project, by its addresses."""

    def __init__(
        self, client: httpx.Client, planted: Planted, word: str, folder: Path, number: int = 0
    ) -> None:
        self.client = client
        self._planted = planted
        self._suffix = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        self._word = word
        self._folder = folder
        self.notebook = ""
        self.addresses: list[str] = []
        self.executions: list[str] = []

    def text(self, kind: str) -> str:
        """The text of a kind, which no other plant has."""
        return self._planted.text(f"{kind}{self._suffix}")

    def everything(self) -> None:
        """One of each of what holds what a user writes, each a run has ended of."""
        text = self.text
        # So wide that the read model keeps what it held at an earlier position.
        wide = [f"c{number:099}" for number in range(500)]
        dataset = self._made(
            "/dataset/csv",
            files={
                "file": (
                    f"{text('datasetfile')}.csv",
                    f"{text('column')},b,{','.join(wide)}\n"
                    f"{text('row')},{self._word}{',' * len(wide)}\n".encode(),
                )
            },
        )
        library = self._folder / "wheel"
        wheel = make_wheel(
            library,
            text("library"),
            source=f"ABOUT = '{text('module')}'",
            besides={f"{text('library')}/{text('modulefile')}.txt": text("moduletext")},
        )
        self._made("/library", files={"file": (wheel.name, wheel.read_bytes())})
        names = {
            each: text(each)
            for each in (
                *("library", "newcolumn", "newvalue", "enriched", "report", "reporttitle"),
                *("metric", "outputfile", "outputcontent", "inputfile", "parameter"),
            )
        }
        notebook = self._made(
            "/notebook",
            json={
                "notebookName": text("name"),
                "notebookDescription": text("description"),
                "integration": {
                    "datasetBinding": dataset["datasetId"],
                    "scheduleExecution": {
                        "cron": "0 0 1 1 *",
                        "parameters": {"of_schedule": text("schedule")},
                    },
                },
                "environment": {"customLibraries": [text("library")]},
                "initialCells": [
                    {
                        "cellType": "markdown",
                        "content": text("markdown"),
                        "metadata": {"tags": [text("celltag")], text("member"): text("metadata")},
                    },
                    # PostgreSQL keeps long values elsewhere, and compressed where that helps.
                    {"cellType": "raw", "content": text("long") + noise(20_000)},
                    {"cellType": "raw", "content": text("repeated") + " again" * 5_000},
                    {
                        "cellType": "code",
                        "content": f'{names["parameter"]} = "x"',
                        "metadata": {"tags": ["parameters"]},
                    },
                    {"cellType": "code", "content": CELL.format(word=self._word, **names)},
                ],
            },
        )
        path = self.notebook = f"/notebook/{notebook['notebookId']}"
        put = self.client.put(f"{path}/file/{text('inputfile')}.csv", content=text("inputcontent"))
        assert put.status_code == 201, put.text
        for error in (False, True):
            if error:
                cell = f'raise ValueError("{text("error")}")'
                changed = self.client.put(
                    path, json={"cells": [{"cellType": "code", "content": cell}]}
                )
                assert changed.status_code == 200, changed.text
            self._run(path, error=error)
        for query in ("format=detailed", "format=notebook"):
            self.client.get(f"{self.executions[0]}/results?{query}")
        results = self.client.get(f"{self.executions[0]}/results").json()
        enriched = results["enrichedDatasets"][0]["datasetId"]
        self.addresses += [f"/dataset/{enriched}", f"{path}?force=true"]

    def _run(self, path: str, *, error: bool) -> None:
        asked = self._made(
            f"{path}/execute",
            json={
                "parameters": {
                    self.text("parameter"): self.text("value"),
                    "long": self.text("longvalue") + " again" * 9_000,
                },
                "tags": [self.text("tag")],
            },
            headers={"Idempotency-Key": f'"{self.text("key")}{error}"'},
        )
        execution = f"{path}/execution/{asked['executionId']}"
        ended = self.client.get(execution, headers={"Prefer": "wait=60"}).json()
        assert ended["status"] == ("Error" if error else "Completed"), ended
        self.executions.append(execution)

    def _made(self, path: str, **request: Any) -> dict[str, Any]:
        answer = self.client.post(path, **request)
        assert answer.status_code in {201, 202}, answer.text
        found: dict[str, Any] = answer.json()
        if path in {"/dataset/csv", "/library"}:
            kind = path.split("/")[1]
            self.addresses.append(f"/{kind}/{found[f'{kind}Id']}")
        return found

    def delete(self) -> None:
        """Delete all that was planted."""
        for path in reversed(self.addresses):
            answer = self.client.delete(path)
            assert answer.status_code == 204, (path, answer.text)
