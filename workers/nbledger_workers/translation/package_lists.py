"""Lists of what kernels can import, kept beside the outputs of their notebooks: once for each."""

import hashlib
from collections import OrderedDict
from typing import Final

from nbledger_domain.execution import Representation
from nbledger_infrastructure.artifacts.store import Scope
from nbledger_workers.storing.spool import Spool

PACKAGES: Final = "text/plain"
"""Lines ``name==version``, sorted."""

REMEMBERED = 1_000
"""So many lists are known to be kept."""


class PackageLists:
    """Keeps lists for one worker, which remembers what it has kept lately."""

    def __init__(self) -> None:
        # By digest: the lists themselves are some kilobytes each.
        self._kept: OrderedDict[tuple[Scope, str], Representation] = OrderedDict()

    async def keep(self, spool: Spool, scope: Scope, content: bytes) -> Representation:
        """The list, kept for the notebook, or waiting to be."""
        digest = hashlib.sha256(content).hexdigest()
        key = (scope, digest)
        if (known := self._kept.get(key)) is not None:
            return known
        await spool.put(scope, content, digest=digest)
        found = Representation(PACKAGES, digest, len(content))
        if spool.is_straight:
            self._kept[key] = found
            if len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
        return found
