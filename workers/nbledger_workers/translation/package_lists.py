"""Lists of what kernels can import, kept beside the outputs of their notebooks: once for each."""

from collections import OrderedDict
from typing import Final

from nbledger_domain.execution import Representation
from nbledger_infrastructure.artifacts.store import Scope
from nbledger_workers.storing.spool import Spool

PACKAGES: Final = "text/plain"
"""Lines ``name==version``, sorted."""

_REMEMBERED: Final = 10_000


class PackageLists:
    """Keeps lists for one worker, which remembers what it has kept lately."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Scope, bytes], Representation] = OrderedDict()

    async def keep(self, spool: Spool, scope: Scope, content: bytes) -> Representation:
        """The list, kept for the notebook, or waiting to be."""
        key = (scope, content)
        if (known := self._kept.get(key)) is not None:
            return known
        found = Representation(PACKAGES, await spool.put(scope, content), len(content))
        if spool.is_straight:
            self._kept[key] = found
            if len(self._kept) > _REMEMBERED:
                self._kept.popitem(last=False)
        return found
