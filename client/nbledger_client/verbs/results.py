"""What executions hand back: outputs, tables, models, reports, files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nbledger_client.core import downloading, frames
from nbledger_client.core.repeating import Retries
from nbledger_client.core.requests import Call
from nbledger_client.core.steps import Steps
from nbledger_client.core.verbs import AwaitingGroup, BlockingGroup, Group, procedure
from nbledger_client.models.results import DatasetResult, ExecutionResults, FurtherFile
from nbledger_client.verbs.shared import Execution, execution_path

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Downloadable(Protocol):
    """What has a link: an output, table, model, report or file, or another form of one."""

    download_url: str
    digest: str


class ResultVerbs(Group):
    """Results of executions."""

    @procedure("getExecutionResults")
    def get(
        self,
        execution: Execution,
        *,
        detailed: bool = False,
        output_type: str | None = None,
        cell_id: str | None = None,
        page_size: int = 1000,
    ) -> Steps[ExecutionResults]:
        r"""Read what an execution has produced so far, or in the end: all of it.

        With ``detailed`` outputs have their content, where it is text or JSON and not too large.

        >>> client.results.get(run, detailed=True).outputs[0].content
        '42\n'
        """
        query = {
            "format": "detailed" if detailed else "summary",
            "outputType": output_type,
            "cellId": cell_id,
            "pageSize": page_size,
        }
        path, page = execution_path(execution, "results"), 1
        found = yield from self._talk.ask(Call("GET", path, ExecutionResults, query))
        more = found.has_next_page
        while more:
            page += 1
            call = Call("GET", path, ExecutionResults, {**query, "page": page})
            further = yield from self._talk.ask(call)
            found.outputs += further.outputs
            more = further.has_next_page
        found.has_next_page = False
        return found

    @procedure("getExecutionResults")
    def archive(self, execution: Execution, path: str | Path) -> Steps[Path]:
        """Save everything as a ZIP archive, with a manifest.

        >>> client.results.archive(run, "results.zip").name
        'results.zip'
        """
        address = execution_path(execution, "results")
        call = Call("GET", address, bytes, {"format": "download"})
        return downloading.saved(self._talk, call, Path(path), Retries())

    @procedure("downloadFile")
    def content(self, result: Downloadable) -> Steps[bytes]:
        """Read one result.

        >>> client.results.content(client.results.get(run).enriched_datasets[0])[:10]
        b'case,score'
        """
        return downloading.content(self._talk, Call("GET", result.download_url, bytes))

    @procedure("downloadFile")
    def download(self, result: Downloadable, path: str | Path) -> Steps[Path]:
        """Save one result; its SHA-256 is checked.

        >>> table = client.results.get(run).enriched_datasets[0]
        >>> client.results.download(table, "scores.csv").read_text().splitlines()[0]
        'case,score'
        """
        call = Call("GET", result.download_url, bytes)
        return downloading.saved(self._talk, call, Path(path), Retries(), digest=result.digest)

    @procedure("downloadFile")
    def polars(self, result: DatasetResult) -> Steps[pl.DataFrame]:
        """Read a table as a frame of polars.

        >>> client.results.polars(client.results.get(run).enriched_datasets[0])["score"].sum()
        1.5
        """
        form, link = _form(result, parquet=True)
        content = yield from downloading.content(self._talk, Call("GET", link, bytes))
        if form != "parquet":
            raise ValueError(f"The table {result.name!r} has no Parquet file.")
        return frames.polars_of(content)

    @procedure("downloadFile")
    def pandas(self, result: DatasetResult) -> Steps[pd.DataFrame]:
        """Read a table as a frame of pandas.

        >>> table = client.results.get(run).enriched_datasets[0]
        >>> list(client.results.pandas(table))
        ['case', 'score']
        """
        form, link = _form(result, parquet=frames.pandas_reads_parquet())
        content = yield from downloading.content(self._talk, Call("GET", link, bytes))
        return frames.pandas_of(content, form, result.columns)


def _form(result: DatasetResult, *, parquet: bool) -> tuple[str, str]:
    """The wanted form of a table, or else the one that it has, and where it is."""
    forms: tuple[DatasetResult | FurtherFile, ...] = (*result.alternatives, result)
    links = {
        "parquet" if each.content_type == frames.PARQUET else "csv": each.download_url
        for each in forms
        if each.content_type.partition(";")[0] in (frames.PARQUET, frames.CSV)
    }
    wanted = "parquet" if parquet else "csv"
    form = wanted if wanted in links else next(iter(links))
    return form, links[form]


class Results(ResultVerbs, BlockingGroup):
    """Results of executions."""


class AsyncResults(ResultVerbs, AwaitingGroup):
    """Results of executions, awaited."""
