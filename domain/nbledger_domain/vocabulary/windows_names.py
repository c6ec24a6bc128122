"""Names of files that Windows cannot hold: runs are on Linux, downloads may not be."""

import re
from collections.abc import Iterable
from typing import Final

from nbledger_domain.input_files import shown
from nbledger_domain.words import listed

_FORBIDDEN: Final = '<>:"|?*'
_DEVICE: Final = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[1-9¹²³])(?=\s*(?:\.|\Z))", re.IGNORECASE
)


def windows_warnings(paths: Iterable[str]) -> list[str]:
    """One warning that names the ``paths`` that Windows cannot hold, each with the reason."""
    found = [
        f"{shown(path)} {reason}" for path in paths if (reason := windows_fault(path)) is not None
    ]
    if not found:
        return []
    return [f"Windows cannot hold files of these names: {listed(found)}"]


def windows_fault(path: str) -> str | None:
    """Why Windows cannot hold a file at ``path``, in words that follow it."""
    for segment in path.split("/"):
        for character in _FORBIDDEN:
            if character in segment:
                return f"has {character}"
        if segment[-1:] in (".", " "):
            return "has a name that ends with a dot or a blank"
        if (device := _DEVICE.match(segment)) is not None:
            return f"has the name of a device, {device[0].upper()}"
    return None
