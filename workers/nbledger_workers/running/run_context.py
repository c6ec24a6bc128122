"""What a notebook is given for its run: the run file, its input files, the datasets it names."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec

from nbledger_domain.execution import Execution, GivenDataset
from nbledger_domain.named_datasets import named
from nbledger_domain.notebook import Notebook
from nbledger_infrastructure import datasets
from nbledger_infrastructure.artifacts.store import ArtifactMissingError, ArtifactStore, Scope
from nbledger_infrastructure.datasets import DatasetHead
from nbledger_infrastructure.postgres.event_store import EventStore, Stream
from nbledger_workers.kernel.processes.environment import datasets_folder
from nbledger_workers.results.datasets import write_csv
from nbledger_workers.running import input_files
from nbledger_workers.storing.patience import Patience

_READ_CSV: Final = frozenset({"r", "scala"})
"""Kernel types whose language reads no Parquet without packages that are seldom there."""


class RunContext:
    """The context of one run. What it read is known once :meth:`prepare` has returned.

    ``bound`` is the dataset that the notebook is bound to, where the project holds it; ``given``
    are the datasets in the run's folder, ``None`` where the run names none; ``warnings`` tell of
    those that should be there and are not.
    """

    def __init__(
        self,
        store: EventStore,
        artifacts: ArtifactStore,
        stream: Stream,
        execution: Execution,
        notebook: Notebook,
        *,
        patience: Patience,
    ) -> None:
        self._patience = patience
        self.bound: DatasetHead | None = None
        self.given: list[GivenDataset] | None = None
        self.warnings: list[str] = []
        self._store = store
        self._artifacts = artifacts
        self._stream = stream
        self._csv = notebook.kernel_type in _READ_CSV
        self._files = list(notebook.files.values())
        self._binding = notebook.integration.dataset_binding
        self._named = named(self._binding, execution.parameters)
        self._pinned = execution.pinned
        self._members = {
            "executionId": str(execution.id),
            "notebookId": str(execution.notebook_id),
            "datasetBinding": self._binding,
            "outputFormat": notebook.integration.output_format,
            "parameters": execution.parameters,
        }

    @property
    def has_to_prepare(self) -> bool:
        """Whether there is anything to put into the run's folder."""
        return bool(self._named or self._files)

    def encode(self, held: Mapping[str, Any] | None = None) -> bytes:
        """The run file. As text: parameters may hold numbers of any size."""
        return msgspec.json.encode({**self._members, "datasets": held or {}})

    async def prepare(self, folder: Path) -> bytes:
        """Put input files and datasets into the run's folder; returns the run file.

        Raises what the artifact store and the event store raise, and :class:`InputFileError`.
        """
        stream = self._stream
        scope = Scope(stream.tenant_id, stream.project_id, stream.subject_id)
        await self._patience.wait_for(
            partial(input_files.place, self._artifacts, scope, self._files, folder)
        )
        place = datasets_folder(folder)
        told: dict[str, dict[str, Any]] = {}
        self.bound, self.warnings = None, []
        given: list[GivenDataset] = []
        self.given = given if self._named else None
        for text, dataset_id in self._named.items():
            if str(dataset_id) in told:
                told[text] = told[str(dataset_id)]
                continue
            dataset = await self._patience.wait_for(
                partial(
                    datasets.head,
                    self._store,
                    self._stream.tenant_id,
                    self._stream.project_id,
                    dataset_id,
                    version=self._pinned.get(dataset_id),
                )
            )
            if dataset is None:
                self._warn_of_pinned(dataset_id)
                continue
            if text == self._binding:
                self.bound = dataset
            place.mkdir(parents=True, exist_ok=True)
            path = place / f"{dataset_id}.parquet"
            try:
                await self._patience.wait_for(
                    partial(datasets.materialise, self._artifacts, dataset, path)
                )
            except ArtifactMissingError:
                path.unlink(missing_ok=True)
                self.warnings.append(
                    f"The dataset {dataset.name!r} is held, but its file is not there any more."
                )
                continue
            given.append(GivenDataset(dataset_id, dataset.version))
            # By its id as it is written, and as the notebook writes it.
            told[text] = told[str(dataset_id)] = {
                "path": str(path),
                "name": dataset.name,
                "version": dataset.version,
                "rowCount": dataset.rows,
                "columns": msgspec.to_builtins(dataset.columns),
            }
            if self._csv and await write_csv(path, csv := path.with_suffix(".csv")):
                told[text]["csvPath"] = str(csv)
        return self.encode(told)

    def _warn_of_pinned(self, dataset_id: UUID) -> None:
        version = self._pinned.get(dataset_id)
        if version is not None:
            self.warnings.append(
                f"Version {version} of dataset {dataset_id}, which the run was to be given, is not "
                "held any more."
            )
