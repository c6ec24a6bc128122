"""The client's verbs, as tests look at them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import nbledger_client.verbs
from nbledger_client.core.verbs import BlockingGroup, Declared, Group


def groups(kind: type[Group] = BlockingGroup) -> Iterator[type[Group]]:
    """The groups of one of the clients."""
    for found in pkgutil.iter_modules(nbledger_client.verbs.__path__):
        module = importlib.import_module(f"nbledger_client.verbs.{found.name}")
        for each in vars(module).values():
            if isinstance(each, type) and issubclass(each, kind) and each is not kind:
                yield each


def verbs(group: type[Group]) -> dict[str, Declared[..., object]]:
    """The verbs of a group by their names."""
    return {
        name: each
        for base in reversed(group.__mro__)
        for name, each in vars(base).items()
        if isinstance(each, Declared)
    }
