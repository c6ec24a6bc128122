"""What a notebook says of its results, and what is told of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nbledger_domain.execution import Representation
from nbledger_http import result_selection
from nbledger_projections.execution_results import Artifact
from nbledger_workers import results


def test_of_a_file_nothing_is_taken_that_only_the_worker_tells() -> None:
    told = {
        "author": "me",
        "pages": 3,
        "alternatives": "x",
        "cellId": "cell-999",
        "path": "/etc/passwd",
        "datasetId": "x",
        "datasetVersion": 1,
    }
    file = {"path": "a", "fileName": "a", "mediaType": "text/plain", "role": "data"}
    description = {"kind": "file", "name": "a", "files": [file], "attributes": told}
    result = results.decode(msgspec.json.encode(description))
    assert isinstance(result, results.File)
    assert results.attributes(result) == {"author": "me", "pages": 3}


@pytest.mark.parametrize("told", ["x", 3, {"role": "skops"}, [{"role": "skops"}], [None]])
def test_alternatives_that_cannot_be_read_are_none(told: Any) -> None:
    content = Representation("text/plain", "ab" * 32, 1)
    artifact = Artifact("file", "a", "a", content, {"alternatives": told})
    assert list(result_selection.alternatives(artifact)) == []
