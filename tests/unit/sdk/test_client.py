"""What notebooks import inside the kernel: the run, its datasets and the sample log."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from mindzie_sdk import DatasetUnavailableError, ProcessMiningClient

COLUMNS = ["case_id", "activity", "timestamp", "resource", "amount"]
BOUND = "880e8400-e29b-41d4-a716-446655440000"
OTHER = "990e8400-e29b-41d4-a716-446655440000"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder outside of any run."""
    monkeypatch.delenv("NBLEDGER_RUN_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the file that tells of a run is to be."""
    path = tmp_path / ".nbledger" / "run.json"
    path.parent.mkdir()
    monkeypatch.setenv("NBLEDGER_RUN_FILE", str(path))
    return path


def tell(run_file: Path, frames: dict[str, pl.DataFrame], **told: Any) -> None:
    datasets = {}
    for at, (dataset_id, frame) in enumerate(frames.items()):
        path = run_file.parent / f"{at}.parquet"
        frame.write_parquet(path)
        datasets[dataset_id] = {
            "path": str(path),
            "name": f"set {at}",
            "version": at + 3,
            "rowCount": frame.height,
            "columns": [{"name": name, "type": "integer"} for name in frame.columns],
        }
    run_file.write_text(json.dumps({"datasets": datasets, **told}))


def test_the_sample_log_is_an_event_log_and_always_the_same() -> None:
    client = ProcessMiningClient()
    log = client.load_sample_log(50)
    assert list(log.columns) == COLUMNS
    assert len(set(log["case_id"])) == 50
    for _, times in log.groupby("case_id")["timestamp"]:
        assert times.is_monotonic_increasing
    assert set(log.groupby("case_id")["activity"].first()) == {"Submit Application"}
    assert str(log["timestamp"].dt.tz) == "UTC"
    assert bool(log.equals(client.load_sample_log(50)))
    longer = client.load_sample_log(60)
    assert bool(longer.head(len(log)).equals(log)), "a longer log begins like a shorter one"


def test_the_bound_dataset_and_others_of_the_run(run_file: Path) -> None:
    frames = {BOUND: pl.DataFrame({"a": [1, 2]}), OTHER: pl.DataFrame({"b": [3]})}
    tell(run_file, frames, datasetBinding=BOUND, parameters={"other": OTHER, "depth": 3})
    client = ProcessMiningClient()
    assert client.dataset_id == BOUND
    assert client.parameters == {"other": OTHER, "depth": 3}
    bound = client.load_dataset()
    assert isinstance(bound, pd.DataFrame)
    assert bound["a"].to_list() == [1, 2]
    other = client.load_dataset(OTHER, engine="polars")
    assert isinstance(other, pl.DataFrame)
    assert other.equals(frames[OTHER])
    engine: Any = "spark"
    with pytest.raises(ValueError, match="spark"):
        client.load_dataset(engine=engine)


def test_the_dataset_that_a_run_is_given_comes_before_the_binding(run_file: Path) -> None:
    tell(run_file, {OTHER: pl.DataFrame({"b": [3]})}, parameters={"dataset_id": OTHER})
    assert ProcessMiningClient().load_dataset()["b"].to_list() == [3]
    tell(run_file, {}, datasetBinding=BOUND, parameters={"dataset_id": OTHER})
    assert ProcessMiningClient().dataset_id == OTHER
    tell(run_file, {}, datasetBinding=BOUND, parameters={"dataset_id": None})
    assert ProcessMiningClient().dataset_id == BOUND


def test_what_is_loaded_can_be_changed_and_is_not_changed_in_the_file(run_file: Path) -> None:
    tell(run_file, {BOUND: pl.DataFrame({"a": [1, 2]})}, datasetBinding=BOUND)
    client = ProcessMiningClient()
    frame = client.load_dataset()
    frame.loc[0, "a"] = 9
    frame["a"] += 1
    assert frame["a"].to_list() == [10, 3]
    assert client.load_dataset()["a"].to_list() == [1, 2]


def test_a_dataset_that_is_not_held_is_an_error_that_names_it(run_file: Path) -> None:
    # A kernel that waits for its run has no such file yet.
    assert ProcessMiningClient().dataset_id is None
    with pytest.raises(DatasetUnavailableError, match="bound to no dataset"):
        ProcessMiningClient().load_dataset()
    run_file.write_text('{"datasetBinding": "dataset-guid"}')
    client = ProcessMiningClient()
    assert client.dataset_id == "dataset-guid"
    with pytest.raises(
        DatasetUnavailableError, match="The service holds no dataset 'dataset-guid'"
    ):
        client.load_dataset()
    run_file.write_text('{"datasetBinding": ')
    with pytest.raises(ValueError, match="damaged"):
        ProcessMiningClient()


def test_in_a_run_a_name_is_never_taken_for_a_file(
    run_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_file.parent)
    tell(run_file, {})
    Path("loans.csv").write_text("a\n1\n")
    with pytest.raises(DatasetUnavailableError, match="holds no dataset"):
        ProcessMiningClient().load_dataset("loans.csv")


def test_outside_a_run_datasets_are_files_of_the_folder(elsewhere: Path) -> None:
    client = ProcessMiningClient()
    assert client.dataset_id is None
    assert client.parameters == {}
    with pytest.raises(DatasetUnavailableError, match="name a Parquet or CSV file"):
        client.load_dataset()
    with pytest.raises(DatasetUnavailableError, match=f"folder {elsewhere} holds no file 'loans'"):
        client.load_dataset("loans")
    Path("loans.csv").write_text(
        "case_id,at,n\nä,2024-01-01T10:00:00Z,\nb,2024-01-02T10:00:00Z,2\n"
    )
    log = client.load_dataset("loans")
    assert log["case_id"].to_list() == ["ä", "b"]
    assert log["at"].dt.day.to_list() == [1, 2]
    assert log["n"].isna().to_list() == [True, False]
    pl.DataFrame({"p": [1]}).write_parquet("loans.parquet")
    assert list(client.load_dataset("loans").columns) == ["p"]
    assert list(client.load_dataset("loans.csv").columns) == ["case_id", "at", "n"]
