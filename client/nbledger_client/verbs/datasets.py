"""Datasets: tables that notebooks work on, in versions that never change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from nbledger_client.core import downloading, frames
from nbledger_client.core.repeating import Retries
from nbledger_client.core.requests import Call, Form, Part, Repeat, Version, conditions
from nbledger_client.core.steps import Items, Steps, done
from nbledger_client.core.verbs import AwaitingGroup, BlockingGroup, Group, listing, procedure, verb
from nbledger_client.models.data import (
    ChangedDataset,
    DatasetDocument,
    DatasetItemDocument,
    DatasetList,
)
from nbledger_client.models.histories import ChangedEntry
from nbledger_client.verbs.shared import (
    Dataset,
    HistoryFields,
    Time,
    dataset_path,
    fields,
    history,
    keyed,
)

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Table = Any
"""A CSV or Parquet file by its path, CSV as bytes, or a frame of polars or pandas."""


class DatasetVerbs(Group):
    """Datasets of the project."""

    @procedure("createDataset")
    def upload(
        self, table: Table, name: str | None = None, *, idempotency_key: str | None = None
    ) -> Steps[ChangedDataset]:
        """Make a dataset of a table: the path of a CSV or Parquet file, CSV as bytes, or a frame.

        Parquet and frames are sent as CSV, of which the service takes the types of columns.

        >>> import polars
        >>> client.datasets.upload(polars.DataFrame({"case": ["a", "b"]}), "Cases").row_count
        2
        """
        file = yield from done(lambda: _part(table, name))
        call = Call(
            "POST",
            "dataset/csv",
            ChangedDataset,
            headers=keyed(idempotency_key),
            body=Form((file,), fields(datasetName=name)),
            repeat=Repeat.BY_KEY,
        )
        return (yield from self._talk.ask(call))

    @procedure("addDatasetVersion")
    def add_version(
        self, dataset: Dataset, table: Table, *, if_match: Version | None = None
    ) -> Steps[ChangedDataset]:
        r"""Add a version; with ``if_match`` only where nobody else was quicker.

        A request whose answer was lost is not sent again by itself: it might add a version more.

        >>> client.datasets.add_version(dataset, b"case,amount\na,1\n").version
        2
        """
        file = yield from done(lambda: _part(table, None))
        call = Call(
            "PUT",
            dataset_path(dataset, "csv"),
            ChangedDataset,
            headers=conditions(if_match),
            body=Form((file,)),
            repeat=Repeat.NEVER,
        )
        return (yield from self._talk.ask(call))

    @listing("listDatasets")
    def list(self, *, page_size: int = 100) -> Items[DatasetItemDocument]:
        """List the project's datasets, newest first.

        >>> "Orders" in [each.dataset_name for each in client.datasets.list()]
        True
        """
        query = {"pageSize": page_size}
        return self._pages("dataset", DatasetList, lambda found: found.datasets, query)

    @verb("getDataset")
    def get(self, dataset: Dataset, *, as_of: Time | int | None = None) -> Call[DatasetDocument]:
        """Read what is told of a dataset: columns, rows, versions.

        >>> [each.name for each in client.datasets.get(dataset).columns]
        ['case', 'amount']
        """
        return Call("GET", dataset_path(dataset), DatasetDocument, {"asOf": as_of})

    @procedure("downloadDataset")
    def content(
        self, dataset: Dataset, *, version: int | None = None, format: str = "csv"
    ) -> Steps[bytes]:
        """Read the rows, as CSV or Parquet.

        >>> client.datasets.content(dataset, version=1).decode().splitlines()[0]
        'case,amount'
        """
        return downloading.content(self._talk, _rows(dataset, version, format))

    @procedure("downloadDataset")
    def download(
        self,
        dataset: Dataset,
        path: str | Path,
        *,
        version: int | None = None,
        format: str = "csv",
    ) -> Steps[Path]:
        """Save the rows, as CSV or Parquet.

        >>> client.datasets.download(dataset, "orders.parquet", format="parquet").name
        'orders.parquet'
        """
        call = _rows(dataset, version, format)
        return downloading.saved(self._talk, call, Path(path), Retries())

    @procedure("downloadDataset")
    def polars(self, dataset: Dataset, *, version: int | None = None) -> Steps[pl.DataFrame]:
        """Read the rows as a frame of polars.

        >>> client.datasets.polars(dataset, version=1).columns
        ['case', 'amount']
        """
        call = _rows(dataset, version, "parquet")
        content = yield from downloading.content(self._talk, call)
        return frames.polars_of(content)

    @procedure("getDataset", "downloadDataset")
    def pandas(self, dataset: Dataset, *, version: int | None = None) -> Steps[pd.DataFrame]:
        """Read the rows as a frame of pandas; without pyarrow or fastparquet they come as CSV.

        >>> list(client.datasets.pandas(dataset, version=1))
        ['case', 'amount']
        """
        if frames.pandas_reads_parquet():
            call = _rows(dataset, version, "parquet")
            content = yield from downloading.content(self._talk, call)
            return frames.pandas_of(content, "parquet", [])
        told = yield from self._talk.ask(Call("GET", dataset_path(dataset), DatasetDocument))
        call = _rows(dataset, version, "csv")
        content = yield from downloading.content(self._talk, call)
        return frames.pandas_of(content, "csv", _columns_of(told, version))

    @verb("deleteDataset")
    def delete(self, dataset: Dataset, *, if_match: Version | None = None) -> Call[None]:
        r"""Erase a dataset with all its versions.

        >>> client.datasets.delete(client.datasets.upload(b"a\n1\n", "Not for long"))
        """
        return Call(
            "DELETE",
            dataset_path(dataset),
            type(None),
            headers=conditions(if_match),
            repeat=Repeat.FREELY if if_match is None else Repeat.NEVER,
            forgiving=True,
        )

    @listing("getDatasetHistory")
    def history(self, dataset: Dataset, **asked: Unpack[HistoryFields]) -> Items[ChangedEntry]:
        """Read the dataset's events.

        >>> next(client.datasets.history(dataset)).type
        'dataset.created.v1'
        """
        return history(self._talk, dataset_path(dataset, "history"), asked)


def _rows(dataset: Dataset, version: int | None, form: str) -> Call[bytes]:
    query = {"format": form, "version": version}
    return Call("GET", dataset_path(dataset, "download"), bytes, query)


def _columns_of(told: DatasetDocument, version: int | None) -> Any:
    """The columns of a version: told where they differ from those of the one after it."""
    columns: Any = told.columns
    for each in told.versions:
        columns = each.columns or columns
        if each.version == version:
            break
    return columns if version is not None else told.columns


def _part(table: Table, name: str | None) -> Part:
    if isinstance(table, bytes):
        return Part(f"{name or 'table'}.csv", table, frames.CSV)
    if isinstance(table, str | Path):
        path = Path(table)
        if path.suffix.lower() != ".parquet":
            return Part(path.name, path, frames.CSV)
        return Part(f"{path.stem}.csv", frames.csv_of(path), frames.CSV)
    return Part(f"{name or 'table'}.csv", frames.csv_of(table), frames.CSV)


class Datasets(DatasetVerbs, BlockingGroup):
    """Datasets of the project."""


class AsyncDatasets(DatasetVerbs, AwaitingGroup):
    """Datasets of the project, awaited."""
