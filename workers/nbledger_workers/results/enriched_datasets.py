"""Enriched datasets that cells hand back, kept as versions of datasets."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from nbledger_application.claims import Claim
from nbledger_domain.dataset import Source
from nbledger_infrastructure import clock
from nbledger_infrastructure.datasets import head
from nbledger_infrastructure.postgres.event_store import EventStore
from nbledger_workers.results.datasets import TableReader, keep_version
from nbledger_workers.results.descriptions import EnrichedDataset
from nbledger_workers.storing.patience import Patience
from nbledger_workers.storing.spool import Spool


class EnrichedDatasets:
    """Keeps those of one run."""

    def __init__(self, store: EventStore, spool: Spool, claim: Claim, patience: Patience) -> None:
        self._store = store
        self._spool = spool
        self._claim = claim
        self._patience = patience
        self._tables = TableReader()

    async def close(self) -> None:
        """End the process that reads tables."""
        await self._tables.close()

    async def keep(
        self, result: EnrichedDataset, path: Path, form: Literal["parquet", "csv"]
    ) -> dict[str, Any]:
        """Keep it as a version of a dataset; returns what is told of it.

        Rows and columns are counted: what the notebook says of them is not relied on. Raises
        :class:`InvalidTableError`.
        """
        told = result.attributes
        table = await self._tables.read(path, form, path.parent)
        stream = self._claim.stream
        before = None
        if told.source_dataset_id is not None:
            before = await self._patience.wait_for(
                partial(
                    head,
                    self._store,
                    stream.tenant_id,
                    stream.project_id,
                    told.source_dataset_id,
                    version=told.source_version,
                )
            )
        dataset_id, version = await self._patience.wait_for(
            partial(
                keep_version,
                self._store,
                # The event of the dataset names it: not before it is really stored.
                self._spool.direct,
                stream,
                table,
                result_name=result.name,
                dataset_name=told.dataset_name or result.name,
                source=Source(
                    kind="execution",
                    execution_id=stream.stream_id,
                    notebook_id=stream.subject_id,
                    notebook_version=self._claim.execution.notebook_version,
                    from_dataset_id=None if before is None else before.dataset_id,
                    from_version=None if before is None else before.version,
                ),
                metadata=self._claim.metadata,
                at=clock.now(),
            )
        )
        attributes: dict[str, Any] = {
            "recordCount": table.rows,
            "columns": msgspec.to_builtins(table.columns),
            "newColumns": told.new_columns,
            "format": told.frame or told.format,
            "datasetId": str(dataset_id),
            "datasetVersion": version,
        }
        if before is not None:
            known = {column.name for column in before.columns}
            attributes["newColumns"] = [
                column.name for column in table.columns if column.name not in known
            ]
            attributes["sourceDatasetId"] = str(before.dataset_id)
            attributes["sourceVersion"] = before.version
        return attributes
