"""What templates take for an event log, and what they say of anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mindzie_sdk import DatasetUnavailableError, sample_event_log
from mindzie_sdk.run import RUN_FILE_VARIABLE
from nbledger_infrastructure.notebooks import templates

IDENTIFIER = "880e8400-e29b-41d4-a716-446655440000"

Prepare = Callable[..., None]


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Makes this process a run that is bound to ``table``, or to what is not held."""

    def make(
        table: dict[str, Any] | None,
        *,
        bound: bool = True,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        held = {}
        if table is not None:
            frame = pl.DataFrame(table)
            frame.write_parquet(tmp_path / "log.parquet")
            held[IDENTIFIER] = {
                "path": str(tmp_path / "log.parquet"),
                "name": "log",
                "version": 1,
                "rowCount": frame.height,
                "columns": [{"name": name, "type": "other"} for name in frame.columns],
            }
        told = {
            "datasetBinding": IDENTIFIER if bound else None,
            "parameters": parameters or {},
            "datasets": held,
        }
        file = tmp_path / "run.json"
        file.write_text(json.dumps(told))
        monkeypatch.setenv(RUN_FILE_VARIABLE, str(file))

    return make


def loaded(name: str, cells: int = 2, **parameters: Any) -> dict[str, Any]:
    """What the first cells of the template leave: by default parameters and the log."""
    sources = [cell.source for cell in templates.load(name).cells if cell.cell_type == "code"]
    values: dict[str, Any] = {}
    exec(sources[0], values)  # noqa: S102 - the templates are the service's own
    values |= parameters
    for source in sources[1:cells]:
        exec(source, values)  # noqa: S102
    return values


def events(timestamps: list[Any]) -> dict[str, Any]:
    """A log of one case."""
    return {
        "case_id": [1] * len(timestamps),
        "activity": [f"step {number}" for number in range(len(timestamps))],
        "timestamp": timestamps,
    }


@pytest.mark.parametrize("name", templates.names())
@pytest.mark.parametrize(
    ("stated", "first"),
    [
        (["01.03.2024 10:00:00", "02.03.2024 12:00:00"], "'01.03.2024 10:00:00'"),
        (["2024-03-01", "01.03.2024"], "'01.03.2024'"),
        (["31.12.2024", "01.01.2025"], "'31.12.2024'"),
        (["03/01/2024 10:00", "03/02/2024 12:00"], "'03/01/2024 10:00'"),
        ([1_709_287_200, 1_709_294_400], "1709287200"),
        (["10:00", "yesterday"], "'10:00'"),
    ],
)
def test_times_that_can_be_read_in_two_ways_are_refused(
    name: str, stated: list[Any], first: str, prepare: Prepare
) -> None:
    prepare(events(stated))
    with pytest.raises(ValueError, match=r"^The column timestamp holds no times: ") as raised:
        loaded(name)
    assert first in str(raised.value)
    assert "ISO 8601" in str(raised.value)


@pytest.mark.parametrize("name", templates.names())
@pytest.mark.parametrize(
    "stated",
    [
        ["2024-03-01", "2024-03-01 12:00:00"],
        ["2024-03-01T00:00:00Z", "2024-03-01T13:00:00+01:00"],
        [datetime(2024, 3, 1), datetime(2024, 3, 1, 12)],  # noqa: DTZ001 - as uploads have them
    ],
)
def test_times_are_times(name: str, stated: list[Any], prepare: Prepare) -> None:
    prepare(events(stated))
    log = loaded(name)["log"]
    assert [each.isoformat() for each in log["timestamp"]] == [
        "2024-03-01T00:00:00+00:00",
        "2024-03-01T12:00:00+00:00",
    ]


@pytest.mark.parametrize("name", templates.names())
def test_other_tables_are_no_logs(name: str, prepare: Prepare) -> None:
    prepare({"order": ["0017"], "amount": [120]})
    with pytest.raises(
        ValueError, match="needs the columns case_id, activity, timestamp"
    ) as raised:
        loaded(name)
    assert str(raised.value).endswith("This one has order, amount.")

    prepare(events([]))
    with pytest.raises(ValueError, match="The log has no events"):
        loaded(name)

    prepare(events([datetime(2024, 3, 1), None]))  # noqa: DTZ001
    with pytest.raises(ValueError, match="1 of 2 events lack"):
        loaded(name)


@pytest.mark.parametrize("name", templates.names())
def test_names_of_xes_are_understood_beside_others(name: str, prepare: Prepare) -> None:
    table = events(["2024-03-01", "2024-03-02"])
    table["case:concept:name"] = table.pop("case_id")
    table["time:timestamp"] = ["a", "b"]
    prepare(table)
    log = loaded(name)["log"]
    assert log["case_id"].tolist() == [1, 1]
    assert log["timestamp"].dt.day.tolist() == [1, 2]


@pytest.mark.parametrize("name", ["conformance", "enrichment", "prediction"])
def test_what_is_not_held_is_not_made_up(name: str, prepare: Prepare) -> None:
    prepare(None)
    with pytest.raises(DatasetUnavailableError, match=IDENTIFIER):
        loaded(name)
    prepare(None, bound=False, parameters={"dataset_id": "2024"})
    with pytest.raises(DatasetUnavailableError, match="'2024'"):
        loaded(name)
    # A default that somebody has written into the notebook counts as well.
    prepare(None, bound=False)
    with pytest.raises(DatasetUnavailableError, match="'loans'"):
        loaded(name, dataset_id="loans")


@pytest.mark.parametrize("name", templates.names())
def test_without_a_dataset_the_log_is_made_up(name: str, prepare: Prepare) -> None:
    prepare(None, bound=False)
    assert loaded(name, sample_cases=50)["log"]["case_id"].nunique() == 50


@pytest.mark.parametrize(
    "parameters",
    [
        {"analysis_period": "1999-01"},
        {"analysis_period": "January 2024"},
        {"analysis_period": 202403},
        {"include_weekends": False},
    ],
)
def test_the_starter_looks_at_what_was_asked_for_or_at_nothing(
    parameters: dict[str, Any], prepare: Prepare
) -> None:
    prepare(events(["2024-03-02", "2024-03-03"]))  # a weekend
    with pytest.raises(ValueError, match="No event is left") as raised:
        loaded("process_mining_starter", **parameters)
    assert "2024-03-02 to 2024-03-03" in str(raised.value)
    ((name, value),) = parameters.items()
    assert f"{name}={value!r}" in str(raised.value)


@pytest.mark.parametrize("name", ["prediction", "process_mining_starter"])
@pytest.mark.parametrize("case", ["case_id", "case:concept:name"])
def test_models_do_not_learn_from_numbers_of_cases(name: str, case: str, prepare: Prepare) -> None:
    log = sample_event_log(cases=60)
    table: dict[str, Any] = {column: log[column].to_list() for column in log.columns}
    table[case] = [int(each.removeprefix("case-")) for each in table.pop("case_id")]
    table["activity"] = [len(each) for each in table["activity"]]
    prepare(table)
    cells = {"prediction": 3, "process_mining_starter": 8}[name]
    features = loaded(name, cells, generate_visualizations=False, ml_models=[])["features"]
    assert not {"case_id", "case:concept:name", "activity"} & set(features.columns)
    assert "amount" in features.columns
