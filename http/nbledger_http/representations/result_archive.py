"""One archive of what an execution has produced."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from nbledger_domain.input_files import InputFile
from nbledger_http.replies import archives
from nbledger_http.replies.archives import Entry, worth_compressing
from nbledger_http.replies.file_names import output_file_name, safe_file_name, unique_names
from nbledger_http.representations.result_selection import Place, alternatives
from nbledger_infrastructure.artifacts.store import ArtifactMissingError, ArtifactStore, Scope
from nbledger_projections.read_models.executions.result_folding import Artifact
from nbledger_projections.read_models.executions.results import ResultsView

MANIFEST = "manifest.json"
NOTEBOOK_TYPE = "application/x-ipynb+json"
_FOLDERS = {"dataset": "datasets", "model": "models", "report": "reports", "file": "files"}


class ManifestFile(msgspec.Struct, rename="camel", kw_only=True, omit_defaults=True):
    """A file of the archive, and what it is."""

    path: str
    kind: str
    content_type: str
    size: int
    sha256: str
    missing: bool = False
    cell_id: str | None = None
    output: int | None = None
    name: str | None = None
    title: str | None = None
    role: str | None = None
    attributes: dict[str, Any] = {}


class ManifestInput(msgspec.Struct, rename="camel", frozen=True):
    """An input file that the run was given; the archive does not hold it."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, rename="camel", kw_only=True):
    """What an archive holds, and where it comes from."""

    format: str = "nbledger-results/1"
    tenant_id: UUID
    project_id: UUID
    notebook_id: UUID
    notebook_version: str
    execution_id: UUID
    status: str
    recorded_at: datetime
    metrics: dict[str, float]
    inputs: list[ManifestInput]
    files: list[ManifestFile]


def listed(
    view: ResultsView, outputs: Sequence[Place], artifacts: Sequence[Artifact]
) -> list[ManifestFile]:
    """The files of the results that were chosen, each with a name of its own."""
    suffix = view.execution_id.hex[-8:]
    files = [
        ManifestFile(
            path=f"outputs/{output_file_name(place.cell_id, place.number, suffix, form)}",
            kind="output",
            content_type=form.content_type,
            size=form.size,
            sha256=form.digest,
            cell_id=place.cell_id,
            output=place.number,
            title=place.output.title,
        )
        for place in outputs
        for form in place.output.representations
    ]
    for artifact in artifacts:
        main = (artifact.content, artifact.file_name, None)
        others = [(each.content, each.file_name, each.role) for each in alternatives(artifact)]
        files += [
            ManifestFile(
                path=_path(artifact, file_name),
                kind=artifact.kind,
                content_type=content.content_type,
                size=content.size,
                sha256=content.digest,
                name=artifact.name,
                role=role,
                # What further files are is told by the main one.
                attributes=artifact.attributes if role is None else {},
            )
            for content, file_name, role in (main, *others)
        ]
    wanted = [(_safe_path(file.path), file.path) for file in files]
    names = unique_names([(safe, safe == path) for safe, path in wanted], {MANIFEST})
    for file, name in zip(files, names, strict=True):
        file.path = name
    return files


def _path(artifact: Artifact, file_name: str) -> str:
    """Where a file would lie: as it did in the notebook's folder, if it was there."""
    path = artifact.attributes.get("path")
    if not isinstance(path, str):
        path = safe_file_name(file_name) if "/" in file_name else file_name
    return f"{_FOLDERS[artifact.kind]}/{path}"


def _safe_path(path: str) -> str:
    return "/".join(safe_file_name(part) for part in path.split("/"))


def stream(
    store: ArtifactStore,
    scope: Scope,
    view: ResultsView,
    files: list[ManifestFile],
    *,
    metrics: dict[str, float],
    inputs: Iterable[InputFile],
    notebook: Callable[[], Awaitable[bytes]],
    notebook_name: str,
) -> AsyncGenerator[bytes]:
    """The archive: the files, the executed notebook, and last the manifest of them all.

    The notebook is made when its turn comes, which for a large one takes a while. A file that is
    not kept any more is left out, and the manifest says so.
    """
    given = [ManifestInput(file.path, file.size, file.digest) for file in inputs]

    async def entries() -> AsyncIterator[Entry]:
        for file in files:
            try:
                pieces = await store.stream(scope, file.sha256)
            except ArtifactMissingError:
                file.missing = True
                continue
            yield Entry(file.path, pieces, worth_compressing(file.content_type))
        content = await notebook()
        told = ManifestFile(
            path=notebook_name,
            kind="notebook",
            content_type=NOTEBOOK_TYPE,
            size=len(content),
            sha256=await asyncio.to_thread(_sha256, content),
        )
        yield Entry(notebook_name, _once(content))
        yield Entry(MANIFEST, _once(_manifest(scope, view, metrics, given, [told, *files])))

    return archives.zip_stream(entries(), at=view.modified_at)


def _manifest(
    scope: Scope,
    view: ResultsView,
    metrics: dict[str, float],
    inputs: list[ManifestInput],
    files: list[ManifestFile],
) -> bytes:
    manifest = Manifest(
        tenant_id=scope.tenant_id,
        project_id=scope.project_id,
        notebook_id=view.notebook_id,
        notebook_version=view.notebook_version,
        execution_id=view.execution_id,
        status=view.status,
        recorded_at=view.modified_at,
        metrics=metrics,
        inputs=inputs,
        files=files,
    )
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def _once(content: bytes) -> AsyncGenerator[bytes]:
    yield content
