"""The differences of one run from another."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from nbledger_domain.cells import Cell
from nbledger_domain.execution import Execution
from nbledger_domain.notebook import Notebook

Subject = Literal[
    "notebook",
    "cellRange",
    "parameters",
    "options",
    "datasets",
    "environment",
    "kernel",
    "inputFiles",
]

CellPart = Literal["type", "source", "metadata", "attachments"]


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run: what it was asked for, and what it was given.

    ``packages`` are those that the kernel got beside its own, ``language_version`` is the
    interpreter's; ``None`` is what is not known, as of a run that ended before it came so far.
    ``datasets`` are the versions of those it names; ``None`` in their place, or of one, likewise.
    """

    execution: Execution
    notebook: Notebook
    packages: Sequence[str] | None
    language: str | None
    language_version: str | None
    datasets: Mapping[UUID, int | None] | None


class ValueChange(msgspec.Struct, frozen=True):
    """A value in the run before and in this one; null is none, or one that is not known."""

    before: Any
    after: Any


class MembersChange(msgspec.Struct, frozen=True):
    """Members by name: those that came, with their value; those that went; those that changed."""

    added: dict[str, Any]
    removed: dict[str, Any]
    changed: dict[str, ValueChange]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class CellDifference(msgspec.Struct, frozen=True, rename="camel"):
    """A cell that is another one under the same id, and what of it is."""

    cell_id: str
    parts: list[CellPart]


class CellsChange(msgspec.Struct, frozen=True, rename="camel"):
    """Cells by their ids; `reordered` where those that both have are in another order."""

    added: list[str]
    removed: list[str]
    changed: list[CellDifference]
    reordered: bool


class NotebookChange(msgspec.Struct, frozen=True, rename="camel"):
    """The notebook's version, and all its cells, whether the runs covered them or not."""

    version: ValueChange
    cells: CellsChange


class DatasetChange(msgspec.Struct, frozen=True, rename="camel"):
    """A dataset that one of the runs names: the versions that they were given, if they were.

    `changed` is null where one of the versions is not known.
    """

    dataset_id: str
    before: int | None
    after: int | None
    changed: bool | None


class EnvironmentChange(msgspec.Struct, frozen=True, rename="camel"):
    """Packages and libraries that the notebook asks for, and what was provided for that.

    `provided` is null where it is not known of one of the runs. What a kernel's own environment
    holds is not compared.
    """

    packages: ValueChange
    custom_libraries: ValueChange
    provided: MembersChange | None


class KernelChange(msgspec.Struct, frozen=True, rename="camel"):
    """The kernel; null is what is not known, as its kernel did not start."""

    kernel_type: ValueChange
    language: ValueChange
    language_version: ValueChange


class Differences(msgspec.Struct, frozen=True, rename="camel"):
    """All that is compared; ``differs`` and ``unknown`` name the subjects that are so.

    Of ``cell_range``, null is all cells. Input files are told by their SHA-256.
    """

    differs: list[Subject]
    unknown: list[Subject]
    notebook: NotebookChange
    cell_range: ValueChange
    parameters: MembersChange
    options: MembersChange
    datasets: list[DatasetChange]
    environment: EnvironmentChange
    kernel: KernelChange
    input_files: MembersChange


def differences(before: RunFacts, after: RunFacts) -> Differences:
    """How ``after`` differs."""
    notebook = NotebookChange(
        ValueChange(before.execution.notebook_version, after.execution.notebook_version),
        cells_change(before.notebook.cells, after.notebook.cells),
    )
    cell_range = ValueChange(before.execution.cell_range, after.execution.cell_range)
    parameters = members_change(before.execution.parameters, after.execution.parameters)
    options = members_change(_options(before.execution), _options(after.execution))
    datasets = _datasets(before, after)
    environment = _environment(before, after)
    kernel = KernelChange(
        ValueChange(before.execution.kernel_type, after.execution.kernel_type),
        ValueChange(before.language, after.language),
        ValueChange(before.language_version, after.language_version),
    )
    files = members_change(_files(before.notebook), _files(after.notebook))
    differs: Mapping[Subject, bool] = {
        "notebook": before.notebook.version != after.notebook.version,
        "cellRange": _differ(cell_range),
        "parameters": bool(parameters),
        "options": bool(options),
        "datasets": any(each.changed for each in datasets),
        "environment": _differ(environment.packages)
        or _differ(environment.custom_libraries)
        or bool(environment.provided),
        "kernel": any(
            _differ(each) and _known(each)
            for each in (kernel.kernel_type, kernel.language, kernel.language_version)
        ),
        "inputFiles": bool(files),
    }
    unknown: Mapping[Subject, bool] = {
        "datasets": any(each.changed is None for each in datasets),
        "environment": environment.provided is None,
        "kernel": not (_known(kernel.language) and _known(kernel.language_version)),
    }
    return Differences(
        differs=[subject for subject, is_so in differs.items() if is_so],
        unknown=[subject for subject, is_so in unknown.items() if is_so],
        notebook=notebook,
        cell_range=cell_range,
        parameters=parameters,
        options=options,
        datasets=datasets,
        environment=environment,
        kernel=kernel,
        input_files=files,
    )


def _differ(change: ValueChange) -> bool:
    return not same(change.before, change.after)


def _known(change: ValueChange) -> bool:
    return change.before is not None and change.after is not None


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: to Python, 1, 1.0 and true are."""
    if one.__class__ is not other.__class__:
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def members_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> MembersChange:
    """What has become of members by name."""
    return MembersChange(
        added={name: value for name, value in after.items() if name not in before},
        removed={name: value for name, value in before.items() if name not in after},
        changed={
            name: ValueChange(value, after[name])
            for name, value in before.items()
            if name in after and not same(value, after[name])
        },
    )


_PARTS: Final[Mapping[CellPart, str]] = {
    "type": "cell_type",
    "source": "source",
    "metadata": "metadata",
    "attachments": "attachments",
}


def cells_change(before: Sequence[Cell], after: Sequence[Cell]) -> CellsChange:
    """What has become of cells, by their ids."""
    old = {cell.cell_id: cell for cell in before}
    new = {cell.cell_id: cell for cell in after}
    changed = [
        CellDifference(
            cell_id,
            [
                part
                for part, name in _PARTS.items()
                if not same(getattr(cell, name), getattr(new[cell_id], name))
            ],
        )
        for cell_id, cell in old.items()
        if cell_id in new
    ]
    return CellsChange(
        added=[cell_id for cell_id in new if cell_id not in old],
        removed=[cell_id for cell_id in old if cell_id not in new],
        changed=[each for each in changed if each.parts],
        reordered=[cell_id for cell_id in old if cell_id in new]
        != [cell_id for cell_id in new if cell_id in old],
    )


def _options(execution: Execution) -> dict[str, Any]:
    options: dict[str, Any] = msgspec.to_builtins(execution.options)
    return options


def _files(notebook: Notebook) -> dict[str, Any]:
    """Input files by their paths: the SHA-256 of their bytes."""
    return {path: file.digest for path, file in sorted(notebook.files.items())}


def _datasets(before: RunFacts, after: RunFacts) -> list[DatasetChange]:
    old, new = before.datasets, after.datasets
    return [_dataset(dataset_id, old, new) for dataset_id in sorted({*(old or ()), *(new or ())})]


def _dataset(
    dataset_id: UUID,
    before: Mapping[UUID, int | None] | None,
    after: Mapping[UUID, int | None] | None,
) -> DatasetChange:
    old, new = _version(before, dataset_id), _version(after, dataset_id)
    known = old is not None and new is not None
    return DatasetChange(str(dataset_id), old or None, new or None, old != new if known else None)


def _version(datasets: Mapping[UUID, int | None] | None, dataset_id: UUID) -> int | None:
    """The version that a run was given; 0 where it was given none, ``None`` if not known."""
    return None if datasets is None else datasets.get(dataset_id, 0)


def _environment(before: RunFacts, after: RunFacts) -> EnvironmentChange:
    old, new = before.notebook.environment, after.notebook.environment
    provided = None
    if before.packages is not None and after.packages is not None:
        provided = members_change(_versions(before.packages), _versions(after.packages))
    return EnvironmentChange(
        ValueChange(old.packages, new.packages),
        ValueChange(old.custom_libraries, new.custom_libraries),
        provided,
    )


def _versions(packages: Sequence[str]) -> dict[str, Any]:
    """Packages by name, of ``name==version``."""
    parts = (package.partition("==") for package in packages)
    return {name: version or None for name, _, version in parts}
