"""Chains of notebooks: whose runs led to a change, from the first cause on.

A run that a person, a client or a schedule asked for begins a chain: a change that it makes has
its notebook as the only link, and each notebook that runs because of a change adds one. A notebook
never runs because of a chain that it is a link of, so each chain ends. Several changes that become
one run may have come by several chains.
"""

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

Chain = tuple[UUID, ...]

MOST_LINKS: Final = 100
MOST_CHAINS: Final = 16

NO_CHAIN: Final[tuple[Chain, ...]] = ((),)
"""Of a change that no run has made."""


def continued(chains: Iterable[Chain], notebook_id: UUID) -> list[Chain]:
    """The chains of what a run of the notebook changes, itself being caused by ``chains``."""
    return [(*chain, notebook_id) for chain in chains]


def without_loops(chains: Iterable[Chain], notebook_id: UUID) -> list[Chain]:
    """Those by which the notebook may run: it is no link of them."""
    return [chain for chain in chains if notebook_id not in chain]


def short_enough(chains: Iterable[Chain]) -> list[Chain]:
    """Those that may have one more link."""
    return [chain for chain in chains if len(chain) < MOST_LINKS]


def merged(several: Iterable[Sequence[Chain]]) -> list[Chain]:
    """All chains of several changes, the shortest first.

    One that has every link of another is left out: whoever may run by it may run by the other.
    Beyond the limit the longest are left out, which can only prevent a run.
    """
    found: list[Chain] = []
    for chain in sorted({each for chains in several for each in chains}, key=_order):
        if not any(set(shorter) <= set(chain) for shorter in found):
            found.append(chain)
    return found[:MOST_CHAINS]


def _order(chain: Chain) -> tuple[int, Chain]:
    return len(chain), chain
