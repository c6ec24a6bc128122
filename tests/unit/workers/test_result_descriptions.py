"""What a notebook says of its results, and what is told of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nbledger_domain.execution import Representation
from nbledger_http.representations import result_selection
from nbledger_projections.read_models.executions.result_folding import Artifact
from nbledger_workers.results import descriptions


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
    result = descriptions.decode(msgspec.json.encode(description))
    assert isinstance(result, descriptions.File)
    assert descriptions.attributes(result) == {"author": "me", "pages": 3}


@pytest.mark.parametrize("told", ["x", 3, {"role": "skops"}, [{"role": "skops"}], [None]])
def test_alternatives_that_cannot_be_read_are_none(told: Any) -> None:
    content = Representation("text/plain", "ab" * 32, 1)
    artifact = Artifact("file", "a", "a", content, {"alternatives": told})
    assert list(result_selection.alternatives(artifact)) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"datasetName": "log\n"}, "characters that are not allowed in the dataset name of {}"),
        ({"datasetName": "n" * 201}, "too long a value in the dataset name of {}"),
        ({"datasetName": ""}, "an empty value in the dataset name of {}"),
        ({"recordCount": "1"}, "a wrong value in the record count of {}"),
        ({"columns": [{"name": "a"}]}, "no 'type' in the columns of {}"),
        (
            {"columns": [{"name": "a", "type": "x"}]},
            "a wrong value in the type in the columns of {}",
        ),
        ({"sourceVersion": 1}, "a source is a dataset and its version, in {}"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(change: dict[str, Any], fault: str) -> None:
    file = {"path": "a", "fileName": "a", "mediaType": "text/csv", "role": "data"}
    told = {"recordCount": 1, "columns": [], "newColumns": [], "format": "csv", **change}
    described = {"kind": "enriched_dataset", "name": "log", "files": [file], "attributes": told}
    with pytest.raises(descriptions.InvalidResultError) as raised:
        descriptions.decode(msgspec.json.encode(described))
    assert str(raised.value) == fault.format("the enriched dataset 'log'")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"[]", "a wrong value in the result"),
        (b"[[" * 5000, "its description cannot be read"),
        (b'{"kind": "metric", "name": "\xff"}', "its description cannot be read"),
        (b'{"kind": "metric", "name": 5}', "a wrong value in the name of the metric"),
        (b'{"kind": "figure", "name": "a"}', "a wrong value in the kind of the result 'a'"),
        (
            b'{"kind": "metric", "name": "a\\u0000", "attributes": {"value": 1}}',
            "characters that are not allowed in the name of the metric 'a\\x00'",
        ),
        (
            b'{"kind": "metric", "name": "a", "attributes": {"value": 1}, "\\u0000": 1}',
            "an unknown '\\x00' in the metric 'a'",
        ),
        (b'{"kind": "metric", "name": "a", "attributes": {}}', "no 'value' in the metric 'a'"),
    ],
)
def test_what_names_no_result_is_told_of_as_well(content: bytes, fault: str) -> None:
    with pytest.raises(descriptions.InvalidResultError) as raised:
        descriptions.decode(content)
    assert str(raised.value) == fault
