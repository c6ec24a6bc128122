"""Input files of a run: copied into its folder before the first cell."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nbledger_domain.input_files import InputFile
from nbledger_infrastructure.artifacts.store import (
    ArtifactMissingError,
    ArtifactStore,
    Scope,
    file_digest,
)

_AT_ONCE: Final = 4


class InputFileError(OSError):
    """An input file cannot be given to the run; the message names it and says why."""


async def place(
    artifacts: ArtifactStore, scope: Scope, files: Sequence[InputFile], folder: Path
) -> None:
    """Copy the files to their paths below ``folder``, for the kernel's user to read and change.

    Copies, never links: a run must not reach what is kept. Each is checked against its digest.
    Nothing of the notebook may have run yet; a call that failed may be repeated. Raises
    :class:`InputFileError`, and other ``OSError`` when a file cannot be written.
    """
    folders = await asyncio.to_thread(_make_folders, files, folder)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def copy(file: InputFile) -> None:
        async with slots:
            await _copy(artifacts, scope, file, folder / file.path)

    try:
        async with asyncio.TaskGroup() as group:
            for file in files:
                group.create_task(copy(file))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    await asyncio.to_thread(_hand_over, folder, [*folders, *(folder / each.path for each in files)])


async def _copy(artifacts: ArtifactStore, scope: Scope, file: InputFile, target: Path) -> None:
    # An earlier try, which failed at another file, may have put it there.
    await asyncio.to_thread(target.unlink, missing_ok=True)
    try:
        await artifacts.get_file(scope, file.digest, target)
    except ArtifactMissingError:
        raise InputFileError(f"the input file {file.path!r} is not kept any more") from None
    if await asyncio.to_thread(file_digest, target) != file.digest:
        raise InputFileError(f"the input file {file.path!r} is damaged")
    if file.executable:
        await asyncio.to_thread(_make_executable, target)


def _make_executable(path: Path) -> None:
    """Whoever may read it may run it."""
    mode = path.stat().st_mode
    path.chmod(mode | (mode & 0o444) >> 2)


def _make_folders(files: Sequence[InputFile], folder: Path) -> list[Path]:
    below = {parent for file in files for parent in Path(file.path).parents} - {Path()}
    made = [folder / each for each in sorted(below)]
    for each in made:
        each.mkdir(exist_ok=True)
    return made


def _hand_over(folder: Path, paths: Sequence[Path]) -> None:
    """Give the paths to the owner of the folder, who is the kernel's user.

    Where the folder is not handed over yet, a kernel that starts takes it with all that is in it.
    """
    owner = folder.stat()
    if owner.st_uid == os.geteuid():
        return
    for path in paths:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
