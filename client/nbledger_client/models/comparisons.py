"""Types of the API: comparisons. Made by `make client-models`."""

from typing import Any

import msgspec

from nbledger_client.answers import Answered
from nbledger_client.models.common import (
    AttemptDocument,
    Cause,
    CellRange,
    ErrorDocument,
    RepetitionDocument,
)


class CellComparison(msgspec.Struct, rename="camel", kw_only=True):
    """A cell in both versions, or in one: its index in each, from 0, and what of it is otherwise.

    One that `moved` is among others than before; its `parts` may be otherwise as well. `diff` is
    between both, in the form of nbdime.
    """

    cell_id: str
    change: str
    cell_type: str
    before: int | None = None
    after: int | None = None
    parts: list[str] = []
    diff: list[dict[str, Any]] = []


class CellDifference(msgspec.Struct, rename="camel", kw_only=True):
    """A cell that is another one under the same id, and what of it is."""

    cell_id: str
    parts: list[str]


class CellsChange(msgspec.Struct, rename="camel", kw_only=True):
    """Cells by their ids; `reordered` where those that both have are in another order."""

    added: list[str]
    removed: list[str]
    changed: list[CellDifference]
    reordered: bool


class ChainedExecutionDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A run of a chain; its own document has what it was asked for and what its cells did."""

    execution_id: str
    cause: Cause
    repetitions: list[RepetitionDocument]
    notebook_version: str
    cell_range: CellRange | None = None
    status: str
    phase: str | None = None
    start_time: str
    end_time: str | None = None
    total_duration: str | None = None
    termination_code: str | None = None
    termination_category: str | None = None
    error: ErrorDocument | None = None
    attempts: int
    attempt_history: list[AttemptDocument]
    requested_by: str


class ChainDocument(Answered, rename="camel", kw_only=True):
    """All runs that repeat the first one, or what repeats it, in the order of their requests.

    `firstExecutionId` is the one that repeats none. `complete` is false where there are more than
    1,000; those nearest to the first are told.
    """

    first_execution_id: str
    executions: list[ChainedExecutionDocument]
    complete: bool


class ChangeCounts(msgspec.Struct, rename="camel", kw_only=True):
    """How many cells there are of each change."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    moved: int = 0
    unchanged: int = 0


class ComparedRun(msgspec.Struct, rename="camel", kw_only=True):
    """The run that another one is compared with."""

    execution_id: str
    notebook_version: str
    status: str
    start_time: str


class DatasetChange(msgspec.Struct, rename="camel", kw_only=True):
    """A dataset that one of the runs names: the versions that they were given, if they were.

    `changed` is null where one of the versions is not known.
    """

    dataset_id: str
    before: int | None
    after: int | None
    changed: bool | None


class ValueChange(msgspec.Struct, rename="camel", kw_only=True):
    """A value in the run before and in this one; null is none, or one that is not known."""

    before: Any
    after: Any


class MembersChange(msgspec.Struct, rename="camel", kw_only=True):
    """Members by name: those that came, with their value; those that went; those that changed."""

    added: dict[str, Any]
    removed: dict[str, Any]
    changed: dict[str, ValueChange]


class EnvironmentChange(msgspec.Struct, rename="camel", kw_only=True):
    """Packages and libraries that the notebook asks for, and what was provided for that.

    `provided` is null where it is not known of one of the runs. What a kernel's own environment
    holds is not compared.
    """

    packages: ValueChange
    custom_libraries: ValueChange
    provided: MembersChange | None


class KernelChange(msgspec.Struct, rename="camel", kw_only=True):
    """The kernel; null is what is not known, as its kernel did not start."""

    kernel_type: ValueChange
    language: ValueChange
    language_version: ValueChange


class NotebookChange(msgspec.Struct, rename="camel", kw_only=True):
    """The notebook's version, and all its cells, whether the runs covered them or not."""

    version: ValueChange
    cells: CellsChange


class Differences(msgspec.Struct, rename="camel", kw_only=True):
    """All that is compared; `differs` and `unknown` name the subjects that are so.

    Of `cell_range`, null is all cells. Input files are told by their SHA-256.
    """

    differs: list[str]
    unknown: list[str]
    notebook: NotebookChange
    cell_range: ValueChange
    parameters: MembersChange
    options: MembersChange
    datasets: list[DatasetChange]
    environment: EnvironmentChange
    kernel: KernelChange
    input_files: MembersChange


class ChangesDocument(Answered, rename="camel", kw_only=True):
    """What has changed in an execution since the one that it is compared with.

    `basis` says which that is: the last one requested before it that succeeded (of the same cells;
    if there is none, of any), or the one that was asked for. `against` and `changes` are null
    where none has succeeded before.
    """

    execution_id: str
    basis: str
    against: ComparedRun | None
    changes: Differences | None


class ComparedVersion(msgspec.Struct, rename="camel", kw_only=True):
    """One side: the notebook's version, after the event at this position, at this time."""

    notebook_version: str
    position: int
    time: str


class MemberChange(msgspec.Struct, rename="camel", kw_only=True):
    """A value by its JSON pointer; no `before` where it came, no `after` where it went."""

    path: str
    before: Any | None = None
    after: Any | None = None


class NotebookComparison(Answered, rename="camel", kw_only=True):
    """The differences of the notebook `to` from that `from`.

    `notebook` tells of its name, description, settings and environment, `parameters` of what its
    parameters cell declares, `files` of its input files; each by the JSON pointer of what changed.
    `datasets` are those that it is bound to, or that defaults of its parameters name. `cells` are
    all cells in the order of `to`, those removed where they were. `diff` leads from the one list
    of cells to the other, as notebook files have them, in the format of nbdime.
    """

    notebook_id: str
    from_: ComparedVersion
    to: ComparedVersion
    identical: bool
    counts: ChangeCounts
    notebook: list[MemberChange]
    parameters: list[MemberChange]
    datasets: list[MemberChange]
    files: list[MemberChange]
    cells: list[CellComparison]
    diff: list[dict[str, Any]]
