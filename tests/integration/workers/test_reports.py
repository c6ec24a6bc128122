"""Reports of real runs: what stands in them, and that a browser loads nothing for them."""

from __future__ import annotations

import asyncio
import html
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from support.browser import CHROMIUM, needs_browser
from support.executions import Stage, eventually

from nbledger_domain.cells import Cell
from nbledger_domain.execution import Execution, ExecutionStatus, OutputOptions
from nbledger_domain.not_kept import NotKept
from nbledger_http.representations.notebooks.outputs import executed_outputs, missing
from nbledger_projections.read_models.executions import result_folding
from nbledger_projections.read_models.executions.result_folding import CellOutputs
from nbledger_workers.reports import browser
from nbledger_workers.reports.page import render


async def reports(
    scene: Stage, execution_id: UUID
) -> dict[str, tuple[Execution.ArtifactStored, bytes]]:
    """The reports of a run by format, with their content."""
    return {
        event.attributes["format"]: (event, await scene.content(execution_id, event.content))
        for event in await scene.events(execution_id, Execution.ArtifactStored)
        if event.kind == "report"
    }


async def test_a_report_tells_where_it_comes_from_and_hides_code(at_work: Stage) -> None:
    execution = await at_work.run(
        "hidden_name = region + ' rules'\nprint(hidden_name)",
        parameters={"region": "north"},
        output_options=OutputOptions(generate_report=True, report_code="hide"),
    )
    assert execution.status is ExecutionStatus.COMPLETED
    ((event, content),) = (await reports(at_work, execution.id)).values()
    assert event.attributes == {"format": "html", "code": "hidden"}
    page = content.decode()
    for told in (
        "north rules",
        "<th>region</th><td>&quot;north&quot;</td>",
        f"<td>{execution.notebook_id}</td>",
        f"<td>{execution.id}</td>",
        f"<td>{execution.notebook_version}</td>",
        "python3 (python 3.",
    ):
        assert told in page, told
    assert "hidden_name" not in page
    # Who asked for it is told by the execution, and can be erased there.
    assert "tester" not in page


_PNG = "iVBORw0KGgo="


async def executed(scene: Stage, execution_id: UUID) -> tuple[list[CellOutputs], dict[str, Any]]:
    """The results of a run, and its outputs as the executed notebook has them."""
    state = None
    for recorded in await scene.history(execution_id):
        state = result_folding.fold(state, recorded)
    assert state is not None
    scope = await scene.scope(execution_id)
    return state.results.cells, await executed_outputs(scene.artifacts, scope, state.results.cells)


async def test_a_report_has_all_that_is_kept_and_says_what_is_not(at_work: Stage) -> None:
    pictures = "![a](attachment:a.png) ![b](attachment:b.png)"
    execution = await at_work.run(
        Cell(
            cell_id="pictures",
            cell_type="markdown",
            source=pictures,
            attachments={"a.png": {"image/png": _PNG}},
        ),
        Cell(
            cell_id="lines",
            cell_type="code",
            source="for i in range(200_000): print('line', i)",
        ),
        Cell(
            cell_id="items",
            cell_type="code",
            source="from IPython.display import display\n"
            "for i in range(1500): display('item%d' % i)\n1 / 0",
        ),
        output_options=OutputOptions(generate_report=True),
        seconds=120,
    )
    assert execution.status is ExecutionStatus.ERROR
    lines = "".join(f"line {i}\n" for i in range(200_000))
    ((_, content),) = (await reports(at_work, execution.id)).values()
    page = content.decode()
    assert lines in page
    assert f"data:image/png;base64,{_PNG}" in page
    absent = "pictures: it shows the attachment 'b.png', which the cell does not have."
    assert html.escape(absent) in page
    # Each is shown with the quotation marks of its repr.
    size = sum(len(f"'item{i}'") for i in range(1000, 1500))
    assert await at_work.warnings(execution.id) == [
        f"Cell 'items': 500 outputs ({size:,} bytes) beyond the limits on output: not kept.",
        f"The report does not show all: {absent}",
    ]
    note = f"Not shown here: 500 outputs ({size:,} bytes) of this cell."
    assert page.index("item999") < page.index(note) < page.index("ZeroDivisionError</span>")
    assert "item1000" not in page

    cells, outputs = await executed(at_work, execution.id)
    assert [output["text"] for output in outputs["lines"]] == [lines]
    assert len(outputs["items"]) == 1002
    told = outputs["items"][1000]
    assert note in told["data"]["text/plain"]
    assert told["metadata"] == {"nbledger": {"notKept": {"outputs": 500, "bytes": size}}}
    assert outputs["items"][1001]["ename"] == "ZeroDivisionError"
    assert [missing(cell) for cell in cells] == [None, NotKept(500, size)]


@needs_browser
async def test_a_report_comes_as_pdf_too_where_there_is_a_browser(scene: Stage) -> None:
    with_pdf = await scene.request("1 + 1", output_options=OutputOptions(generate_report=True))
    async with scene.worker(report_browser="auto"):
        await scene.command(with_pdf)
        await scene.until(with_pdf, seconds=90)
    found = await reports(scene, with_pdf)
    assert list(found) == ["html", "pdf"]
    event, content = found["pdf"]
    assert (event.file_name, event.content.content_type) == ("A-notebook.pdf", "application/pdf")
    assert content.startswith(b"%PDF")


async def test_a_browser_that_fails_costs_the_pdf_and_not_the_run(scene: Stage) -> None:
    async with scene.worker(report_browser="/bin/false"):
        execution = await scene.run("1", output_options=OutputOptions(generate_report=True))
    assert execution.status is ExecutionStatus.COMPLETED
    assert list(await reports(scene, execution.id)) == ["html"]
    (told,) = await scene.warnings(execution.id)
    assert told.startswith("The report could not be made as PDF: the browser ended with status 1")


async def test_cells_are_told_before_a_report_and_a_cancel_stops_it(
    scene: Stage, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    hanging = tmp_path / "browser"
    hanging.write_text(f"#!/bin/sh\ntouch {begun}\nexec sleep 600\n")
    hanging.chmod(0o755)
    execution_id = await scene.request(
        "1", timeout=600.0, output_options=OutputOptions(generate_report=True)
    )
    async with scene.worker(report_browser=str(hanging)):
        await scene.command(execution_id)
        await eventually(begun.exists)
        recorded = {event.type for event in await scene.history(execution_id)}
        assert Execution.CellExecuted.TYPE in recorded
        assert Execution.Completed.TYPE not in recorded
        await scene.cancel(execution_id)
        execution = await scene.until(execution_id, seconds=10)
    # All of its cells have run.
    assert execution.status is ExecutionStatus.COMPLETED
    assert list(await reports(scene, execution_id)) == ["html"]
    assert await scene.warnings(execution_id) == [
        "The report is not whole: the run was cancelled while it was made."
    ]


@needs_browser
async def test_a_long_line_does_not_hold_the_browser_up() -> None:
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": "x" * 2_000_000},
        {"output_type": "display_data", "metadata": {}, "data": {"text/plain": ["y" * 900_000]}},
    ]
    page = render(
        json.dumps(
            {
                "cells": [
                    {
                        "cell_type": "code",
                        "id": "a",
                        "execution_count": 1,
                        "metadata": {},
                        "outputs": outputs,
                        "source": "1",
                    }
                ],
                "metadata": {},
                "nbformat": 4,
                "nbformat_minor": 5,
            }
        )
    )
    assert page.count("x" * 1000) == 2_000
    assert CHROMIUM is not None
    assert (await browser.print_pdf(CHROMIUM, page.encode())).startswith(b"%PDF")


@needs_browser
async def test_the_browser_loads_nothing() -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        place = f"http://127.0.0.1:{port}"
        # Without the policy and the cleaning of a report: what the browser itself does not do.
        page = (
            f"<p>text</p><img src='{place}/img'><link rel=stylesheet href='{place}/css'>"
            f"<script>fetch('{place}/fetch')</script><iframe src='{place}/frame'></iframe>"
        )
        assert CHROMIUM is not None
        printed = await browser.print_pdf(CHROMIUM, page.encode())
    assert printed.startswith(b"%PDF")
    assert asked == []


@pytest.mark.parametrize(
    "lead",
    [
        "<meta http-equiv=refresh content='0;url=file:///etc/passwd'>",
        """<META title='>http-equiv="x-dns-prefetch-control"' Http-Equiv = "refresh">""",
        '<meta http-equiv="set-cookie" content="a=b">',
    ],
)
async def test_no_page_is_printed_that_leads_to_another(lead: str) -> None:
    with pytest.raises(browser.PrintError, match="leads to another"):
        await browser.print_pdf("/bin/false", f"<p>1</p>{lead}".encode())


async def test_the_page_of_a_report_is_printed() -> None:
    page = render(json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": []}))
    # It gets as far as to the browser, which is none.
    with pytest.raises(browser.PrintError, match="ended with status 1"):
        await browser.print_pdf("/bin/false", page.encode())
