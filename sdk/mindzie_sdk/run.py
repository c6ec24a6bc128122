"""The run that the kernel serves: what the service tells of it, and where results go."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUN_FILE_VARIABLE = "NBLEDGER_RUN_FILE"
"""Environment variable in which a kernel finds the path of the file that tells of its run."""


class DatasetUnavailableError(LookupError):
    """The dataset is not held by the service that runs the notebook, or is no file here."""


@dataclass(frozen=True)
class Dataset:
    """A dataset as the run has it: a file that may only be read, and what is known of it."""

    dataset_id: str
    path: Path
    name: str
    version: int
    row_count: int
    columns: tuple[str, ...]
    """The names of its columns, in order."""


@dataclass(frozen=True)
class Run:
    """What the service tells of the run; outside of one everything is empty."""

    served: bool = False
    """Whether there is a run of the service, and not a kernel or script of somebody's own."""
    dataset_binding: str | None = None
    output_format: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    results: Path = Path("results")
    """The folder in which results are handed back."""


def current_run() -> Run:
    """The run that this process works for. Raises ValueError when its file cannot be read."""
    named = os.environ.get(RUN_FILE_VARIABLE)
    if not named:
        return Run(results=Path.cwd() / "results")
    path = Path(named)
    try:
        told = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:  # a kernel that waits for its run
        return Run(served=True, results=path.parent / "results")
    except ValueError as error:
        raise ValueError(f"The file that tells of the run is damaged: {error}") from error
    return Run(
        served=True,
        dataset_binding=told.get("datasetBinding"),
        output_format=told.get("outputFormat"),
        parameters=dict(told.get("parameters") or {}),
        datasets={each: _dataset(each, of) for each, of in (told.get("datasets") or {}).items()},
        results=path.parent / "results",
    )


def _dataset(dataset_id: str, told: dict[str, Any]) -> Dataset:
    return Dataset(
        dataset_id=dataset_id,
        path=Path(told["path"]),
        name=str(told["name"]),
        version=int(told["version"]),
        row_count=int(told["rowCount"]),
        columns=tuple(str(column["name"]) for column in told["columns"]),
    )
