"""Handing results back: files in a folder, and last a JSON file that names them."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["enriched_dataset", "model", "report", "metric"]
Role: TypeAlias = Literal["data", "table", "model", "skops", "report"]

_NAME_LENGTH = 200
_NAME = re.compile(rf"[^\x00-\x1f\x7f]{{1,{_NAME_LENGTH}}}")


@dataclass(frozen=True)
class Part:
    """A file of a result: ``write`` is called with the path at which it is to be written."""

    role: Role
    suffix: str
    media_type: str
    write: Callable[[Path], object]
    optional: bool = False
    """Whether the result is whole without it; then ``write`` may return False to leave it out."""


@dataclass(frozen=True)
class Result:
    """What was handed back."""

    kind: Kind
    name: str
    files: tuple[Path, ...]
    attributes: Mapping[str, Any]

    def __repr__(self) -> str:
        files = f": {', '.join(path.name for path in self.files)}" if self.files else ""
        return f"<{self.kind.replace('_', ' ')} {self.name!r}{files}>"


_metrics: dict[tuple[Path, str], int] = {}


def tidy(name: str) -> str:
    r"""A name without the space around it, in which it is handed back.

    Raises ValueError when it is empty, too long or holds control characters.

    >>> tidy("loans\n")
    'loans'
    """
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise ValueError(f"A name needs 1 to {_NAME_LENGTH} characters, and no control characters.")
    return name


def hand_back(
    folder: Path, kind: Kind, name: str, parts: tuple[Part, ...], attributes: Mapping[str, Any]
) -> Result:
    """Write the files of a result, then, by renaming, the file that makes them one.

    Whoever looks into the folder sees a whole result or none. ``name`` is as :func:`tidy` leaves
    it. Raises ValueError when a value is no JSON; what ``write`` raises passes, and leaves nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # A metric that is logged again takes the place of what was logged.
    number = _metrics.get((folder, name)) if kind == "metric" else None
    number = _claim(folder) if number is None else number
    draft = folder / f"{number:06d}.part"
    written: list[Path] = []
    files = []
    try:
        for part in parts:
            path = folder / f"{number:06d}-{part.role}{part.suffix}"
            written.append(path)
            if part.write(path) is False and part.optional:
                path.unlink(missing_ok=True)
                written.remove(path)
                continue
            files.append(
                {
                    "path": path.name,
                    "fileName": f"{_file_name(name)}{part.suffix}",
                    "mediaType": part.media_type,
                    "role": part.role,
                }
            )
        told = {"kind": kind, "name": name, "files": files, "attributes": dict(attributes)}
        draft.write_text(json.dumps(told, ensure_ascii=False, allow_nan=False), "utf-8")
        draft.replace(folder / f"{number:06d}.json")
    except BaseException:
        for path in (*written, draft):
            path.unlink(missing_ok=True)
        raise
    if kind == "metric":
        _metrics[folder, name] = number
    return Result(kind, name, tuple(written), dict(attributes))


def _claim(folder: Path) -> int:
    """A number that no other result has, also where several processes hand back at once."""
    taken = [int(path.name[:6]) for path in folder.iterdir() if re.match(r"\d{6}\.", path.name)]
    number = max(taken, default=0) + 1
    while True:
        draft = folder / f"{number:06d}.part"
        try:
            draft.open("x").close()
        except FileExistsError:
            number += 1
            continue
        # Its number may have been given to a result that was finished a moment ago.
        if not (folder / f"{number:06d}.json").exists():
            return number
        draft.unlink()
        number += 1


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip("._")[:100] or "result"
