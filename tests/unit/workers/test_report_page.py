"""The page of a report: what stands on top, and that it names nothing outside of it."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from support.aggregates import a_notebook, an_execution

from nbledger_domain.cells import Cell
from nbledger_domain.execution import PlannedCell
from nbledger_workers.kernel.outputs.forms import forms
from nbledger_workers.kernel.protocol import (
    CellFinished,
    CellStatus,
    OutputPart,
    OutputsUpdated,
)
from nbledger_workers.reports import outputs as report_outputs
from nbledger_workers.reports import report
from nbledger_workers.reports.page import render, render_with_notes
from nbledger_workers.reports.references import without_references
from nbledger_workers.translation.planning import plan


def page(*cells: dict[str, Any], **told: Any) -> str:
    document = {
        "nbformat": 4,
        "nbformat_minor": 4,
        "metadata": {"title": "Loans <2024>", "report": told},
        "cells": list(cells),
    }
    return render(json.dumps(document))


def noted(*cells: dict[str, Any]) -> tuple[str, list[str]]:
    """The page of these cells, and what it does not show."""
    document = {"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": list(cells)}
    return render_with_notes(json.dumps(document))


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


@pytest.fixture
def gathered() -> report.ReportPage:
    """A report of three cells, before any of them has run."""
    notebook = a_notebook(
        [Cell(cell_id=each, cell_type="code", source="1") for each in "abc"], name="Loans"
    )
    execution = an_execution(cells=[PlannedCell(each, "code") for each in "abc"], parameters={})
    return report.ReportPage(plan(execution, notebook, "python"), execution, notebook)


def stream(text: str, **more: Any) -> bytes:
    return json.dumps({"output_type": "stream", "name": "stdout", "text": text, **more}).encode()


def finished(index: int, *outputs: bytes, **more: Any) -> CellFinished:
    return CellFinished(index=index, status=CellStatus.SUCCESS, outputs=list(outputs), **more)


def shown(made: report.ReportPage, index: int) -> list[str]:
    """What the report shows of a cell, as text."""
    outputs = json.loads(made.document())["cells"][index]["outputs"]
    return [output.get("text") or output["data"]["text/plain"] for output in outputs]


def test_a_text_that_came_in_parts_is_whole(gathered: report.ReportPage) -> None:
    for number, text in ((1, "one\n"), (2, "cleared\n"), (1, "two\n")):
        gathered.put(OutputPart(index=0, number=number, data=text.encode()))
    gathered.put(finished(0, stream("three\n", parts=1), stream("other\n")))
    gathered.put(finished(1, stream("second cell\n")))
    assert shown(gathered, 0) == ["one\ntwo\nthree\n", "other\n"]
    assert shown(gathered, 1) == ["second cell\n"]


def test_what_is_too_large_for_a_report_is_counted_where_it_would_be(
    gathered: report.ReportPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_outputs, "MAX_BYTES", 1000)
    for _ in range(3):
        gathered.put(OutputPart(index=0, number=1, data=b"line\n" * 80))
    gathered.put(finished(0, stream("end\n" * 3, parts=1), stream("small\n")))
    left_out = "left out here: they are too large for a report. The results have them.]"
    # 1,200 bytes of it had come in parts, of which 800 have room, and 12 at its end.
    assert shown(gathered, 0) == [
        "line\n" * 160,
        f"[412 bytes, 83 lines {left_out}",
        "small\n",
    ]
    gathered.put(finished(1, stream("large" * 200), stream("large" * 200), stream("x")))
    assert shown(gathered, 1) == [f"[2 outputs (2,000 bytes) {left_out}", "x"]
    # What takes the place of the other is counted in its stead.
    for index, text in ((0, "x" * 20), (1, "large" * 100)):
        update = OutputsUpdated(
            index=index,
            outputs=[stream(text)],
            output_bytes=len(text),
            output_count=1,
            truncated=False,
        )
        gathered.put(update)
    assert (shown(gathered, 0), shown(gathered, 1)) == (["x" * 20], ["large" * 100])


def test_what_is_not_kept_is_counted_where_it_was_dropped(gathered: report.ReportPage) -> None:
    gap = {"notKeptBefore": {"outputs": 2, "bytes": 3000}}
    error = {"output_type": "error", "ename": "E", "evalue": "e", "traceback": []}
    outputs = [stream("a"), stream("b", **gap), json.dumps(error).encode()]
    gathered.put(finished(0, *outputs, truncated=True, output_count=10, output_bytes=4000))
    cell = json.loads(gathered.document())["cells"][0]
    texts = [output.get("data", {}).get("text/plain", "kept") for output in cell["outputs"]]
    size = sum(len(content) for _, content in forms(error)) + 2
    not_kept = "of this cell. Beyond the limits on output nothing is kept.]"
    assert texts == [
        "kept",
        f"[Not shown here: 2 outputs (3,000 bytes) {not_kept}",
        "kept",
        f"[Not shown here: 5 outputs ({1000 - size} bytes) {not_kept}",
        "kept",
    ]


_PNG = "iVBORw0KGgo="


def test_pasted_pictures_are_in_the_report() -> None:
    for source, attachments in (
        ("![a](attachment:a.png)", {"a.png": {"image/png": _PNG}}),
        ("![a](attachment:a%20b.png 'title')", {"a b.png": {"image/png": [_PNG[:4], _PNG[4:]]}}),
        ("![a][r]\n\n[r]: attachment:a.png", {"a.png": {"image/png": f"{_PNG}\n"}}),
        ('<img width="9" src="attachment:a.png">', {"a.png": {"image/png": _PNG}}),
    ):
        made, notes = noted({**markdown(source), "attachments": attachments})
        assert f'src="data:image/png;base64,{_PNG}"' in made, source
        assert notes == []


@pytest.mark.parametrize(
    ("attachments", "reason"),
    [
        (None, "which the cell does not have"),
        ({"b.png": {"image/png": _PNG}}, "which the cell does not have"),
        ({"a.png": {}}, "which is no picture (it is empty)"),
        ({"a.png": {"image/png": "%%%"}}, "which is no picture (no valid base64"),
        ({"a.png": {"image/png": 7}}, "which is no picture (its content is no text)"),
        ({"a.png": {"text/html": "<p>"}}, "which is no picture (its type is text/html)"),
    ],
)
def test_a_picture_that_is_absent_costs_that_picture(attachments: Any, reason: str) -> None:
    cell = {**markdown("before ![a](attachment:a.png) after `![b](attachment:no.png)`")}
    if attachments is not None:
        cell["attachments"] = attachments
    made, (note,) = noted(cell, markdown("the next cell"))
    assert note.startswith(f"Cell 1: it shows the attachment 'a.png', {reason}"), note
    assert html.escape(note) in made
    for kept in ("before", "after", "the next cell", "<code>![b](attachment:no.png)</code>"):
        assert kept in made


@pytest.mark.parametrize(
    ("data", "shows", "reason"),
    [
        ({"image/png": "%%%"}, "", "image/png (no valid base64"),
        ({"image/png": "%%%", "text/plain": "instead"}, "<pre>instead</pre>", "image/png"),
        ({"image/svg+xml": "<svg>", "text/plain": "instead"}, "<pre>instead</pre>", "image/svg"),
        ({"image/svg+xml": {"a": 1}}, "", "its content is no text"),
        ({"text/html": None, "text/plain": ["in", "stead"]}, "<pre>instead</pre>", "text/html"),
        ({"text/markdown": "![a](attachment:x.png)"}, "", "attachment 'x.png'"),
        ({"application/x-own": "?"}, "", "application/x-own cannot be shown"),
        ({"application/javascript": "1"}, "", "only a script can draw"),
        ({"application/javascript": "1", "text/plain": "instead"}, "<pre>instead</pre>", None),
        ({"image/gif": "R0lGODlhAQABAA=="}, "data:image/gif;base64,R0lGODlhAQABAA==", None),
        ({"text/html": "<b>bold<i>both</b> <div/> <td></p>"}, "<b>bold<i>both</i></b>", None),
        ({"text/html": "<div>begun<!-- never closed"}, "<div>begun", None),
        ({"text/html": "<script>never closed"}, "", None),
        ({"text/html": "<![CDATA[ <!DOCTYPE [<!ELEMENT <<<>>> &#xfffffff; <table><tr>"}, "", None),
        ({}, "", None),
    ],
)
def test_one_bad_output_costs_nothing_else(data: Any, shows: str, reason: str | None) -> None:
    made, notes = noted(
        code("1", **{"text/plain": "the first"}),
        code("2", **data),
        code("3", **{"text/html": "<em>the last</em>"}),
    )
    for kept in ("the first", shows, "<em>the last</em>"):
        assert kept in made
    assert made.count("<div") == made.count("</div>")
    assert len(notes) == (0 if reason is None else 1)
    if reason is not None:
        assert notes[0].startswith("Cell 2: ")
        assert reason in notes[0]
        assert html.escape(notes[0]) in made


def test_metadata_of_any_kind_cost_nothing() -> None:
    odd = {"tags": 7, "raw_mimetype": ["x"], "magics_language": {}, "alt": []}
    made, notes = noted(
        {**code("print('kept')", **{"text/plain": "42"}), "metadata": odd},
        {"cell_type": "raw", "source": "raw", "metadata": odd},
        {**markdown("*kept*"), "metadata": odd},
    )
    assert ("42" in made, "<em>kept</em>" in made, notes) == (True, True, [])


def test_html_of_a_million_tags_does_not_hold_a_report_up() -> None:
    made, notes = noted(
        code("1", **{"text/html": "<b>" * 1_000_001, "text/plain": "instead"}),
        code("2", **{"text/html": "<b>small</b>"}),
    )
    assert "<pre>instead</pre>" in made
    assert "<b>small</b>" in made
    assert "too much for a report" in notes[0]


def test_text_is_shown_as_it_is() -> None:
    text = "<script>&amp;</script> \x1b[31mred\x1b[0m\n"
    cell = {**code("1"), "outputs": [{"output_type": "stream", "name": "stdout", "text": text}]}
    made, _ = noted(cell, code("2", **{"text/plain": text}))
    escaped = '&lt;script&gt;&amp;amp;&lt;/script&gt; <span class="ansi-red-fg">red</span>\n'
    assert made.count(escaped) == 2
