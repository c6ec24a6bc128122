"""Snapshots are of a format, which follows from the members of the row."""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec import UNSET, UnsetType

from nbledger_projections.machinery import snapshots
from nbledger_projections.read_models import dataset_details
from nbledger_projections.read_models.executions import status
from nbledger_projections.read_models.notebooks import details


def test_any_other_member_is_another_format() -> None:
    def row(inner: object, name: str = "row") -> object:
        part = msgspec.defstruct("part", [("x", inner)])
        return msgspec.defstruct(name, [("parts", list[part])])  # type: ignore[valid-type]

    kinds = [
        *(int, str, int | None, list[int], dict[str, int], list[str], dict[str, str | UnsetType]),
        *(StrEnum("kinds", ["a"]), StrEnum("kinds", ["a", "b"])),
    ]
    digests = [snapshots.shape(row(kind)) for kind in kinds]
    assert len(set(digests)) == len(kinds)
    assert snapshots.shape(row(int, "renamed")) == digests[0]
    optional = msgspec.defstruct("row", [("a", int), ("b", int | UnsetType, UNSET)])
    assert snapshots.shape(optional) != snapshots.shape(msgspec.defstruct("row", [("a", int)]))


def test_rows_of_read_models_have_formats_of_their_own() -> None:
    models = (details.MODEL, status.MODEL, dataset_details.MODEL)
    formats = {each.snapshots.format for each in models if each.snapshots is not None}
    assert len(formats) == 3
