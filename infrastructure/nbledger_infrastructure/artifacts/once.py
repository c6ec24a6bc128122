"""A place where files are written once: nothing there is ever replaced by us.

What keeps others from replacing or deleting is the place's own: a lock of the bucket's objects, or
a file system that lets nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote, urlsplit

from obstore.exceptions import AlreadyExistsError
from obstore.store import from_url

from nbledger_infrastructure.artifacts.errors import ArtifactStoreUnavailableError, explained
from nbledger_infrastructure.flushing import flush_file, flush_path
from nbledger_infrastructure.hanging import HangingCalls, HangingError

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

WRITE_SECONDS: Final = 20.0
"""Seconds to write one small file."""

_MOST_TORN: Final = 100

_RETRIES: Final = 2
_RETRY_SECONDS: Final = 3


class WriteOnce(Protocol):
    """Such a place."""

    async def put(self, name: str, content: bytes) -> None:
        """Write a file that nobody is to change, under a path that is new.

        To write the same again changes nothing. Raises :class:`ArtifactStoreUnavailableError`.
        """
        ...


def open_once(url: str) -> WriteOnce:
    """The place at ``file:///folder``, which must be there, or ``s3://bucket/prefix``."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return _Folder(Path(unquote(parts.path)))
    retries: RetryConfig = {
        "max_retries": _RETRIES,
        "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
    }
    # Buckets that lock their objects take none without a checksum.
    return _Bucket(from_url(url, retry_config=retries, checksum_algorithm="SHA256"))


class _Bucket:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, name: str, content: bytes) -> None:
        try:
            with explained(), contextlib.suppress(AlreadyExistsError):
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._store.put_async(name, content, mode="create")
        except FileNotFoundError as error:
            raise ArtifactStoreUnavailableError("there is no such bucket") from error


class _Folder:
    """Files are made under their own names: a folder may let add files and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Where one hangs, the next ones would.
        self._calls = HangingCalls(f"writing to {folder}", 1)

    async def put(self, name: str, content: bytes) -> None:
        try:
            with explained():
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._calls.call(self._put, name, content)
        except HangingError:
            raise ArtifactStoreUnavailableError("it does not answer") from None

    def _put(self, name: str, content: bytes) -> None:
        # A mount that is missing is not to be replaced by a folder of this machine.
        if not self._folder.is_dir():
            raise ArtifactStoreUnavailableError("the folder is not there")
        path = self._folder / name
        for folder in reversed(path.relative_to(self._folder).parents):
            with contextlib.suppress(FileExistsError):
                (self._folder / folder).mkdir()
        for torn in range(_MOST_TORN):
            # A file that a crash has left half written stays as it is, beside the whole one.
            target = path if not torn else path.with_name(f"{path.stem}-{torn}{path.suffix}")
            if _create(target, content) or target.read_bytes() == content:
                break
        else:
            raise ArtifactStoreUnavailableError("it has other files of this name")
        for folder in path.relative_to(self._folder).parents:
            flush_path(self._folder / folder)


def _create(path: Path, content: bytes) -> bool:
    """Make a file for good; returns False where there is one."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        # File systems that keep files for ever begin when nobody may write to them.
        os.fchmod(file.fileno(), 0o444)
        flush_file(file)
    return True
