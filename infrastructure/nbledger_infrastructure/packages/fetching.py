"""Wheels that are kept elsewhere, as files for as long as they are installed."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from nbledger_infrastructure.artifacts.store import file_digest
from nbledger_infrastructure.packages.wanted import EnvironmentFailedError, KeptWheel


@asynccontextmanager
async def fetched(wheels: Sequence[KeptWheel], parent: Path) -> AsyncIterator[list[Path]]:
    """The wheels as files below ``parent``, for the block.

    Raises :class:`EnvironmentFailedError`.
    """
    if not wheels:
        yield []
        return
    folder = tempfile.TemporaryDirectory(dir=parent)
    try:
        paths: list[Path] = []
        for number, wheel in enumerate(wheels):
            # Of one name there may be two, from different places.
            path = Path(folder.name, str(number), wheel.file_name)
            path.parent.mkdir()
            await wheel.fetch(path)
            if await asyncio.to_thread(file_digest, path) != wheel.digest:
                raise EnvironmentFailedError(
                    f"The library {wheel.file_name} is damaged: it is not what was uploaded."
                )
            paths.append(path)
        yield paths
    finally:
        await asyncio.shield(asyncio.to_thread(folder.cleanup))
