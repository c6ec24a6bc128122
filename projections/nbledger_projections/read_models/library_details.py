"""The uploaded library as the API shows it: one row each, folded from its events."""

from uuid import UUID

import msgspec

from nbledger_domain.library import Library
from nbledger_infrastructure.postgres.event_store import RecordedEvent
from nbledger_projections.machinery.documents import Documents
from nbledger_projections.read_models.humanize import timestamp

NAME = "library_details"


class LibraryItemDocument(msgspec.Struct, rename="camel"):
    """A library in a list."""

    library_id: UUID
    name: str
    version: str
    file_name: str
    size: int
    uploaded_at: str


class LibraryDocument(msgspec.Struct, rename="camel"):
    """The body that ``GET …/library/{libraryId}`` answers with.

    ``name`` is normalised; ``size`` in bytes and ``digest`` (SHA-256) are of the wheel;
    ``requiresPython`` and ``dependencies`` are what it says of itself.
    """

    library_id: UUID
    project_id: UUID
    name: str
    version: str
    file_name: str
    size: int
    digest: str
    requires_python: str | None
    dependencies: list[str]
    uploaded_at: str
    uploaded_by: str


def _uploaded(recorded: RecordedEvent, event: Library.Uploaded) -> LibraryDocument:
    return LibraryDocument(
        library_id=recorded.stream_id,
        project_id=recorded.project_id,
        name=event.name,
        version=event.library_version,
        file_name=event.file_name,
        size=event.content.size,
        digest=event.content.digest,
        requires_python=event.requires_python,
        dependencies=event.dependencies,
        uploaded_at=timestamp(recorded.occurred_at),
        uploaded_by=recorded.metadata.actor,
    )


def _item(document: LibraryDocument) -> LibraryItemDocument:
    return LibraryItemDocument(
        library_id=document.library_id,
        name=document.name,
        version=document.version,
        file_name=document.file_name,
        size=document.size,
        uploaded_at=document.uploaded_at,
    )


MODEL = Documents(
    NAME,
    LibraryDocument,
    key="library_id",
    created=Library.Uploaded,
    create=_uploaded,
    deleted=Library.Deleted,
    item=_item,
)
get = MODEL.get
page = MODEL.page
