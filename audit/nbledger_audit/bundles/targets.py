"""Where a bundle is written: a folder or a ZIP that has its name only once all of it is there."""

import hashlib
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from nbledger_infrastructure.flushing import flush_path

SUMS: Final = "SHA256SUMS"
_ZIP_LEVEL: Final = 1
"""The fastest: half of what is packed are digests, which nothing makes smaller."""
_CHUNK: Final = 1 << 20


class TargetTakenError(Exception):
    """Something has the name already; nothing is overwritten."""


class Sink:
    """A file of a bundle that is being written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, content: bytes) -> None:
        """Write some more."""
        self._file.write(content)
        self._hash.update(content)
        self.size += len(content)

    @property
    def digest(self) -> str:
        """SHA-256 of what was written, in lower-case hexadecimal."""
        return self._hash.hexdigest()


class BundleTarget:
    """A bundle at ``path``, which becomes a ZIP where ``zipped``.

    It is written to a folder beside it, ``.<name>.<random>.part``, and takes its name in
    :meth:`finish`. Leaving the block without that removes what was written. A ZIP is packed from
    the folder, so it takes room for both.

    Raises :class:`TargetTakenError` and ``OSError``.
    """

    def __init__(self, path: Path, *, zipped: bool) -> None:
        if path.exists() or path.is_symlink():
            raise TargetTakenError(f"{path} is there already")
        self.path = path
        self._zipped = zipped
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        self._part.mkdir(mode=0o700)
        self._sums = (self._part / SUMS).open("w", encoding="utf-8")
        self._folders: set[Path] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sums.close()
        shutil.rmtree(self._part, ignore_errors=True)

    @contextmanager
    def file(self, name: str) -> Iterator[Sink]:
        """Write a file within the block; one whose block fails is not there."""
        path = self._part / name
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        try:
            with path.open("xb", buffering=_CHUNK) as file:
                sink = Sink(file)
                yield sink
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._sums.write(f"{sink.digest}  {name}\n")

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        with self.file(name) as sink:
            sink.write(content)

    def has(self, name: str) -> bool:
        """Whether a file is written already."""
        return (self._part / name).exists()

    def finish(self) -> None:
        """Give the bundle its name. Raises :class:`TargetTakenError` where another has got it."""
        self._sums.close()
        if self._zipped:
            packed = self._part.with_suffix(".zip")
            try:
                _pack(self._part, packed)
                _name(packed, self.path)
            finally:
                packed.unlink(missing_ok=True)
        else:
            # All of it is on the disk before it has its name, also if the machine goes down.
            os.sync()
            _name(self._part, self.path)
        flush_path(self.path.parent)


def _name(written: Path, path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise TargetTakenError(f"{path} is there by now")
    written.rename(path)


def _pack(folder: Path, packed: Path) -> None:
    with (
        (folder / SUMS).open(encoding="utf-8") as sums,
        os.fdopen(os.open(packed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file,
        zipfile.ZipFile(
            file, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=_ZIP_LEVEL
        ) as archive,
    ):
        archive.write(folder / SUMS, SUMS)
        for line in sums:
            name = line.rstrip("\n").partition("  ")[2]
            archive.write(folder / name, name)
    flush_path(packed)
