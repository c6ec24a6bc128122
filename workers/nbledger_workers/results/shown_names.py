"""Names of files that a run has left, as they are told: a name on Linux may be any bytes."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def shown(path: str) -> str:
    """``path`` as text without control characters; what is none becomes U+FFFD."""
    return _CONTROL.sub("�", path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def shown_names(paths: Iterable[str]) -> dict[str, str]:
    """Each of ``paths`` as it is shown, no two the same: the later gets a number.

    Those that are shown as they are keep their names.
    """
    names = {path: shown(path) for path in paths}
    taken = {path for path, name in names.items() if name == path}
    for path, name in names.items():
        if name == path:
            continue
        told, number = name, 1
        while told in taken:
            number += 1
            place = PurePosixPath(name)
            told = str(place.with_name(f"{place.stem}-{number}{place.suffix}"))
        taken.add(told)
        names[path] = told
    return names
