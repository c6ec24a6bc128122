"""Libraries: wheels of the project's own, which its notebooks import."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Unpack

from nbledger_client.core import downloading
from nbledger_client.core.repeating import Retries
from nbledger_client.core.requests import (
    Call,
    Form,
    Id,
    Repeat,
    Version,
    conditions,
    path_of,
)
from nbledger_client.core.steps import Items, Steps
from nbledger_client.core.verbs import AwaitingGroup, BlockingGroup, Group, listing, procedure, verb
from nbledger_client.models.data import LibraryDocument, LibraryItemDocument, LibraryList
from nbledger_client.models.histories import ChangedEntry
from nbledger_client.verbs.shared import HistoryFields, Source, history, keyed, part


class HasLibraryId(Protocol):
    """What tells of a library."""

    library_id: str


Library = Id | HasLibraryId
"""A library: its id, or what was read of it."""


class LibraryVerbs(Group):
    """Libraries of the project."""

    @verb("uploadLibrary")
    def upload(
        self,
        wheel: Source,
        *,
        file_name: str | None = None,
        idempotency_key: str | None = None,
    ) -> Call[LibraryDocument]:
        """Upload a wheel; its content together with ``file_name``, or its path.

        >>> client.libraries.upload("our_rules-1.0-py3-none-any.whl").version
        '1.0'
        """
        return Call(
            "POST",
            "library",
            LibraryDocument,
            headers=keyed(idempotency_key),
            body=Form((part(wheel, name=file_name, media_type="application/zip"),)),
            repeat=Repeat.BY_KEY,
        )

    @listing("listLibraries")
    def list(self, *, page_size: int = 100) -> Items[LibraryItemDocument]:
        """List the project's libraries, newest first.

        >>> "our-rules" in [each.name for each in client.libraries.list()]
        True
        """
        query = {"pageSize": page_size}
        return self._pages("library", LibraryList, lambda found: found.libraries, query)

    @verb("getLibrary")
    def get(self, library: Library) -> Call[LibraryDocument]:
        """Read what is told of a library.

        >>> client.libraries.get(library).file_name
        'our_rules-1.0-py3-none-any.whl'
        """
        return Call("GET", _path(library), LibraryDocument)

    @procedure("downloadLibrary")
    def download(self, library: Library, path: str | Path) -> Steps[Path]:
        """Save the wheel.

        >>> client.libraries.download(library, "again.whl").stat().st_size == library.size
        True
        """
        call = Call("GET", f"{_path(library)}/download", bytes)
        return downloading.saved(self._talk, call, Path(path), Retries())

    @verb("deleteLibrary")
    def delete(self, library: Library, *, if_match: Version | None = None) -> Call[None]:
        """Erase a library.

        >>> client.libraries.delete(spare)
        """
        return Call(
            "DELETE",
            _path(library),
            type(None),
            headers=conditions(if_match),
            repeat=Repeat.FREELY if if_match is None else Repeat.NEVER,
            forgiving=True,
        )

    @listing("getLibraryHistory")
    def history(self, library: Library, **asked: Unpack[HistoryFields]) -> Items[ChangedEntry]:
        """Read the library's events.

        >>> next(client.libraries.history(library)).type
        'library.uploaded.v1'
        """
        return history(self._talk, f"{_path(library)}/history", asked)


def _path(library: Library) -> str:
    return path_of("library", getattr(library, "library_id", library))


class Libraries(LibraryVerbs, BlockingGroup):
    """Libraries of the project."""


class AsyncLibraries(LibraryVerbs, AwaitingGroup):
    """Libraries of the project, awaited."""
