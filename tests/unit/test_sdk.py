"""What notebooks import inside the kernel."""

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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MINDZIE_DATASET_ID", raising=False)
    with pytest.raises(DatasetUnavailableError, match="bound to no dataset"):
        ProcessMiningClient().load_dataset()
    monkeypatch.setenv("MINDZIE_DATASET_ID", "dataset-guid")
    client = ProcessMiningClient()
    assert client.dataset_id == "dataset-guid"
    with pytest.raises(DatasetUnavailableError, match="dataset-guid"):
        client.load_dataset()
