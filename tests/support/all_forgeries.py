"""All bundles that ``verify.py`` is tested with, true and false ones."""

from __future__ import annotations

from collections.abc import Iterator

from support.forged_contents import forged_contents
from support.forged_files import forged_files
from support.forged_lines import forged_lines
from support.forged_policies import forged_policies
from support.forged_times import forged_times
from support.forgeries import Forgery, forgeries


def all_forgeries() -> Iterator[Forgery]:
    """All of them, a true one first."""
    yield from forgeries()
    yield from forged_lines()
    yield from forged_contents()
    yield from forged_files()
    yield from forged_policies()
    yield from forged_times()
