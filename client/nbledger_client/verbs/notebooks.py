"""Notebooks: made, uploaded, read, changed, compared, deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Unpack

from nbledger_client.core import downloading
from nbledger_client.core.conversation import read_as
from nbledger_client.core.repeating import Retries
from nbledger_client.core.requests import (
    Call,
    Form,
    Part,
    Repeat,
    Version,
    conditions,
    json_body,
)
from nbledger_client.core.steps import Items, Steps
from nbledger_client.core.verbs import AwaitingGroup, BlockingGroup, Group, listing, procedure, verb
from nbledger_client.models.comparisons import NotebookComparison
from nbledger_client.models.histories import ChangedEntry
from nbledger_client.models.notebook_bodies import (
    CreateNotebook,
    CreateNotebookFields,
    UpdateNotebook,
    UpdateNotebookFields,
)
from nbledger_client.models.notebooks import (
    ChangedNotebook,
    DeletionUnderWay,
    NewNotebook,
    NotebookItemDocument,
    NotebookListDocument,
    ParametersDocument,
    ShownNotebook,
)
from nbledger_client.verbs.shared import (
    HistoryFields,
    Notebook,
    Source,
    Time,
    fields,
    history,
    keyed,
    notebook_path,
    part,
)

NOTEBOOK_TYPE = "application/x-ipynb+json"
FILE_TYPE = "application/octet-stream"

Files = Mapping[str, Source] | Iterable[str | Path]
"""Files beside a notebook: their paths, or a mapping by what these are below its folder."""


class NotebookVerbs(Group):
    """Notebooks of the project."""

    @verb("createNotebook")
    def create(
        self, *, idempotency_key: str | None = None, **asked: Unpack[CreateNotebookFields]
    ) -> Call[NewNotebook]:
        """Make a notebook, of cells or of a template.

        >>> made = client.notebooks.create(
        ...     notebook_name="Sums",
        ...     initial_cells=[{"cellType": "code", "content": "print(6 * 7)"}],
        ... )
        >>> made.notebook_version
        '1.0.0'
        """
        return Call(
            "POST",
            "notebook",
            NewNotebook,
            headers=keyed(idempotency_key),
            body=json_body(CreateNotebook(**asked)),
            repeat=Repeat.BY_KEY,
        )

    @procedure("uploadNotebook")
    def upload(
        self,
        source: Source,
        *,
        files: Files = (),
        name: str | None = None,
        file_name: str | None = None,
        description: str | None = None,
        kernel_type: str | None = None,
        dataset_binding: str | None = None,
        enrichment_mode: bool | None = None,
        output_format: str | None = None,
        auto_execution: bool | Mapping[str, Any] | None = None,
        schedule_execution: str | Mapping[str, Any] | None = None,
        max_concurrent_runs: int | None = None,
        idempotency_key: str | None = None,
    ) -> Steps[NewNotebook]:
        """Upload a notebook file, or a ZIP archive of one, with the files beside it.

        ``source`` is a path, or the content together with ``file_name``. ``files`` are paths below
        the notebook's folder; folders are taken with all that is in them. Or they are a mapping,
        by what their paths are to be below that folder.

        >>> client.notebooks.upload("analysis.ipynb", files=["data"], name="Analysis").files[0].path
        'data/input.csv'
        """
        notebook = part(source, name=file_name, media_type=NOTEBOOK_TYPE)
        form = Form(
            (notebook, *_beside(source, files)),
            fields(
                notebookName=name,
                notebookDescription=description,
                kernelType=kernel_type,
                datasetBinding=dataset_binding,
                enrichmentMode=enrichment_mode,
                outputFormat=output_format,
                autoExecution=auto_execution,
                scheduleExecution=schedule_execution,
                maxConcurrentRuns=max_concurrent_runs,
            ),
        )
        call = Call(
            "POST",
            "notebook/upload",
            NewNotebook,
            headers=keyed(idempotency_key),
            body=form,
            repeat=Repeat.BY_KEY,
        )
        return (yield from self._talk.ask(call))

    @verb("getNotebook")
    def get(self, notebook: Notebook, *, as_of: Time | int | None = None) -> Call[ShownNotebook]:
        """Read a notebook, as it is or as it was at a time, a position or a version.

        >>> client.notebooks.get(notebook).notebook_name
        'Loans'
        >>> client.notebooks.get(notebook, as_of="1.0.0").notebook_version
        '1.0.0'
        """
        return Call("GET", notebook_path(notebook), ShownNotebook, {"asOf": as_of})

    @listing("listNotebooks")
    def list(
        self,
        *,
        status: str | None = None,
        kernel_type: str | None = None,
        enrichment_mode: bool | None = None,
        page_size: int = 100,
    ) -> Items[NotebookItemDocument]:
        """List the project's notebooks, with what this client has written.

        >>> "Loans" in [each.notebook_name for each in client.notebooks.list()]
        True
        """
        query = {
            "status": status,
            "kernelType": kernel_type,
            "enrichmentMode": enrichment_mode,
            "pageSize": page_size,
        }
        return self._pages("notebooks", NotebookListDocument, lambda found: found.notebooks, query)

    @verb("updateNotebook")
    def update(
        self,
        notebook: Notebook,
        *,
        if_match: Version | None = None,
        **asked: Unpack[UpdateNotebookFields],
    ) -> Call[ChangedNotebook]:
        """Change what is named of a notebook; with ``if_match`` only the version that was read.

        >>> read = client.notebooks.get(notebook)
        >>> client.notebooks.update(notebook, if_match=read, notebook_name="Loans").warnings
        []
        """
        return Call(
            "PUT",
            notebook_path(notebook),
            ChangedNotebook,
            headers=conditions(if_match),
            body=json_body(UpdateNotebook(**asked)),
            repeat=Repeat.FREELY if if_match is None else Repeat.NEVER,
        )

    @procedure("deleteNotebook")
    def delete(
        self, notebook: Notebook, *, force: bool = False, if_match: Version | None = None
    ) -> Steps[DeletionUnderWay | None]:
        """Delete a notebook; None when it is done, else what is under way.

        With ``force`` its runs are cancelled first.

        >>> made = client.notebooks.create(notebook_name="Not for long")
        >>> client.notebooks.delete(made)
        """
        call = Call(
            "DELETE",
            notebook_path(notebook),
            bytes,
            {"force": force or None},
            headers=conditions(if_match),
            repeat=Repeat.FREELY if if_match is None else Repeat.NEVER,
            forgiving=True,
        )
        content = yield from self._talk.ask(call)
        return read_as(DeletionUnderWay, content) if content else None

    @verb("getNotebookParameters")
    def parameters(self, notebook: Notebook) -> Call[ParametersDocument]:
        """Read which parameters the notebook declares.

        >>> client.notebooks.parameters(notebook).parameters[0].name
        'limit'
        """
        return Call("GET", notebook_path(notebook, "parameters"), ParametersDocument)

    @verb("compareNotebookVersions")
    def diff(
        self, notebook: Notebook, from_: Time | int, to: Time | int | None = None
    ) -> Call[NotebookComparison]:
        """Compare a notebook as of two times, positions or versions; without ``to`` with now.

        >>> client.notebooks.diff(notebook, "1.0.0", "1.0.0").counts.changed
        0
        """
        query = {"from": from_, "to": to}
        return Call("GET", notebook_path(notebook, "diff"), NotebookComparison, query)

    @verb("compareNotebookVersions")
    def diff_page(
        self, notebook: Notebook, from_: Time | int, to: Time | int | None = None
    ) -> Call[str]:
        """Compare likewise, as a page of HTML.

        >>> client.notebooks.diff_page(notebook, "1.0.0").startswith("<!doctype html>")
        True
        """
        query = {"from": from_, "to": to, "format": "html"}
        return Call("GET", notebook_path(notebook, "diff"), str, query)

    @listing("getNotebookHistory")
    def history(
        self,
        notebook: Notebook,
        *,
        executions: bool = False,
        **asked: Unpack[HistoryFields],
    ) -> Items[ChangedEntry]:
        """Read the notebook's events, with what each has changed; its runs' too where wanted.

        >>> next(client.notebooks.history(notebook)).type
        'notebook.created.v1'
        """
        path = notebook_path(notebook, "history")
        return history(self._talk, path, asked, executions=executions or None)

    @procedure("downloadNotebook")
    def content(
        self, notebook: Notebook, *, execution_id: str | None = None, format: str = "ipynb"
    ) -> Steps[bytes]:
        """Read the notebook file; of an execution with the outputs of that.

        With the format `zip` it is an archive of the file and its input files.

        >>> client.notebooks.content(notebook)[:1]
        b'{'
        """
        return downloading.content(self._talk, _file_of(notebook, execution_id, format))

    @procedure("downloadNotebook")
    def download(
        self,
        notebook: Notebook,
        path: str | Path,
        *,
        execution_id: str | None = None,
        format: str = "ipynb",
    ) -> Steps[Path]:
        """Save the notebook file; of an execution with the outputs of that.

        >>> client.notebooks.download(run, "executed.ipynb", execution_id=run.execution_id).name
        'executed.ipynb'
        """
        call = _file_of(notebook, execution_id, format)
        return downloading.saved(self._talk, call, Path(path), Retries())


def _file_of(notebook: Notebook, execution_id: str | None, form: str) -> Call[bytes]:
    query = {"format": form, "executionId": execution_id}
    return Call("GET", notebook_path(notebook, "download"), bytes, query)


def _beside(source: Source, files: Files) -> list[Part]:
    if isinstance(files, Mapping):
        return [part(each, name=str(name), media_type=FILE_TYPE) for name, each in files.items()]
    given = [Path(each) for each in files]
    if not given:
        return []
    if isinstance(source, bytes):
        raise TypeError("Files beside a notebook that is given by its content need paths in it.")
    folder = Path(source).absolute().parent
    found = [file for each in given for file in _within(each)]
    return [Part(file.absolute().relative_to(folder).as_posix(), file, FILE_TYPE) for file in found]


def _within(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.rglob("*") if each.is_file())


class Notebooks(NotebookVerbs, BlockingGroup):
    """Notebooks of the project."""


class AsyncNotebooks(NotebookVerbs, AwaitingGroup):
    """Notebooks of the project, awaited."""
