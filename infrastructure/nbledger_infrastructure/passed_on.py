"""What a process that we start gets of our environment: an allow-list, so that no secret leaks."""

import os
from collections.abc import Collection, Mapping
from typing import Final

INSTANCE_VARIABLE: Final = "NBLEDGER_INSTANCE"
"""Names the home folder that a process belongs to, so that whoever is left can be found."""


def passed_on(
    names: Collection[str] = (),
    *,
    beginnings: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The variables of these names or beginnings, the path, and the mark of the instance.

    ``environment`` is by default that of this process.
    """
    source = os.environ if environment is None else environment
    allowed = {"PATH", INSTANCE_VARIABLE, *names}
    return {
        name: value
        for name, value in source.items()
        if name in allowed or (beginnings and name.startswith(beginnings))
    }
