"""What the store knows of a run or a version of a dataset, as far as lineage tells it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from nbledger_domain.dataset import DatasetVersion
from nbledger_domain.execution import Cause, CellError

RunState = Literal["START", "RUNNING", "COMPLETE", "FAIL", "ABORT"]


class Teller(msgspec.Struct, frozen=True, kw_only=True):
    """Who tells, and by which names.

    ``namespace`` begins every namespace. With ``readable`` names notebooks and datasets have the
    names that people gave them, with the end of their ids, in place of the ids alone. With
    ``parents`` a run has the run that it repeats as its parent. ``address`` is what the API is
    reached by, ``version`` that of the service.
    """

    namespace: str
    readable: bool
    parents: bool
    address: str
    version: str


class Project(msgspec.Struct, frozen=True):
    """Whose it is."""

    tenant_id: UUID
    project_id: UUID


class PinnedNotebook(msgspec.Struct, frozen=True, kw_only=True):
    """A notebook as a run executes it; ``name`` is None where its data is erased."""

    notebook_id: UUID
    name: str | None = None
    description: str = ""
    version: str | None = None


class VersionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a dataset; ``name`` and ``content`` are None where its data is erased."""

    dataset_id: UUID
    number: int
    name: str | None = None
    content: DatasetVersion | None = None


class EarlierRun(msgspec.Struct, frozen=True):
    """A run that led to another one."""

    run_id: UUID
    notebook: PinnedNotebook


class EngineFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel of the last attempt, as far as it is known."""

    name: str
    version: str
    language: str


class Fault(msgspec.Struct, frozen=True):
    """Why a run failed, and the exception of the cell that ended it, if one did."""

    message: str
    error: CellError | None


class LineageRun(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run at one of its events.

    ``cause`` is None where the run's data is erased. ``repeats`` are the run that it repeats, and
    the first of all that led to that one; ``upstream`` is the run that led to this one, as it
    repeats it, or because it wrote the version of a dataset that brought this one about.
    ``attempt`` counts from 1; it is 0 before a worker has taken the run.
    """

    project: Project
    run_id: UUID
    notebook: PinnedNotebook
    cause: Cause | None = None
    tags: Sequence[str] = ()
    attempt: int = 0
    repeats: Sequence[EarlierRun] = ()
    upstream: EarlierRun | None = None
    engine: EngineFacts | None = None
    inputs: Sequence[VersionFacts] = ()
    outputs: Sequence[VersionFacts] = ()
    termination_code: str | None = None
    fault: Fault | None = None


class Document(msgspec.Struct, frozen=True):
    """A document, and the key that keeps it in order with those it belongs with."""

    key: str
    at: datetime
    document: dict[str, Any]
