"""The page of a report: what stands on top, and that it names nothing outside of it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any
from uuid import uuid4

import pytest

from nbledger_domain.cells import Cell
from nbledger_domain.execution import Execution, PlannedCell, RunOptions
from nbledger_domain.notebook import Environment, Integration, Notebook
from nbledger_workers import report
from nbledger_workers.kernel.protocol import CellFinished, CellStatus, OutputsUpdated
from nbledger_workers.planning import plan
from nbledger_workers.report_page import render
from nbledger_workers.report_references import without_references


def page(*cells: dict[str, Any], **told: Any) -> str:
    document = {
        "nbformat": 4,
        "nbformat_minor": 4,
        "metadata": {"title": "Loans <2024>", "report": told},
        "cells": list(cells),
    }
    return render(json.dumps(document))


def code(source: str, **data: Any) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "metadata": {},
        "source": source,
        "execution_count": 3,
        "outputs": [{"output_type": "display_data", "data": data, "metadata": {}}],
    }


def markdown(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


class _Loading(HTMLParser):
    """What a browser would load by itself, and what it would run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "iframe", "object", "embed", "link", "base", "form"}:
            self.found.append((tag, "", ""))
        for name, value in attrs:
            clicked = tag == "a" and name == "href" and "script" not in (value or "")
            remote = re.search(r"//|script:", value or "") and not (value or "").startswith("data:")
            if (remote and not clicked) or name.startswith("on") or value == "refresh":
                self.found.append((tag, name, value or ""))


def loading(text: str) -> list[tuple[str, str, str]]:
    parser = _Loading()
    parser.feed(text)
    return parser.found


_REMOTE = "http://example.org/x"
_OUTPUT = f"""
<img src="{_REMOTE}" srcset="{_REMOTE} 2x" alt="gone"><img src="data:image/png;base64,AAAA">
<script src="{_REMOTE}"></script><script>alert('script')</script>
<link rel="stylesheet" href="{_REMOTE}"><meta http-equiv="refresh" content="0;url={_REMOTE}">
<iframe srcdoc="<img src='{_REMOTE}'>"></iframe><base href="{_REMOTE}">
<object data="{_REMOTE}"><embed src="{_REMOTE}"></object>
<video poster="{_REMOTE}"><source src="{_REMOTE}"></video><body background="{_REMOTE}">
<div style="background: url({_REMOTE})" onclick="steal()">styled</div>
<div style="background: u\\72l({_REMOTE})">escaped</div>
<style>@import "{_REMOTE}"; .a {{ background: url('{_REMOTE}') }}</style>
<style>#T_1 td {{ color: red; background: url(data:image/png;base64,AAAA) }}</style>
<svg viewBox="0 0 1 1"><image href="{_REMOTE}"/><use xlink:href="{_REMOTE}#a"/><a href="#a"/>
<rect fill="url({_REMOTE}#g)" filter="url(#here)"/></svg>
<form action="{_REMOTE}"><input type="image" src="{_REMOTE}"></form>
<a href="{_REMOTE}">a link</a><a href="javascript:alert(1)">none</a>
<table class="dataframe"><tr><td>7 &lt; 8 &amp; 9</td></tr></table>
"""


def test_no_output_loads_runs_or_leads_anywhere() -> None:
    made = page(
        code("1", **{"text/html": _OUTPUT}),
        code("2", **{"application/javascript": f"fetch('{_REMOTE}')"}),
        code("3", **{"image/svg+xml": f'<svg><image href="{_REMOTE}"/></svg>'}),
        markdown(f"![a picture]({_REMOTE}) and [a link]({_REMOTE})<script>1</script>"),
    )
    assert loading(made) == []
    for gone in ("@import", "alert(", "steal(", "fetch('", "refresh", "u\\72l"):
        assert gone not in made, gone
    for kept in (
        f'<a href="{_REMOTE}">a link</a>',
        "7 &lt; 8 &amp; 9",
        "#T_1 td { color: red; background: url(data:image/png;base64,AAAA) }",
        'src="data:image/png;base64,AAAA"',
        'filter="url(#here)"',
        "escaped",
    ):
        assert kept in made, kept


def test_a_picture_in_markdown_is_no_way_to_the_workers_files(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.toml").write_text("password")
    monkeypatch.chdir(tmp_path)
    made = page(markdown("![x](settings.toml)"))
    assert "base64" not in made


def test_where_it_comes_from_stands_on_top() -> None:
    made = page(
        code("secret_source()", **{"text/plain": "42"}),
        facts=[["Notebook", "Loans <2024>"], ["Execution", "aa0e"]],
        parameters=[["region", '"<b>"']],
    )
    assert made.index("Provenance") < made.index("Parameters") < made.index("secret_source")
    assert "<th>region</th><td>&quot;&lt;b&gt;&quot;</td>" in made
    assert "Loans <2024>" not in made


@pytest.mark.parametrize("hide", [True, False])
def test_code_is_hidden_or_shown(*, hide: bool) -> None:
    made = page(code("secret_source()", **{"text/plain": "42"}), hideCode=hide)
    assert ("secret_source" not in made) is hide
    assert "42" in made


def test_what_is_not_closed_hides_the_rest_and_no_more() -> None:
    assert without_references("<p>a</p><script>never closed <p>b</p>") == "<p>a</p>"
    assert without_references("<p>1 < 2 &nbsp;&#38; <b class=x>3</b>") == (
        '<p>1 &lt; 2 &nbsp;&#38; <b class="x">3</b>'
    )


def test_in_place_of_what_is_too_large_for_a_report_it_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "_MAX_OUTPUT_BYTES", 1000)
    at = datetime.now(UTC)
    cells = [Cell(cell_id=each, cell_type="code", source="1") for each in "abc"]
    notebook = Notebook.create(
        uuid4(),
        name="Loans",
        description="",
        kernel_type="python3",
        integration=Integration(),
        environment=Environment(),
        cells=cells,
        created_by="tester",
        at=at,
    )
    execution = Execution.request(
        uuid4(),
        notebook_id=notebook.id,
        notebook_version=notebook.notebook_version,
        notebook_stream_version=notebook.version,
        kernel_type="python3",
        cells=[PlannedCell(each, "code") for each in "abc"],
        parameters={},
        options=RunOptions(timeout=60.0),
        requested_by="tester",
        at=at,
    )
    made = report.Page(plan(execution, notebook, "python"), execution, notebook)

    def output(text: str) -> list[bytes]:
        return [json.dumps({"output_type": "stream", "name": "stdout", "text": text}).encode()]

    def finish(index: int, text: str) -> None:
        made.put(CellFinished(index=index, status=CellStatus.SUCCESS, outputs=output(text)))

    def update(index: int, text: str) -> None:
        made.put(
            OutputsUpdated(
                index=index,
                outputs=output(text),
                output_bytes=len(text),
                output_count=1,
                truncated=False,
            )
        )

    def texts() -> list[str]:
        return [cell["outputs"][0]["text"] for cell in json.loads(made.document())["cells"]]

    finish(0, "first " * 20)
    finish(1, "large" * 200)
    finish(2, "third " * 20)
    first, large, third = texts()
    assert (first, third) == ("first " * 20, "third " * 20)
    assert "too large for a report" in large
    # What takes the place of the other is counted in its stead.
    update(1, "small")
    update(0, "large" * 200)
    first, large, third = texts()
    assert ("too large" in first, large, third) == (True, "small", "third " * 20)
