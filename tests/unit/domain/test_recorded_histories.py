"""What earlier versions of the service have recorded adds up to the same in this one.

The files are made by ``tests/record_histories.py`` and never changed: neither the events nor, but
for a new name of something, the states.
"""

from pathlib import Path

import msgspec
import pytest
from support.histories import FOLDER, KINDS, fold, lost, state_of

HISTORIES = sorted(FOLDER.glob("*/*.jsonl"))


@pytest.mark.guarantee("G7")
@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_recorded_history_folds_to_the_same_state(path: Path) -> None:
    kept = msgspec.json.decode(path.with_suffix(".state.json").read_bytes())
    assert lost(kept, state_of(fold(path.read_bytes()))) == []


def test_every_kind_of_stream_and_of_end_is_recorded() -> None:
    kinds, ends = set(), set()
    for path in HISTORIES:
        state = msgspec.json.decode(path.with_suffix(".state.json").read_bytes())
        kinds.add(state["kind"])
        ends.add(state.get("termination_code"))
    assert kinds == {kind.__name__ for kind in KINDS}
    assert ends >= {"success", "cell_error", "cancelled", "worker_lost"}


def test_another_state_is_noticed() -> None:
    path = next(path for path in HISTORIES if path.stem == "execution-cell-error")
    kept = msgspec.json.decode(path.with_suffix(".state.json").read_bytes())
    half = path.read_bytes().splitlines(keepends=True)[:-1]
    faults = lost(kept, state_of(fold(b"".join(half))))
    assert any(fault.startswith("/status ") for fault in faults), faults
    assert lost({"cells": [1, 2]}, {"cells": [1]}) == ["/cells is [1] instead of [1, 2]"]
    assert lost({"name": "a"}, {"more": "a"}) == ["/name is missing"]
