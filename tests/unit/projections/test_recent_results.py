"""Results that are held in memory: only so many, and the last ones asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from nbledger_domain.execution import Output, Representation
from nbledger_projections.read_models.executions.result_folding import Artifact, CellOutputs
from nbledger_projections.read_models.executions.results import RecentResults, ResultsView


def view(number: int, outputs: int, version: int = 1, *, told: int = 0) -> ResultsView:
    shown = [Output(output_type="stream", representations=[])] * outputs
    artifact = Artifact(
        kind="model",
        name="m",
        file_name="m.pkl",
        content=Representation("application/octet-stream", "5f" * 32, 1),
        attributes={"features": "x" * told},
    )
    return ResultsView(
        execution_id=UUID(int=number),
        notebook_id=UUID(int=0),
        status="Completed",
        version=version,
        modified_at=datetime(2024, 1, 20, tzinfo=UTC),
        notebook_stream_version=1,
        notebook_version="1.0.0",
        cells=[CellOutputs("cell-001", outputs=shown)],
        artifacts=[artifact] if told else [],
        metrics={},
        cell_metrics={},
    )


def test_room_is_made_by_forgetting_what_was_asked_for_longest_ago() -> None:
    recent = RecentResults(max_outputs=36)
    for number in (1, 2, 3):
        recent.put(view(number, 10))
    assert recent.get(UUID(int=1)) is not None
    recent.put(view(4, 10))
    held = [number for number in range(1, 5) if recent.get(UUID(int=number))]
    assert held == [1, 3, 4]


def test_what_is_told_of_a_file_weighs_by_its_size() -> None:
    recent = RecentResults(max_outputs=500)
    recent.put(view(1, 0, told=900_000))
    assert recent.get(UUID(int=1)) is not None
    recent.put(view(2, 0, told=900_000))
    assert [bool(recent.get(UUID(int=number))) for number in (1, 2)] == [False, True]
    recent.put(view(3, 0, told=1_100_000))
    assert recent.get(UUID(int=3)) is None


def test_what_is_too_large_is_not_held_and_a_newer_one_takes_the_place() -> None:
    recent = RecentResults(max_outputs=24)
    recent.put(view(1, 10))
    for version in range(2, 10):
        recent.put(view(1, 10, version))
    recent.put(view(2, 10))
    found = recent.get(UUID(int=1))
    assert found is not None
    assert found.version == 9
    recent.put(view(3, 100))
    assert [bool(recent.get(UUID(int=number))) for number in (1, 2, 3)] == [True, True, False]
    recent.put(view(4, 22))
    assert [bool(recent.get(UUID(int=number))) for number in (1, 2, 4)] == [False, False, True]
