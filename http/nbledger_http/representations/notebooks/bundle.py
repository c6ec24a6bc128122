"""A notebook with its input files in one archive, as an upload takes it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from nbledger_application.caller import Caller
from nbledger_domain.input_files import InputFile
from nbledger_domain.notebook import Notebook
from nbledger_http.replies.archives import Entry, worth_compressing, zip_stream
from nbledger_http.replies.file_names import content_disposition
from nbledger_http.replies.responses import header_list
from nbledger_http.representations.streaming import LiveReply
from nbledger_infrastructure.artifacts.store import ArtifactStore, Stored

_FINDERS = 8


async def bundle_reply(
    artifacts: ArtifactStore, access: Caller, notebook: Notebook, file_name: str, content: bytes
) -> LiveReply:
    """The notebook file ``content`` and the input files of ``notebook``, as a ZIP archive.

    Raises :class:`ArtifactMissingError` where a file is not kept any more.
    """
    files = [notebook.files[path] for path in sorted(notebook.files)]
    found = await _found(artifacts, access, notebook, files)

    async def entries() -> AsyncIterator[Entry]:
        yield Entry(file_name, _once(content))
        for file, stored in zip(files, found, strict=True):
            pieces = artifacts.pieces(stored)
            compress, executable = worth_compressing(file.content_type), bool(file.executable)
            yield Entry(file.path, pieces, compress, executable)

    headers = {
        "Content-Type": "application/zip",
        "Content-Disposition": content_disposition(f"{file_name.removesuffix('.ipynb')}.zip"),
        "X-Content-Type-Options": "nosniff",
    }
    return LiveReply(200, header_list(headers), zip_stream(entries(), at=notebook.modified_on))


async def _found(
    artifacts: ArtifactStore, access: Caller, notebook: Notebook, files: list[InputFile]
) -> list[Stored]:
    """Where the files are: looked up before the answer begins, which could not tell of it."""
    scope = access.scope(notebook.id)
    slots = asyncio.Semaphore(_FINDERS)

    async def find(file: InputFile) -> Stored:
        async with slots:
            return await artifacts.find(scope, file.digest)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(find(file)) for file in files]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def _once(content: bytes) -> AsyncGenerator[bytes]:
    yield content
