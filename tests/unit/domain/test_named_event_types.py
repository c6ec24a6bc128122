"""Which types of events requests may name, and what is meant by others."""

from __future__ import annotations

import pytest

from nbledger_domain import catalogue  # noqa: F401 - events are known once it is imported
from nbledger_domain.events import EVENT_TYPES
from nbledger_domain.histories.event_types import unknown_type


def test_every_type_and_each_beginning_of_it_is_known() -> None:
    for each in EVENT_TYPES.readable():
        kind, name, _ = each.split(".")
        for known in (each, f"{kind}.{name}", kind):
            assert unknown_type(known) is None, known


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("notebok", "notebook"),
        ("notebook.renamd", "notebook.renamed"),
        ("notebook.renamd.v1", "notebook.renamed.v1"),
        ("execution.requested.v9", "execution.requested.v1"),
        ("Execution.Requested", "execution.requested"),
        ("execution.cell_executed", "execution.cell-executed"),
        ("execution.cellExecuted.v1", "execution.cell-executed.v1"),
        ("%", None),
        ("zzz", None),
    ],
)
def test_what_is_none_is_told_with_what_is_like_it(text: str, meant: str | None) -> None:
    reason = unknown_type(text)
    assert reason is not None
    assert reason.endswith(f"did you mean {meant}?") == (meant is not None), reason
    assert ("did you mean" in reason) == (meant is not None), reason
