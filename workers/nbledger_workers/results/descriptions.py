"""What a notebook hands back, as its SDK describes it: one JSON file for each result."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from nbledger_domain.dataset import Column

MAX_BYTES: Final = 1_000_000
"""Of one description."""

# No control characters: names go into headers, archives and the store.
_TEXT: Final = r"\A[^\x00-\x1f\x7f]*\Z"
# Of columns and the like anything goes but what the store cannot hold.
_ANY: Final = r"\A[^\x00]*\Z"
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=_TEXT)]
Text = Annotated[str, Meta(max_length=1000, pattern=_ANY)]
_Count = Annotated[int, Meta(ge=0, le=10**15)]
_MediaType = Annotated[str, Meta(max_length=100, pattern=r"\A[a-z]+/[A-Za-z0-9.+-]+(;[ -~]*)?\Z")]


class InvalidResultError(Exception):
    """The description is not what it should be; the message says where, and of which result."""


class ParquetTable(msgspec.Struct, frozen=True):
    """A Parquet file and what is in it."""

    path: str
    rows: int
    columns: list[Column]


class ResultFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A file of a result; ``path`` is relative to the folder of results."""

    path: Annotated[str, Meta(min_length=1, max_length=1000, pattern=_TEXT)]
    file_name: Name
    media_type: _MediaType
    role: Literal["data", "table", "model", "skops", "onnx", "report"]


_Files = Annotated[list[ResultFile], Meta(min_length=1, max_length=20)]


class DatasetAttributes(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of an enriched dataset: ``format`` is that of its file, ``frame`` what it was in the cell.

    A further file in the role ``table`` is the same in Parquet, with the types.
    """

    record_count: _Count
    columns: Annotated[list[Column], Meta(max_length=20_000)]
    new_columns: Annotated[list[Text], Meta(max_length=20_000)]
    format: Literal["parquet", "csv"]
    frame: Literal["pandas_dataframe", "polars_dataframe", "r_data_frame"] | None = None
    source_dataset_id: UUID | None = None
    source_version: Annotated[int, Meta(ge=1)] | None = None
    dataset_name: Name | None = None

    def __post_init__(self) -> None:
        if (self.source_dataset_id is None) != (self.source_version is None):
            raise ValueError("a source is a dataset and its version")


class ModelAttributes(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True
):
    """Of a model."""

    model_type: Text | None = None
    features: Annotated[list[Text], Meta(max_length=20_000)] = []
    target: Text | None = None
    metrics: Annotated[dict[Text, float | None], Meta(max_length=1000)] = {}
    accuracy: float | None = None
    libraries: Annotated[dict[Text, Text], Meta(max_length=100)] = {}


class ReportAttributes(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True
):
    """Of a report."""

    format: Literal["html", "pdf", "markdown", "text"] = msgspec.field()
    title: Text | None = None


class MetricAttributes(msgspec.Struct, frozen=True):
    """Of a figure."""

    value: float


class _Result(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    name: Name


class EnrichedDataset(_Result, frozen=True, forbid_unknown_fields=True, tag="enriched_dataset"):
    """A table with what the notebook has found out."""

    files: _Files
    attributes: DatasetAttributes


class Model(_Result, frozen=True, forbid_unknown_fields=True, tag="model"):
    """A fitted model."""

    files: _Files
    attributes: ModelAttributes = ModelAttributes()


class Report(_Result, frozen=True, forbid_unknown_fields=True, tag="report"):
    """A report that the notebook wrote itself."""

    files: _Files
    attributes: ReportAttributes


class File(_Result, frozen=True, forbid_unknown_fields=True, tag="file"):
    """Any other file."""

    files: _Files
    attributes: dict[Text, Text | int | float | bool | None] = {}


class Metric(_Result, frozen=True, forbid_unknown_fields=True, tag="metric"):
    """A figure by name."""

    attributes: MetricAttributes
    files: Annotated[list[ResultFile], Meta(max_length=0)] = []


Result = EnrichedDataset | Model | Report | File | Metric

_decoder: msgspec.json.Decoder[Result] = msgspec.json.Decoder(Result)

# What is told of results by others than the notebook.
_RESERVED: Final = frozenset({"alternatives", "cellId", "path", "datasetId", "datasetVersion"})

_MAIN_ROLES: Final = {"enriched_dataset": "data", "model": "model", "report": "report"}

_KINDS: Final = frozenset(("enriched_dataset", "model", "report", "file", "metric"))
_SHOWN: Final = 80
"""Characters of a name that are told."""
_LONGEST: Final = 400
_MEMBER: Final = re.compile(r"\.(\w+)")
_REASONS: Final = (
    (re.compile(r"Object missing required field `(.*)`"), "no"),
    (re.compile(r"Object contains unknown field `(.*)`"), "an unknown"),
    (re.compile(r"Expected .* of length <= "), "too long a value"),
    (re.compile(r"Expected .* of length >= "), "an empty value"),
    (re.compile(r"Expected .* matching regex "), "characters that are not allowed"),
)


def decode(content: bytes) -> Result:
    """Read a description. Raises :class:`InvalidResultError`."""
    try:
        return _decoder.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise InvalidResultError(_fault(content, error)[:_LONGEST]) from error


def _fault(content: bytes, error: Exception) -> str:
    """What is wrong, in words for who wrote the notebook."""
    try:
        told = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return "its description cannot be read"
    told = told if isinstance(told, dict) else {}
    kind = told.get("kind")
    what = kind.replace("_", " ") if isinstance(kind, str) and kind in _KINDS else "result"
    if isinstance(name := told.get("name"), str):
        what += f" {name[:_SHOWN]!r}"
    reason, _, place = str(error).partition(" - at ")
    members = [_words(each) for each in _MEMBER.findall(place) if each != "attributes"]
    where = " of the ".join([" in the ".join(reversed(members)), what] if members else [what])
    if isinstance(error.__cause__, ValueError):  # in words of ours
        return f"{error.__cause__}, in the {where}"
    for pattern, found in _REASONS:
        if match := pattern.match(reason):
            named = "".join(f" {_words(each)[:_SHOWN]!r}" for each in match.groups())
            return f"{found}{named} in the {where}"
    return f"a wrong value in the {where}"


def _words(member: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", r" \1", member).lower()


def in_order(result: EnrichedDataset | Model | Report | File) -> list[ResultFile]:
    """The files of a result, the one first that stands for it."""
    kind: str = result.__struct_config__.tag  # type: ignore[assignment]
    wanted = _MAIN_ROLES.get(kind)
    return sorted(result.files, key=lambda file: file.role != wanted)


def attributes(result: Model | Report | File) -> dict[str, Any]:
    """The attributes as an event tells them, without those that only the worker gives."""
    told: dict[str, Any] = msgspec.to_builtins(result.attributes)
    return {name: value for name, value in told.items() if name not in _RESERVED}
