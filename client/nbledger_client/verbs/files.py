"""Input files: what lies beside a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nbledger_client.core import downloading
from nbledger_client.core.repeating import Retries
from nbledger_client.core.requests import (
    Call,
    Content,
    Form,
    Repeat,
    Version,
    conditions,
    file_path,
)
from nbledger_client.core.steps import Items, Steps
from nbledger_client.core.verbs import AwaitingGroup, BlockingGroup, Group, listing, procedure, verb
from nbledger_client.models.notebooks import FileDocument, FileList, FilesChanged
from nbledger_client.verbs.shared import Notebook, Source, fields, keyed, notebook_path, part

FILE_TYPE = "application/octet-stream"


class FileVerbs(Group):
    """Input files of notebooks."""

    @verb("addFiles")
    def add(
        self,
        notebook: Notebook,
        files: Mapping[str, Source],
        *,
        replace: bool = False,
        if_match: Version | None = None,
        idempotency_key: str | None = None,
    ) -> Call[FilesChanged]:
        """Add files by their paths below the notebook's folder: all, or none.

        >>> [each.path for each in client.files.add(notebook, {"notes/one.txt": b"1"}).files]
        ['notes/one.txt']
        """
        parts = [part(each, name=name, media_type=FILE_TYPE) for name, each in files.items()]
        return Call(
            "POST",
            notebook_path(notebook, "file"),
            FilesChanged,
            headers={**conditions(if_match), **keyed(idempotency_key)},
            body=Form(tuple(parts), fields(replace=replace or None)),
            repeat=Repeat.BY_KEY,
        )

    @verb("putFile")
    def put(
        self,
        notebook: Notebook,
        path: str,
        source: Source,
        *,
        if_match: Version | None = None,
        if_none_match: str | None = None,
    ) -> Call[FilesChanged]:
        """Put one file at a path; one that is there is replaced.

        >>> client.files.put(notebook, "notes/two.txt", b"2").files[0].size
        1
        """
        free = if_match is None and if_none_match is None
        return Call(
            "PUT",
            file_path(notebook_path(notebook), "file", path=path),
            FilesChanged,
            headers=conditions(if_match, if_none_match),
            body=Content(source if isinstance(source, bytes) else Path(source)),
            repeat=Repeat.FREELY if free else Repeat.NEVER,
        )

    @listing("listFiles")
    def list(
        self, notebook: Notebook, *, execution_id: str | None = None, page_size: int = 100
    ) -> Items[FileDocument]:
        """List the files of a notebook, or as an execution had them.

        >>> _ = client.files.put(notebook, "notes/three.txt", b"3")
        >>> "notes/three.txt" in [each.path for each in client.files.list(notebook)]
        True
        """
        query = {"executionId": execution_id, "pageSize": page_size}
        path = notebook_path(notebook, "files")
        return self._pages(path, FileList, lambda found: found.files, query, own_writes=False)

    @procedure("downloadInputFile")
    def content(
        self, notebook: Notebook, path: str, *, execution_id: str | None = None
    ) -> Steps[bytes]:
        """Read a file.

        >>> _ = client.files.put(notebook, "notes/four.txt", b"4")
        >>> client.files.content(notebook, "notes/four.txt")
        b'4'
        """
        return downloading.content(self._talk, _file(notebook, path, execution_id))

    @procedure("downloadInputFile")
    def download(
        self,
        notebook: Notebook,
        path: str,
        target: str | Path,
        *,
        execution_id: str | None = None,
    ) -> Steps[Path]:
        """Save a file.

        >>> _ = client.files.put(notebook, "notes/five.txt", b"5")
        >>> client.files.download(notebook, "notes/five.txt", "five.txt").read_text()
        '5'
        """
        call = _file(notebook, path, execution_id)
        return downloading.saved(self._talk, call, Path(target), Retries())

    @verb("removeFile")
    def remove(
        self, notebook: Notebook, path: str, *, if_match: Version | None = None
    ) -> Call[None]:
        """Take a file away.

        >>> _ = client.files.put(notebook, "notes/six.txt", b"6")
        >>> client.files.remove(notebook, "notes/six.txt")
        """
        return Call(
            "DELETE",
            file_path(notebook_path(notebook), "file", path=path),
            type(None),
            headers=conditions(if_match),
            repeat=Repeat.FREELY if if_match is None else Repeat.NEVER,
            forgiving=True,
        )


def _file(notebook: Notebook, path: str, execution_id: str | None) -> Call[bytes]:
    address = file_path(notebook_path(notebook), "file", path=path)
    return Call("GET", address, bytes, {"executionId": execution_id})


class Files(FileVerbs, BlockingGroup):
    """Input files of notebooks."""


class AsyncFiles(FileVerbs, AwaitingGroup):
    """Input files of notebooks, awaited."""
