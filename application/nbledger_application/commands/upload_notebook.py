"""Make a notebook of an uploaded file."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import msgspec

from nbledger_application.caller import Caller
from nbledger_application.commands.change_files import keep_files
from nbledger_application.commands.create_notebook import NewNotebook
from nbledger_application.commands.keeping import remove_kept, save_new
from nbledger_domain.cells import Cell, StoredOutputs
from nbledger_domain.notebook import Notebook, UploadedFile
from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope
from nbledger_infrastructure.clock import now
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.notebooks.bundles import SideFile
from nbledger_infrastructure.notebooks.files import ParsedNotebook
from nbledger_infrastructure.postgres.event_store import (
    AppendResult,
    EventStore,
    IdempotencyKey,
)

CONCURRENT_PUTS = 8


async def upload_notebook(
    store: EventStore,
    artifacts: ArtifactStore,
    caller: Caller,
    new: NewNotebook,
    *,
    file_name: str,
    content: bytes,
    parsed: ParsedNotebook,
    side_files: Sequence[SideFile] = (),
    key: IdempotencyKey | None = None,
) -> tuple[UUID, AppendResult]:
    """Keep the file, its outputs and what lies beside it, then record the notebook.

    Returns its id and place. What was kept is removed again when it is certain that nothing was
    recorded. Raises :class:`KeyUsedError` where an earlier request came with the same ``key``.
    """
    notebook_id = new_id()
    try:
        notebook = await _kept(
            artifacts,
            caller,
            notebook_id,
            new,
            file_name=file_name,
            content=content,
            parsed=parsed,
            side_files=side_files,
        )
    except BaseException:
        await remove_kept(artifacts, caller, notebook_id)
        raise
    appended = await save_new(store, artifacts, caller, notebook, key=key)
    return notebook_id, appended


async def _kept(
    artifacts: ArtifactStore,
    caller: Caller,
    notebook_id: UUID,
    new: NewNotebook,
    *,
    file_name: str,
    content: bytes,
    parsed: ParsedNotebook,
    side_files: Sequence[SideFile],
) -> Notebook:
    """The notebook, not recorded yet, with all that it names kept."""
    scope = caller.scope(notebook_id)
    digest = await artifacts.put(scope, content)
    return Notebook.create(
        notebook_id,
        name=new.name,
        description=new.description,
        kernel_type=new.kernel_type,
        integration=new.integration,
        environment=new.environment,
        cells=await _with_outputs(artifacts, scope, parsed.cells, parsed.outputs),
        metadata=parsed.metadata,
        uploaded=UploadedFile(
            file_name=file_name, digest=digest, size=len(content), nbformat=parsed.nbformat
        ),
        files=await keep_files(artifacts, scope, side_files),
        created_by=caller.actor,
        at=now(),
    )


async def _with_outputs(
    artifacts: ArtifactStore, scope: Scope, cells: Sequence[Cell], outputs: dict[str, bytes]
) -> list[Cell]:
    """The cells, each with where its outputs are now kept."""
    slots = asyncio.Semaphore(CONCURRENT_PUTS)

    async def kept(cell: Cell) -> Cell:
        content = outputs.get(cell.cell_id)
        if content is None:
            return cell
        async with slots:
            digest = await artifacts.put(scope, content)
        count = len(msgspec.json.decode(content, type=list[msgspec.Raw]))
        stored = StoredOutputs(digest, len(content), count)
        return msgspec.structs.replace(cell, outputs=stored)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(kept(cell)) for cell in cells]
    return [task.result() for task in tasks]
