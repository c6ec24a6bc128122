"""Packages that notebooks ask for: checked, looked for, and provided in cached environments."""

from nbledger_infrastructure.packages.cache import EnvironmentCache
from nbledger_infrastructure.packages.installed import Installed
from nbledger_infrastructure.packages.libraries import Libraries
from nbledger_infrastructure.packages.requirements import parse_requirement
from nbledger_infrastructure.packages.wanted import (
    Environment,
    EnvironmentFailedError,
    Held,
    KeptWheel,
    Tell,
    Wanted,
)

__all__ = [
    "Environment",
    "EnvironmentCache",
    "EnvironmentFailedError",
    "Held",
    "Installed",
    "KeptWheel",
    "Libraries",
    "Tell",
    "Wanted",
    "parse_requirement",
]
