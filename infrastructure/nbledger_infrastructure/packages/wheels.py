"""What an uploaded wheel is, read from the file; nothing of it is unpacked or run."""

import errno
import re
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Final

import msgspec
from packaging.metadata import parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from nbledger_domain.errors import InvalidWheelError
from nbledger_domain.vocabulary.units import MB
from nbledger_infrastructure.packages.libraries import comes_with_service

WHEEL: Final = "application/zip"

MAX_MEMBERS: Final = 20_000
MAX_UNPACKED_BYTES: Final = 1_000_000_000
MAX_METADATA_BYTES: Final = 1_000_000
MAX_DEPENDENCIES: Final = 500
MAX_TEXT: Final = 500
"""Characters of a dependency, and of what is said of Python."""

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_.+!-]{1,250}\.whl", re.ASCII)
_NEEDED: Final = ("METADATA", "WHEEL", "RECORD")
_PACKED: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNREADABLE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    ValueError,
)
_SHOWN: Final = 100


class Wheel(msgspec.Struct, frozen=True):
    """What a wheel says of itself. ``name`` and ``version`` are normalised."""

    name: str
    version: str
    requires_python: str | None
    dependencies: list[str]


def read_wheel(path: Path, file_name: str) -> Wheel:
    """The wheel at ``path``, which is called ``file_name``.

    Every byte is read and checked against its checksum. Raises :class:`InvalidWheelError`.
    """
    name, version = _named(file_name)
    try:
        with zipfile.ZipFile(path) as archive:
            about = archive.getinfo(f"{_about(_checked(archive), name, version)}/METADATA")
            if about.file_size > MAX_METADATA_BYTES:
                raise InvalidWheelError(f"Its METADATA has more than {MAX_METADATA_BYTES:,} bytes.")
            metadata = archive.read(about)
            if (damaged := archive.testzip()) is not None:
                raise InvalidWheelError(f"{_shown(damaged)} in it is damaged.")
    except _UNREADABLE as error:
        raise InvalidWheelError(f"It is no ZIP archive that can be read: {error}.") from None
    except OSError as error:
        # A place outside of the file; anything else is the disk's fault.
        if error.errno != errno.EINVAL:
            raise
        raise InvalidWheelError("It is no ZIP archive that can be read.") from None
    return _told(metadata, name, version)


def _named(file_name: str) -> tuple[str, Version]:
    """Name and version that the file's name tells."""
    if _FILE_NAME.fullmatch(file_name) is None:
        raise InvalidWheelError(
            f"{_shown(file_name)} is not named as a wheel is, "
            "such as our_rules-1.0-py3-none-any.whl."
        )
    try:
        name, version, _, _ = parse_wheel_filename(file_name)
    except InvalidWheelFilename as error:
        raise InvalidWheelError(f"It is not named as a wheel is. {error}.") from None
    if comes_with_service(name):
        raise InvalidWheelError(f"{name} comes with the service and cannot be replaced.")
    return name, version


def _checked(archive: zipfile.ZipFile) -> set[str]:
    """The files in the archive, none of which lies outside of where it is unpacked."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise InvalidWheelError(f"It has {len(members)} files; {MAX_MEMBERS} are the most.")
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES:
        raise InvalidWheelError(
            f"It has {unpacked // MB} MB when it is unpacked; "
            f"{MAX_UNPACKED_BYTES // MB} MB are the most."
        )
    names: set[str] = set()
    for member in members:
        # What zipfile makes of the name is another one where it has a NUL.
        name = member.orig_filename
        if not _stays_inside(name):
            raise InvalidWheelError(f"{_shown(name)} in it leads out of where it is unpacked.")
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InvalidWheelError(f"{_shown(name)} in it is a link.")
        if member.flag_bits & 1 or member.compress_type not in _PACKED:
            raise InvalidWheelError(f"{_shown(name)} in it is encrypted, or packed unusually.")
        if name in names:
            raise InvalidWheelError(f"{_shown(name)} is in it twice.")
        names.add(name)
    return names


def _stays_inside(name: str) -> bool:
    """Whether it is a relative path that goes only down, on every system."""
    parts = name.removesuffix("/").split("/")
    return not any(
        part in ("", ".", "..") or "\\" in part or ":" in part or "\0" in part for part in parts
    )


def _about(names: set[str], name: str, version: Version) -> str:
    """The folder with what the wheel says of itself."""
    folders = {top for top, slash, _ in (each.partition("/") for each in names) if slash}
    found = sorted(top for top in folders if top.endswith(".dist-info"))
    if len(found) != 1:
        raise InvalidWheelError(f"It must have one folder .dist-info, and has {len(found)}.")
    told, _, told_version = found[0].removesuffix(".dist-info").partition("-")
    if not _same(told, told_version, name, version):
        raise InvalidWheelError(
            f"Its folder {_shown(found[0])} is not that of {name} {version}, as its file is named."
        )
    for each in _NEEDED:
        if f"{found[0]}/{each}" not in names:
            raise InvalidWheelError(f"It has no {each}.")
    return found[0]


def _told(metadata: bytes, name: str, version: Version) -> Wheel:
    raw, _ = parse_email(metadata)
    told, told_version = raw.get("name"), raw.get("version")
    if told is None or told_version is None:
        raise InvalidWheelError("Its METADATA tells no name or no version.")
    if not _same(told, told_version, name, version):
        raise InvalidWheelError(
            f"Its METADATA is that of {_shown(told)} {_shown(told_version)}, "
            f"and its file is named as {name} {version}."
        )
    requires_python = raw.get("requires_python")
    if requires_python is not None:
        try:
            SpecifierSet(requires_python)
        except InvalidSpecifier as error:
            raise InvalidWheelError(f"Its Requires-Python cannot be read: {error}.") from None
    dependencies = raw.get("requires_dist") or []
    if len(dependencies) > MAX_DEPENDENCIES:
        raise InvalidWheelError(f"It has more than {MAX_DEPENDENCIES} dependencies.")
    for text in [*dependencies, requires_python or ""]:
        if len(text) > MAX_TEXT:
            raise InvalidWheelError(f"{_shown(text)} has more than {MAX_TEXT} characters.")
    for text in dependencies:
        _check_dependency(text)
    return Wheel(name, str(version), requires_python, dependencies)


def _check_dependency(text: str) -> None:
    try:
        url = Requirement(text).url
    except InvalidRequirement:
        raise InvalidWheelError(f"Its dependency {_shown(text)} cannot be read.") from None
    if url is not None:
        # What it leads to would be read by the worker, from its own folders too.
        raise InvalidWheelError(f"Its dependency {_shown(text)} must not be an address.")


def _same(told: str, told_version: str, name: str, version: Version) -> bool:
    try:
        return canonicalize_name(told) == name and Version(told_version) == version
    except InvalidVersion:
        return False


def _shown(text: str) -> str:
    return repr(text[:_SHOWN])
