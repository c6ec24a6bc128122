"""What notebooks import inside the kernel."""

from pathlib import Path

import pytest

from mindzie_sdk import DatasetUnavailableError, ProcessMiningClient

COLUMNS = ["case_id", "activity", "timestamp", "resource", "amount"]


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


def test_a_dataset_that_is_not_held_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NBLEDGER_RUN_FILE", raising=False)
    with pytest.raises(DatasetUnavailableError, match="bound to no dataset"):
        ProcessMiningClient().load_dataset()
    run_file = tmp_path / "run.json"
    monkeypatch.setenv("NBLEDGER_RUN_FILE", str(run_file))
    # A kernel that waits for its run has no such file yet.
    assert ProcessMiningClient().dataset_id is None
    run_file.write_text('{"datasetBinding": "dataset-guid"}')
    client = ProcessMiningClient()
    assert client.dataset_id == "dataset-guid"
    with pytest.raises(DatasetUnavailableError, match="dataset-guid"):
        client.load_dataset()
