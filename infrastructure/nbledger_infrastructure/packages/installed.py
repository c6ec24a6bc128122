"""What the interpreter that runs this can import without anything being provided."""

import hashlib
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nbledger_infrastructure.packages.libraries import PROVIDED
from nbledger_infrastructure.packages.requirements import parse_requirement

_OWN: Final = "nbledger"


class Installed:
    """The distributions of this interpreter, as they were when this was made."""

    def __init__(self) -> None:
        self._versions: dict[str, str] = {}
        for distribution in metadata.distributions():
            # Of two with one name the first on the path is the one that is imported.
            name = canonicalize_name(distribution.metadata["Name"] or "")
            self._versions.setdefault(name, distribution.version)
        if _OWN in self._versions:
            # They are parts of it, and known to notebooks by names of their own.
            for library in PROVIDED:
                self._versions[canonicalize_name(library)] = self._versions[_OWN]

    @property
    def fingerprint(self) -> str:
        """Changes with whatever is installed, and with the interpreter."""
        told = [sys.version, sys.prefix, *sorted(f"{n}=={v}" for n, v in self._versions.items())]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    def listed(self, added: Sequence[str] = ()) -> bytes:
        """All of them, with what is ``added`` in their place: lines ``name==version``, sorted.

        What is added without a version, such as a library that is a folder, is a line of its own.
        """
        found = {name: f"{name}=={version}" for name, version in self._versions.items() if name}
        found |= {str(canonicalize_name(each.partition("==")[0])): each for each in added}
        return "".join(f"{found[name]}\n" for name in sorted(found)).encode()

    def version(self, name: str) -> str | None:
        """The version of a distribution, by its normalised name."""
        return self._versions.get(name)

    def lacks(self, requirements: Sequence[Requirement]) -> list[Requirement]:
        """Those that are not met."""
        return [each for each in requirements if not self._meets(each, frozenset())]

    def kernel_packages(self) -> list[str]:
        """Names of what every kernel has: whatever is added has to get along with these."""
        found = {"ipykernel"}
        for text in metadata.requires(_OWN) or () if _OWN in self._versions else ():
            requirement = parse_requirement(text)
            if requirement.marker is not None and requirement.marker.evaluate({"extra": "kernel"}):
                found.add(requirement.name)
        return sorted(found & self._versions.keys())

    def _meets(self, requirement: Requirement, above: frozenset[str]) -> bool:
        if requirement.marker is not None and not requirement.marker.evaluate():
            return True
        version = self._versions.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            return False
        name = str(canonicalize_name(requirement.name))
        return all(
            self._has_extra(name, extra, above | {f"{name}[{extra}]"})
            for extra in requirement.extras
            if f"{name}[{extra}]" not in above
        )

    def _has_extra(self, name: str, extra: str, above: frozenset[str]) -> bool:
        try:
            requires = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:
            return False
        for text in requires:
            needed = Requirement(text)
            if (
                needed.marker is None
                or needed.marker.evaluate({"extra": ""})
                or not needed.marker.evaluate({"extra": extra})
            ):
                continue
            # Its marker has been looked at, with the extra, which alone would not hold.
            needed.marker = None
            if not self._meets(needed, above):
                return False
        return True
