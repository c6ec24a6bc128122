"""The notebook aggregate: what it holds, and the events that change it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import msgspec
from eventsourcing.domain import BaseAggregate, CanInitAggregate, event
from msgspec import UNSET

from nbledger_domain import semver
from nbledger_domain.automation import AutoExecution
from nbledger_domain.cells import Cell
from nbledger_domain.errors import (
    Fault,
    FilesTooLargeError,
    InputFileExistsError,
    InputFileNotFoundError,
    InvalidFilesError,
    NotebookNotFoundError,
)
from nbledger_domain.events import DomainEvent, register
from nbledger_domain.input_files import FileLimits, InputFile, collision, total_size
from nbledger_domain.schedule import ScheduleSettings


class Integration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """How the notebook takes part in data enrichment, and how many runs of it go on at once.

    ``auto_execution`` makes it run when what it is made of changes. ``max_concurrent_runs`` bounds
    the runs that workers have at one time; ``None`` is no limit.
    """

    enrichment_mode: bool = False
    dataset_binding: str | None = None
    output_format: str | None = None
    auto_execution: AutoExecution = False
    schedule_execution: str | ScheduleSettings | None = None
    max_concurrent_runs: int | None = None


class Environment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What the notebook's code expects to be able to import."""

    packages: list[str] = []
    custom_libraries: list[str] = []


class UploadedFile(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The file that a notebook was uploaded as.

    ``digest`` is the SHA-256 of its bytes, under which the artifact store keeps it; ``size``
    is in bytes; ``nbformat`` is the version found, such as ``4.2``.
    """

    file_name: str
    digest: str
    size: int
    nbformat: str


class NotebookChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What an update may change; a field left unset stays as it is."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType = msgspec.UNSET
    integration: Integration | msgspec.UnsetType = msgspec.UNSET
    environment: Environment | msgspec.UnsetType = msgspec.UNSET
    cells: Sequence[Cell] | msgspec.UnsetType = msgspec.UNSET


class Notebook(BaseAggregate[UUID]):
    """A stored notebook. Its ``version`` counts events; ``notebook_version`` is for users."""

    class Event(DomainEvent, frozen=True, kw_only=True):
        """Base of the events of a notebook."""

    class Created(Event, CanInitAggregate[UUID], frozen=True, kw_only=True):
        """A notebook was made, perhaps from a template."""

        TYPE: ClassVar[str] = "notebook.created.v1"
        originator_topic: str
        name: str
        description: str
        kernel_type: str
        template: str | None
        integration: Integration
        environment: Environment
        cells: list[Cell]
        metadata: dict[str, Any]
        created_by: str

    class Uploaded(Event, frozen=True, kw_only=True):
        """The notebook just created came from this file."""

        TYPE: ClassVar[str] = "notebook.uploaded.v1"
        file: UploadedFile

    class Renamed(Event, frozen=True, kw_only=True):
        """The notebook got another name."""

        TYPE: ClassVar[str] = "notebook.renamed.v1"
        name: str

    class Described(Event, frozen=True, kw_only=True):
        """The notebook got another description."""

        TYPE: ClassVar[str] = "notebook.described.v1"
        description: str

    class IntegrationConfigured(Event, frozen=True, kw_only=True):
        """The notebook's integration settings were replaced."""

        TYPE: ClassVar[str] = "notebook.integration-configured.v1"
        integration: Integration

    class EnvironmentConfigured(Event, frozen=True, kw_only=True):
        """The notebook's environment was replaced."""

        TYPE: ClassVar[str] = "notebook.environment-configured.v1"
        environment: Environment

    class CellsUpdated(Event, frozen=True, kw_only=True):
        """The notebook's cells were replaced; ``cells`` is the whole new list."""

        TYPE: ClassVar[str] = "notebook.cells-updated.v1"
        cells: list[Cell]

    class FilesPut(Event, frozen=True, kw_only=True):
        """Input files were put beside the notebook; ``replaced`` are those that were there."""

        TYPE: ClassVar[str] = "notebook.files-put.v1"
        files: list[InputFile]
        replaced: list[str]

    class FilesRemoved(Event, frozen=True, kw_only=True):
        """Input files are beside the notebook no more."""

        TYPE: ClassVar[str] = "notebook.files-removed.v1"
        paths: list[str]

    class VersionBumped(Event, frozen=True, kw_only=True):
        """The changes just made were given a version."""

        TYPE: ClassVar[str] = "notebook.version-bumped.v1"
        notebook_version: str

    class DeletionRequested(Event, frozen=True, kw_only=True):
        """The notebook is to be deleted as soon as its executions have ended."""

        TYPE: ClassVar[str] = "notebook.deletion-requested.v1"

    class Deleted(Event, frozen=True, kw_only=True):
        """The notebook is gone for good."""

        TYPE: ClassVar[str] = "notebook.deleted.v1"

    @event(Created)
    def __init__(
        self,
        *,
        name: str,
        description: str,
        kernel_type: str,
        template: str | None,
        integration: Integration,
        environment: Environment,
        cells: list[Cell],
        metadata: dict[str, Any],
        created_by: str,
    ) -> None:
        self.name = name
        self.description = description
        self.kernel_type = kernel_type
        self.template = template
        self.integration = integration
        self.environment = environment
        self.cells = cells
        self.metadata = metadata
        self.uploaded: UploadedFile | None = None
        self.created_by = created_by
        self.files: dict[str, InputFile] = {}
        self.notebook_version = semver.INITIAL
        self.deletion_requested = False
        self.deleted = False

    @classmethod
    def create(
        cls,
        notebook_id: UUID,
        *,
        name: str,
        description: str,
        kernel_type: str,
        integration: Integration,
        environment: Environment,
        cells: Sequence[Cell],
        created_by: str,
        at: datetime,
        template: str | None = None,
        metadata: dict[str, Any] | None = None,
        uploaded: UploadedFile | None = None,
        files: Sequence[InputFile] = (),
    ) -> "Notebook":
        """A new notebook at version 1.0.0; its cells and files count as modified now.

        ``metadata`` is nbformat's, of the whole notebook. Raises :class:`InvalidFilesError`.
        """
        notebook = cls._create(
            cls.Created,
            id=notebook_id,
            timestamp=at,
            name=name,
            description=description,
            kernel_type=kernel_type,
            template=template,
            integration=integration,
            environment=environment,
            cells=[msgspec.structs.replace(cell, modified_at=at) for cell in cells],
            metadata=metadata or {},
            created_by=created_by,
        )
        if uploaded is not None:
            notebook.trigger_event(cls.Uploaded, timestamp=at, file=uploaded)
        notebook._put(files, at)  # noqa: SLF001 (its own)
        return notebook

    def update(self, changes: NotebookChanges, *, at: datetime) -> bool:
        """Make ``changes``; what is already so is no change. Returns whether anything changed.

        Raises :class:`NotebookNotFoundError` when the notebook is deleted or about to be.
        """
        self._must_exist()
        before = self.version
        if changes.name is not msgspec.UNSET and changes.name != self.name:
            self.trigger_event(self.Renamed, timestamp=at, name=changes.name)
        if changes.description is not msgspec.UNSET and changes.description != self.description:
            self.trigger_event(self.Described, timestamp=at, description=changes.description)
        if changes.integration is not msgspec.UNSET and changes.integration != self.integration:
            self.trigger_event(
                self.IntegrationConfigured, timestamp=at, integration=changes.integration
            )
        if changes.environment is not msgspec.UNSET and changes.environment != self.environment:
            self.trigger_event(
                self.EnvironmentConfigured, timestamp=at, environment=changes.environment
            )
        cells_changed = changes.cells is not msgspec.UNSET and self._update_cells(changes.cells, at)
        if self.version == before:
            return False
        version = semver.bump(self.notebook_version, cells_changed=cells_changed)
        self.trigger_event(self.VersionBumped, timestamp=at, notebook_version=version)
        return True

    def _update_cells(self, cells: Sequence[Cell], at: datetime) -> bool:
        old = {cell.cell_id: cell for cell in self.cells}
        new: list[Cell] = []
        for cell in cells:
            before = old.get(cell.cell_id)
            if before is not None and before.same_content(cell):
                new.append(before)
            else:
                new.append(msgspec.structs.replace(cell, modified_at=at))
        if new == self.cells:
            return False
        self.trigger_event(self.CellsUpdated, timestamp=at, cells=new)
        return True

    def put_files(
        self, files: Sequence[InputFile], *, replace: bool, limits: FileLimits, at: datetime
    ) -> bool:
        """Put files beside the notebook; the same bytes at the same path are no change.

        Returns whether anything changed. Raises :class:`NotebookNotFoundError`,
        :class:`InvalidFilesError` where paths collide, :class:`InputFileExistsError` where other
        bytes are there and ``replace`` is not asked for, and :class:`FilesTooLargeError`.
        """
        self._must_exist()
        new = [file for file in files if not self._holds(file)]
        there = [file.path for file in new if file.path in self.files]
        if there and not replace:
            raise InputFileExistsError(there)
        before = total_size(self.files)
        after = {**self.files, **{file.path: file for file in files}}
        grows = len(after) > len(self.files), total_size(after) > before
        if grows[0] and len(after) > limits.count:
            raise FilesTooLargeError(
                f"The notebook would have {len(after)} input files; {limits.count} are the most."
            )
        if grows[1] and total_size(after) > limits.total_bytes:
            raise FilesTooLargeError(
                f"The notebook's input files would have {total_size(after):,} bytes; "
                f"{limits.total_bytes:,} are the most."
            )
        if not self._put(files, at):
            return False
        self._bump_for_content(at)
        return True

    def remove_file(self, path: str, *, at: datetime) -> None:
        """Take a file away. Raises :class:`InputFileNotFoundError` where there is none."""
        self._must_exist()
        if path not in self.files:
            raise InputFileNotFoundError(path)
        self.trigger_event(self.FilesRemoved, timestamp=at, paths=[path])
        self._bump_for_content(at)

    def _holds(self, file: InputFile) -> bool:
        held = self.files.get(file.path)
        return held is not None and held.same_content(file)

    def _executable(self, file: InputFile) -> bool:
        """Whether the file is a program: one that takes the place of a program is one, too."""
        held = self.files.get(file.path)
        return bool(file.executable or (held is not None and held.executable))

    def _put(self, files: Sequence[InputFile], at: datetime) -> bool:
        new = [file for file in files if not self._holds(file)]
        there = [file.path for file in new if file.path in self.files]
        others = self.files.keys() - {file.path for file in files}
        reason = collision([*sorted(others), *(file.path for file in files)])
        if reason is not None:
            raise InvalidFilesError([Fault("/file", reason)])
        if not new:
            return False
        dated = [
            msgspec.structs.replace(
                file, modified_at=at, executable=self._executable(file) or UNSET
            )
            for file in new
        ]
        self.trigger_event(self.FilesPut, timestamp=at, files=dated, replaced=there)
        return True

    def _bump_for_content(self, at: datetime) -> None:
        """Files are content as cells are: a run of another version may read others."""
        version = semver.bump(self.notebook_version, cells_changed=True)
        self.trigger_event(self.VersionBumped, timestamp=at, notebook_version=version)

    def request_deletion(self, *, at: datetime) -> None:
        """Refuse further work, so that running executions can be ended before the deletion."""
        self._must_exist()
        self.trigger_event(self.DeletionRequested, timestamp=at)

    def delete(self, *, at: datetime) -> None:
        """Delete for good; whoever calls this has made sure that nothing is executing."""
        if self.deleted:
            raise NotebookNotFoundError(self.id)
        self.trigger_event(self.Deleted, timestamp=at)

    def _must_exist(self) -> None:
        if self.deleted or self.deletion_requested:
            raise NotebookNotFoundError(self.id)

    @event(Uploaded)
    def _apply_uploaded(self, file: UploadedFile) -> None:
        self.uploaded = file

    @event(Renamed)
    def _apply_renamed(self, name: str) -> None:
        self.name = name

    @event(Described)
    def _apply_described(self, description: str) -> None:
        self.description = description

    @event(IntegrationConfigured)
    def _apply_integration(self, integration: Integration) -> None:
        self.integration = integration

    @event(EnvironmentConfigured)
    def _apply_environment(self, environment: Environment) -> None:
        self.environment = environment

    @event(CellsUpdated)
    def _apply_cells(self, cells: list[Cell]) -> None:
        self.cells = cells

    @event(FilesPut)
    def _apply_files_put(self, files: list[InputFile]) -> None:
        self.files = {**self.files, **{file.path: file for file in files}}

    @event(FilesRemoved)
    def _apply_files_removed(self, paths: list[str]) -> None:
        self.files = {path: file for path, file in self.files.items() if path not in paths}

    @event(VersionBumped)
    def _apply_version(self, notebook_version: str) -> None:
        self.notebook_version = notebook_version

    @event(DeletionRequested)
    def _apply_deletion_requested(self) -> None:
        self.deletion_requested = True

    @event(Deleted)
    def _apply_deleted(self) -> None:
        self.deleted = True


register(Notebook)
