"""The folds against the aggregates: whatever happens, both say the same."""

from __future__ import annotations

import random
import re
import uuid
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import stories
from support.stories import Story, begin, complete, finish_cell, output, request, step, tell

from nbledger_domain.cells import Cell
from nbledger_domain.events import UnknownEventTypeError
from nbledger_domain.execution import (
    ArtifactKind,
    CellStatus,
    Execution,
    Output,
    Phase,
    TerminationCode,
)
from nbledger_domain.notebook import NotebookChanges
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery import quantities
from nbledger_projections.read_models.executions import folding as execution_folding
from nbledger_projections.read_models.executions import result_folding, state
from nbledger_projections.read_models.notebooks import documents as notebook_documents
from nbledger_projections.read_models.notebooks import folding as notebook_folding
from nbledger_projections.read_models.notebooks import list_items

WHOSE_DOING = {
    "success": {"success"},
    "user_error": {"cell_error", "kernel_died", "environment_failed"},
    "cancelled": {"cancelled", "notebook_deleted"},
    "platform": {
        "kernel_start_failed",
        "worker_lost",
        "internal_error",
        "artifact_store_unavailable",
    },
}


class Folded:
    """All folds of one story, each continued from its stored form, as projectors do.

    A run's status is also folded in one go, as what a row knows of its cells stays in memory.
    """

    def __init__(self) -> None:
        self.position = 0
        self.details: notebook_documents.NotebookState | None = None
        self.listed: list_items.ListState | None = None
        self.status: dict[uuid.UUID, state.ExecutionRow | None] = {}
        self.at_once: dict[uuid.UUID, state.ExecutionRow | None] = {}
        self.results: dict[uuid.UUID, result_folding.ResultsState | None] = {}

    def fold(self, recorded: RecordedEvent) -> None:
        self.position = recorded.position
        self.details = _stored(notebook_folding.fold(self.details, recorded))
        self.listed = _stored(list_items.fold(self.listed, recorded, ordinal=0))
        stream = recorded.stream_id
        if stream != recorded.subject_id:
            self.status[stream] = _stored(execution_folding.fold(self.status.get(stream), recorded))
            self.at_once[stream] = execution_folding.fold(self.at_once.get(stream), recorded)
            assert self.at_once[stream] == self.status[stream]
            self.results[stream] = _stored(result_folding.fold(self.results.get(stream), recorded))

    def tell(self, story: Story) -> None:
        for recorded in tell(story, self.position):
            self.fold(recorded)

    def document(self) -> dict[str, Any]:
        assert self.details is not None
        return _json(self.details.document)

    def execution(self, execution: Execution) -> dict[str, Any]:
        state = self.status[execution.id]
        assert state is not None
        return _json(state.document)


def _stored(state: Any) -> Any:
    return (
        None if state is None else quantities.decoder(type(state)).decode(quantities.encode(state))
    )


def _json(document: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(quantities.encode_in_words(document))
    return decoded


@given(st.integers(0, 2**32))
def test_folds_agree_with_the_aggregates(seed: int) -> None:
    dice = random.Random(seed)
    story = begin(dice)
    folded = Folded()
    folded.tell(story)
    for _ in range(40):
        step(story, dice)
        folded.tell(story)
        _check_notebook(folded, story)
        for execution in story.executions:
            _check_execution(folded.execution(execution), execution)
            results = folded.results[execution.id]
            assert results is not None
            assert results.status == execution.status
            assert _told(results.results.run_warnings, execution) == _warnings(execution)
            assert [cell.cell_id for cell in results.results.cells] == [
                cell.cell_id for cell in execution.cells if cell.cell_type == "code"
            ]


def _check_notebook(folded: Folded, story: Story) -> None:
    notebook, document, listed = story.notebook, folded.document(), folded.listed
    assert folded.details is not None
    assert listed is not None
    assert folded.details.stream_version == notebook.version
    assert folded.details.position == folded.position
    assert document["notebookName"] == notebook.name == listed.item.notebook_name
    assert document["notebookDescription"] == notebook.description
    assert document["notebookVersion"] == notebook.notebook_version
    assert document["environment"]["packages"] == notebook.environment.packages
    assert document["integration"]["enrichmentMode"] == notebook.integration.enrichment_mode
    assert listed.item.enrichment_mode == notebook.integration.enrichment_mode
    assert [(cell["cellId"], cell["cellType"], cell["content"]) for cell in document["cells"]] == [
        (cell.cell_id, cell.cell_type, cell.source) for cell in notebook.cells
    ]
    assert listed.item.cell_count == len(notebook.cells)
    assert document["executionCount"] == len(story.executions)
    assert document["status"] == listed.item.status
    if story.running:
        assert document["status"] == "Running"
    else:
        assert document["status"] in {"Ready", "Error", "Kernel_Dead"}
    assert len(folded.details.activity.running) == len(story.running)


def _warnings(execution: Execution) -> list[str]:
    """Those of the request, which hold for every attempt, and those of the last attempt."""
    of_attempt = [] if execution.worker_id is None else [f"attempt {execution.epoch}"]
    return [*execution.warnings, *of_attempt]


def _told(warnings: list[str], execution: Execution) -> list[str]:
    """All but the one of a cell whose end nobody has seen, which comes with the end of a run."""
    if warnings and re.fullmatch(r"Output of cell \S+ may be lost: .+", warnings[-1]):
        assert execution.ended
        return warnings[:-1]
    return warnings


def _check_execution(document: dict[str, Any], execution: Execution) -> None:
    assert document["status"] == execution.status
    assert document.get("phase") == execution.phase
    assert document.get("terminationCode") == execution.termination_code
    if execution.termination_code is not None:
        assert document["terminationCategory"] == execution.termination_code.category
    assert document["attempts"] == execution.epoch
    assert _told(document["runWarnings"], execution) == _warnings(execution)
    assert ("error" in document) == (execution.status == "Error")
    assert document["cancelRequested"] == (execution.cancel_reason is not None)
    statuses = {cell["cellId"]: cell["status"] for cell in document["cellResults"]}
    silent = {cell.cell_id for cell in execution.cells if cell.cell_type != "code"}
    for cell_id, status in execution.cell_statuses.items():
        if cell_id in silent:
            assert statuses[cell_id] in {"Pending", "Success", "Skipped"}
        elif execution.ended and status is CellStatus.PENDING:
            assert statuses[cell_id] == "Skipped"
        elif execution.ended and status is CellStatus.RUNNING:
            assert statuses[cell_id] in {"Error", "TimedOut", "Cancelled"}
        else:
            assert statuses[cell_id] == status
    progress = document["progress"]
    done = progress["completedCells"]
    assert progress["totalCells"] == len(statuses)
    assert progress["successfulCells"] == list(statuses.values()).count("Success")
    assert progress["failedCells"] == sum(
        status in {"Error", "TimedOut"} for status in statuses.values()
    )
    assert progress["successfulCells"] + progress["failedCells"] <= done <= len(statuses)
    assert abs(progress["percentComplete"] - 100 * done / len(statuses)) <= 0.5
    if execution.ended:
        assert "currentCell" not in document
        assert "currentCellIndex" not in progress
        assert document["totalDuration"]
        assert document["endTime"] >= document["startTime"]
    else:
        index = progress["currentCellIndex"]
        assert 1 <= index <= len(statuses)
        if execution.running_cell is not None:
            assert document["currentCell"] == execution.running_cell
            assert document["cellResults"][index - 1]["cellId"] == execution.running_cell
    if execution.status == "Completed":
        assert progress["percentComplete"] == 100
        assert silent <= {cell_id for cell_id, status in statuses.items() if status == "Success"}


def twelve_cells() -> Story:
    """A notebook of the size that the contract's examples have; its second cell is Markdown."""
    story = begin(random.Random(1))
    story.notebook.update(
        NotebookChanges(
            cells=[
                Cell(
                    cell_id=f"cell-{number:03d}",
                    cell_type="markdown" if number == 2 else "code",
                    source=f"step_{number}()",
                )
                for number in range(1, 13)
            ]
        ),
        at=story.at,
    )
    return story


def requested() -> tuple[Story, Folded, Execution]:
    """A run of such a notebook has been asked for."""
    story, folded = twelve_cells(), Folded()
    execution = request(story, random.Random(2))
    story.executions.append(execution)
    folded.tell(story)
    return story, folded, execution


def running_first_cell() -> tuple[Story, Folded, Execution]:
    """Its first cell runs."""
    story, folded, execution = requested()
    execution.claim("worker-1", at=story.at)
    execution.start(1, language="python", language_version="3.11.7", at=story.at)
    execution.start_cell(1, "cell-001", at=story.at)
    return story, folded, execution


def test_the_status_of_a_run_has_the_form_of_the_contract() -> None:
    story, folded, execution = requested()
    queued = folded.execution(execution)
    assert (queued["status"], queued["phase"]) == ("Running", "Queued")
    assert queued["currentCell"] == "cell-001"
    assert "estimatedDuration" not in queued
    execution.claim("worker-1", at=story.at)
    execution.start(1, language="python", language_version="3.11.7", at=story.at)
    folded.tell(story)
    assert folded.execution(execution)["phase"] == Phase.EXECUTING
    execution.start_cell(1, "cell-001", at=story.at)
    finish_cell(execution, "cell-001", CellStatus.SUCCESS, story.at)
    execution.start_cell(1, "cell-003", at=story.at)
    folded.tell(story)
    assert folded.execution(execution)["progress"] == {
        "totalCells": 12,
        "completedCells": 2,
        "successfulCells": 2,
        "failedCells": 0,
        "currentCellIndex": 3,
        "percentComplete": 17,
    }
    assert folded.execution(execution)["currentCell"] == "cell-003"
    plots = [output("image/png"), output("text/html", dataFrame=True), output("text/html")]
    finish_cell(execution, "cell-003", CellStatus.ERROR, story.at, plots)
    for number in range(4, 13):
        execution.start_cell(1, f"cell-{number:03d}", at=story.at)
        finish_cell(execution, f"cell-{number:03d}", CellStatus.SUCCESS, story.at)
    for name, rows in (("one", 99), ("two", 15420), ("one", 15420)):
        execution.store_artifact(
            1,
            kind="dataset",
            name=name,
            file_name="data.csv",
            content=stories.output("text/csv").representations[0],
            attributes={"recordCount": rows, "newColumns": ["segment", f"{name} {rows}"]},
            at=story.at,
        )
    ended_at = story.at + timedelta(minutes=17)
    execution.complete(1, resources=stories.RESOURCES, at=ended_at)
    folded.tell(story)
    document = folded.execution(execution)
    assert document["progress"] == {
        "totalCells": 12,
        "completedCells": 12,
        "successfulCells": 11,
        "failedCells": 1,
        "percentComplete": 100,
    }
    assert document["totalDuration"] == "17 minutes"
    assert document["cellResults"][0] == {
        "cellId": "cell-001",
        "status": "Success",
        "executionTime": "3.2 seconds",
        "hasOutput": False,
    }
    assert document["cellResults"][2] == {
        "cellId": "cell-003",
        "status": "Error",
        "executionTime": "3.2 seconds",
        "hasOutput": True,
        "outputType": "display_data",
        "dataFrames": 1,
        "plots": 1,
        "errorType": "KeyError",
        "errorMessage": "'customer_id'",
    }
    assert document["outputs"] == {
        "dataFrames": 1,
        "plots": 1,
        "models": 0,
        "reports": 0,
        "files": 0,
        "enrichedData": {
            "recordCount": 30840,
            "newColumns": ["segment", "two 15420", "one 15420"],
            "datasets": [
                {
                    "name": name,
                    "datasetId": None,
                    "recordCount": 15420,
                    "newColumns": ["segment", f"{name} 15420"],
                }
                for name in ("two", "one")
            ],
        },
    }
    assert document["resources"] == {
        "peakMemoryUsage": "2.3 GB",
        "cpuTime": "8.5 minutes",
        "diskUsage": "450 MB",
        "peakMemoryBytes": stories.RESOURCES.peak_memory_bytes,
        "cpuSeconds": stories.RESOURCES.cpu_seconds,
        "diskBytes": stories.RESOURCES.disk_bytes,
    }
    assert (document["timeout"], document["requestedBy"]) == (1800, "user123")
    assert "error" not in document


def test_what_a_cell_shows_is_counted_as_it_is_now() -> None:
    story, folded, execution = running_first_cell()
    table, plot = output("text/html", dataFrame=True), output("application/vnd.plotly.v1+json")

    def counted() -> tuple[int, int]:
        folded.tell(story)
        told = folded.execution(execution)
        cell = told["cellResults"][0]
        totals = told["outputs"]["dataFrames"], told["outputs"]["plots"]
        assert totals == (cell.get("dataFrames", 0), cell.get("plots", 0))
        return totals

    def change(outputs: list[Output]) -> dict[str, Any]:
        return {"outputs": outputs, "output_count": 1, "output_bytes": 1, "at": story.at}

    execution.save_outputs(1, "cell-001", **change([table, plot, plot]))
    assert counted() == (1, 2)
    finish_cell(execution, "cell-001", CellStatus.SUCCESS, story.at, [table, table, plot])
    assert counted() == (2, 1)
    execution.update_outputs(1, "cell-001", outputs_digest=None, **change([plot]))
    assert counted() == (0, 1)
    execution.trigger_event(
        Execution.MetricsLogged, timestamp=story.at, epoch=1, metrics={"fitness": 0.5}
    )
    left: list[ArtifactKind] = ["report", "file", "file"]
    for kind in left:
        execution.store_artifact(
            1,
            kind=kind,
            name=kind,
            file_name=kind,
            content=stories.output("text/csv").representations[0],
            attributes={},
            at=story.at,
        )
    assert counted() == (0, 1)
    totals = folded.execution(execution)["outputs"]
    assert (totals["reports"], totals["files"], totals["models"]) == (1, 2, 0)
    results = folded.results[execution.id]
    assert results is not None
    assert results.results.metrics == {"fitness": 0.5}
    assert results.results.notebook_version == story.notebook.notebook_version


def test_a_cell_that_ran_when_the_kernel_died_says_so() -> None:
    story, folded, execution = running_first_cell()
    execution.kernel_died(1, detail="Out of memory.", resources=stories.RESOURCES, at=story.at)
    folded.tell(story)
    document = folded.execution(execution)
    assert document["cellResults"][0]["status"] == "Error"
    assert document["cellResults"][0]["errorMessage"] == "Out of memory."
    assert {cell["status"] for cell in document["cellResults"][1:]} == {"Skipped"}
    assert document["progress"]["failedCells"] == 1
    assert document["error"] == {
        "terminationCode": TerminationCode.KERNEL_DIED,
        "detail": "Out of memory.",
    }
    notebook = folded.document()
    assert notebook["status"] == "Kernel_Dead"
    assert notebook["cells"][0]["executionStatus"] == "Error"


def test_the_notebook_has_the_form_of_the_contract() -> None:
    story, folded = begin(random.Random(3)), Folded()
    cells = [
        Cell(
            cell_id="cell-001", cell_type="code", source="1 + 1", metadata={"tags": ["parameters"]}
        ),
        Cell(cell_id="cell-002", cell_type="markdown", source="# A", attachments={"a.png": {}}),
    ]
    story.notebook.update(NotebookChanges(cells=cells), at=story.at)
    execution = request(story, random.Random(4))
    story.executions.append(execution)
    complete(story, execution, 60)
    folded.tell(story)
    document = folded.document()
    assert list(document) == [
        "notebookId",
        "projectId",
        "notebookName",
        "notebookDescription",
        "notebookVersion",
        "kernelType",
        "template",
        "status",
        "integration",
        "cells",
        "environment",
        "dateCreated",
        "dateModified",
        "createdBy",
        "lastExecutionDate",
        "executionCount",
        "files",
    ]
    assert document["cells"] == [
        {
            "cellId": "cell-001",
            "cellType": "code",
            "content": "1 + 1",
            "metadata": {"tags": ["parameters"]},
            "executionCount": 7,
            "hasOutput": False,
            "lastExecuted": "2024-01-20T10:30:00.000Z",
            "executionStatus": "Success",
            "lastModified": "2024-01-20T10:30:00.000Z",
        },
        {
            "cellId": "cell-002",
            "cellType": "markdown",
            "content": "# A",
            "metadata": {},
            "attachments": {"a.png": {}},
            "lastModified": "2024-01-20T10:30:00.000Z",
        },
    ]
    assert document["environment"]["pythonVersion"] == "3.11.7"
    # An edit keeps what runs have left behind.
    edited = [msgspec.structs.replace(cells[0], source="2 + 2"), cells[1]]
    story.notebook.update(NotebookChanges(cells=edited), at=story.at)
    folded.tell(story)
    assert folded.document()["cells"][0]["executionStatus"] == "Success"
    assert folded.document()["cells"][0]["content"] == "2 + 2"


def test_an_erased_event_is_passed_over_and_the_deletion_removes_the_notebook() -> None:
    story = begin(random.Random(5))
    told = tell(story)
    erased = [msgspec.structs.replace(recorded, data=None) for recorded in told]
    assert notebook_folding.fold(None, erased[0]) is None
    assert list_items.fold(None, erased[0], ordinal=0) is None
    state = notebook_folding.fold(None, told[0])
    story.notebook.delete(at=story.at)
    deleted = msgspec.structs.replace(tell(story, 1)[0], data=None)
    assert notebook_folding.fold(state, deleted) is None


def test_an_unknown_event_is_an_error_in_every_fold() -> None:
    story = begin(random.Random(6))
    unknown = msgspec.structs.replace(tell(story)[0], type="notebook.painted.v1")
    with pytest.raises(UnknownEventTypeError):
        notebook_folding.fold(None, unknown)
    with pytest.raises(UnknownEventTypeError):
        list_items.fold(None, unknown)
    with pytest.raises(UnknownEventTypeError):
        execution_folding.fold(None, unknown)
    with pytest.raises(UnknownEventTypeError):
        result_folding.fold(None, unknown)


def test_every_termination_code_tells_whose_doing_it_was() -> None:
    found: dict[str, set[str]] = {}
    for code in TerminationCode:
        found.setdefault(code.category, set()).add(code)
    # Whatever is no limit is named here; of limits there may be more.
    assert {name: codes for name, codes in found.items() if name != "limit"} == WHOSE_DOING
    assert all(code.endswith(("_limit", "_timeout")) for code in found["limit"])
