"""A notebook together with the files beside it: which is which, and reading them from a ZIP."""

import errno
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final, NamedTuple
from unicodedata import normalize

import msgspec

from nbledger_domain.errors import (
    Fault,
    FilesTooLargeError,
    InvalidArchiveError,
    InvalidFilesError,
)
from nbledger_domain.input_files import (
    NOTEBOOK_SUFFIX,
    FileLimits,
    InvalidPathError,
    checked_path,
    collision,
    relative_path,
    shown,
)
from nbledger_domain.vocabulary.windows_names import windows_warnings
from nbledger_domain.words import counted, listed

MAX_ENTRIES: Final = 20_000
"""Of an archive, with its folders and what is left out."""

MAX_DIRECTORY_BYTES: Final = 4 * 1024 * 1024
"""Of the archive's list of entries, which is read as a whole."""

MAX_FAULTS: Final = 100

_LEFT_OUT: Final = frozenset(
    {
        "__macosx",
        ".ds_store",
        "icon\r",
        "thumbs.db",
        "desktop.ini",
        ".ipynb_checkpoints",
        "__pycache__",
        ".git",
        ".venv",
    }
)
"""What systems and tools put into folders by themselves."""

_PACKED: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNREADABLE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
_PIECE_BYTES: Final = 1 << 20
_UTF_8: Final = 0x800
_ENCRYPTED: Final = 0x1 | 0x40


class SideFile(NamedTuple):
    """An input file that has come: its path below the notebook's folder, where it is now."""

    path: str
    location: Path
    size: int
    executable: bool = False


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A notebook file and what lies beside it."""

    file_name: str
    notebook: Path
    files: list[SideFile]
    warnings: list[str]


class ArchiveLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of what an archive may hold, in bytes when it is unpacked."""

    notebook_bytes: int
    file_bytes: int
    files: FileLimits


class Arrangement(msgspec.Struct, frozen=True):
    """Which of many names is the notebook, and the paths of the others below its folder.

    Both go by place in the list of names.
    """

    notebook: int
    files: dict[int, str]
    warnings: list[str]


def arrange(
    names: Sequence[str], *, error: type[InvalidFilesError] = InvalidFilesError
) -> Arrangement:
    """Tell the notebook from the files beside it, by their paths.

    The folder that the notebook lies in is cut off, whatever its name. What tools put into folders
    is left out, and so is what earlier runs left in ``outputs/``, each with a warning. Raises
    ``error`` with every fault.
    """
    warnings: list[str] = []
    faults: list[str] = []
    paths: dict[int, str] = {}
    left_out = [name for name in names if _is_left_out(name)]
    wrapping = _wrapping(name for name in names if not _is_left_out(name))
    for place, name in enumerate(names):
        if _is_left_out(name):
            continue
        try:
            paths[place] = relative_path(name, wrapping=wrapping)
        except InvalidPathError as invalid:
            faults.append(str(invalid))
    if left_out:
        warnings.append(
            f"{counted(len(left_out), 'file')} of systems and tools left out: {_listed(left_out)}"
        )
    notebooks = [place for place, path in paths.items() if _is_notebook(path)]
    if len(notebooks) != 1 and not faults:
        faults.append(_not_one([paths[place] for place in notebooks]))
    if faults:
        raise _refusal(error, faults)
    notebook = notebooks[0]
    found = _beside(paths, notebook, warnings, error)
    reason = collision(found.values())
    if reason is not None:
        raise _refusal(error, [reason])
    warnings += windows_warnings(found.values())
    return Arrangement(notebook, found, warnings)


def read_archive(path: Path, folder: Path, limits: ArchiveLimits) -> Bundle:
    """The notebook and the files in the ZIP archive at ``path``, unpacked into ``folder``.

    They get names of no meaning there. Every byte is counted and checked against its checksum.
    Raises :class:`InvalidArchiveError` and :class:`FilesTooLargeError`; and ``OSError`` when they
    cannot be written.
    """
    try:
        with _DirectoryBound(path) as file, zipfile.ZipFile(file) as archive:
            return _unpacked(archive, folder, limits)
    except _UNREADABLE as error:
        reason = f"It is no ZIP archive that can be read: {error}"
        raise _refusal(InvalidArchiveError, [reason]) from None
    except OSError as error:
        # A place outside of the file; anything else is the disk's fault.
        if error.errno != errno.EINVAL:
            raise
        reason = "It is no ZIP archive that can be read"
        raise _refusal(InvalidArchiveError, [reason]) from None


class _DirectoryBound(FileIO):
    """A file of which no more is read at once than the list of entries may have."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._length = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Raises ``BadZipFile`` where more is asked for."""
        left = max(self._length - self.tell(), 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile("it has too many entries")
        found = super().read(wanted)
        return b"" if found is None else found


def _unpacked(archive: zipfile.ZipFile, folder: Path, limits: ArchiveLimits) -> Bundle:
    if len(archive.infolist()) > MAX_ENTRIES:
        raise _refusal(InvalidArchiveError, [f"It has more than {MAX_ENTRIES:,} entries"])
    infos = [info for info in archive.infolist() if not _is_folder(info)]
    folders = [info for info in archive.infolist() if _is_folder(info)]
    _check_folders(folders)
    names = [_name(info) for info in infos]
    arranged = arrange(names, error=InvalidArchiveError)
    arranged.warnings.extend(_about_empty(map(_name, folders), names))
    wanted = {arranged.notebook: names[arranged.notebook], **arranged.files}
    faults = [
        f"{shown(names[place])} {reason}"
        for place in wanted
        if (reason := _entry_fault(infos[place])) is not None
    ]
    if faults:
        raise _refusal(InvalidArchiveError, faults)
    _check_sizes({path: infos[place].file_size for place, path in arranged.files.items()}, limits)
    taken: dict[int, SideFile] = {}
    left = limits.files.total_bytes
    for place, path in wanted.items():
        is_notebook = place == arranged.notebook
        bound = limits.notebook_bytes if is_notebook else min(limits.file_bytes, left)
        target = folder / f"entry-{place}"
        size = _extract(archive, infos[place], target, bound)
        left -= 0 if is_notebook else size
        taken[place] = SideFile(path, target, size, _is_executable(infos[place]))
    notebook = taken.pop(arranged.notebook)
    return Bundle(
        file_name=notebook.path.rpartition("/")[2],
        notebook=notebook.location,
        files=list(taken.values()),
        warnings=arranged.warnings,
    )


def _check_sizes(sizes: dict[str, int], limits: ArchiveLimits) -> None:
    """Refuse by what the archive says of itself what would be refused while it is unpacked."""
    if len(sizes) > limits.files.count:
        raise FilesTooLargeError(
            f"The archive has {len(sizes)} files beside its notebook; "
            f"{limits.files.count} are the most."
        )
    for path, size in sizes.items():
        if size > limits.file_bytes:
            raise _too_large(path, limits.file_bytes)
    if sum(sizes.values()) > limits.files.total_bytes:
        raise FilesTooLargeError(
            f"The files in the archive have {sum(sizes.values()):,} bytes when they are unpacked; "
            f"{limits.files.total_bytes:,} are the most."
        )


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, bound: int) -> int:
    size = 0
    with archive.open(info) as source, target.open("xb") as file:
        while piece := source.read(_PIECE_BYTES):
            size += len(piece)
            if size > bound:
                raise _too_large(_name(info), bound)
            file.write(piece)
    return size


def _entry_fault(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG):
        return "is no regular file"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in _PACKED:
        return "is packed in an unusual way; stored and deflated files can be read"
    return None


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.orig_filename.endswith("/")


def _check_folders(infos: Iterable[zipfile.ZipInfo]) -> None:
    """Refuse what has the name of a folder and the content of a file: it would be lost."""
    faults = [
        f"{shown(name)} has the name of a folder, and content as a file has"
        for info in infos
        # An empty entry that is deflated takes some bytes.
        if (info.file_size or (info.compress_type == zipfile.ZIP_STORED and info.compress_size))
        and not _is_left_out(name := _name(info))
    ]
    if faults:
        raise _refusal(InvalidArchiveError, faults)


def _is_executable(info: zipfile.ZipInfo) -> bool:
    """Whether its owner may run it as a program, where the archive tells the modes of files."""
    return bool(info.external_attr >> 16 & stat.S_IXUSR)


def _about_empty(folders: Iterable[str], names: Iterable[str]) -> list[str]:
    """The warning of folders without anything in them: a notebook has files only."""
    every = sorted({*folders, *names, ""})
    empty = [
        name
        for name, following in zip(every, [*every[1:], ""], strict=True)
        if name.endswith("/") and not following.startswith(name) and not _is_left_out(name)
    ]
    if not empty:
        return []
    told = "1 empty folder" if len(empty) == 1 else f"{len(empty):,} empty folders"
    return [f"{told} left out: {_listed(empty)}"]


def _name(info: zipfile.ZipInfo) -> str:
    """The whole name of an entry: zipfile cuts it at a NUL.

    Some programs write UTF-8 without saying so; then it was read as the code page of DOS.
    """
    name = info.orig_filename
    if not info.flag_bits & _UTF_8 and not name.isascii():
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name.removeprefix("./")


def _beside(
    paths: dict[int, str], notebook: int, warnings: list[str], error: type[InvalidFilesError]
) -> dict[int, str]:
    """The paths of the others below the notebook's folder."""
    folder = paths[notebook].rpartition("/")[0]
    prefix = f"{folder}/" if folder else ""
    found: dict[int, str] = {}
    faults: list[str] = []
    results: list[str] = []
    for place, path in paths.items():
        if place == notebook:
            continue
        if not path.startswith(prefix):
            faults.append(f"{shown(path)} lies outside of the notebook's folder {shown(folder)}")
            continue
        below = path.removeprefix(prefix)
        if below.casefold().startswith("outputs/"):
            results.append(path)
            continue
        try:
            found[place] = checked_path(below)
        except InvalidPathError as invalid:
            faults.append(str(invalid))
    if faults:
        raise _refusal(error, faults)
    if results:
        warnings.append(
            f"{counted(len(results), 'file')} in outputs/, which is for what runs of the notebook "
            f"leave behind, left out: {_listed(results)}"
        )
    return found


def _is_left_out(name: str) -> bool:
    return not _LEFT_OUT.isdisjoint(name.casefold().split("/"))


def _wrapping(names: Iterable[str]) -> str:
    """The folder of the one notebook with its slash, in composed form; else no text."""
    notebooks = [path for name in names if _is_notebook(path := normalize("NFC", name))]
    return notebooks[0][: notebooks[0].rfind("/") + 1] if len(notebooks) == 1 else ""


def _is_notebook(path: str) -> bool:
    return path.casefold().endswith(NOTEBOOK_SUFFIX)


def _not_one(paths: Sequence[str]) -> str:
    if not paths:
        return "There is no notebook (.ipynb); exactly one is needed"
    return f"There are {len(paths)} notebooks ({_listed(paths)}); exactly one is needed"


def _listed(paths: Sequence[str]) -> str:
    return listed([shown(path) for path in paths])


def _too_large(path: str, bound: int) -> FilesTooLargeError:
    return FilesTooLargeError(
        f"The file {shown(path)} in the archive has more than {bound:,} bytes; that is the most."
    )


def _refusal(error: type[InvalidFilesError], reasons: Sequence[str]) -> InvalidFilesError:
    return error([Fault("/file", reason) for reason in reasons[:MAX_FAULTS]])
