"""The tenant's log, which proves its history."""

from __future__ import annotations

from nbledger_client.core.requests import Call, Id
from nbledger_client.core.steps import Item, Items
from nbledger_client.core.verbs import AwaitingGroup, BlockingGroup, Group, listing, verb
from nbledger_client.errors import ConfigurationError
from nbledger_client.models.histories import (
    ConsistencyDocument,
    InclusionDocument,
    LogDocument,
    TimestampDocument,
    TimestampsDocument,
)


class ProofVerbs(Group):
    """The tenant's log. What it answers is checked by programs of others, and not here."""

    @verb("getLog")
    def log(self) -> Call[LogDocument]:
        """Read what the log is, how large, and whose key signs it.

        >>> client.proofs.log().size > 0
        True
        """
        return Call("GET", self._path(), LogDocument)

    @verb("getCheckpoint")
    def checkpoint(self) -> Call[str]:
        """Read the newest checkpoint, a signed note.

        >>> len(client.proofs.checkpoint().splitlines()) > 3
        True
        """
        return Call("GET", self._path("checkpoint"), str)

    @verb("getPolicy")
    def policy(self) -> Call[str]:
        """Read which signatures a checkpoint is to have.

        >>> "log " in client.proofs.policy()
        True
        """
        return Call("GET", self._path("policy"), str)

    @verb("proveInclusion")
    def inclusion(
        self, *, position: int | None = None, event_id: Id | None = None
    ) -> Call[InclusionDocument]:
        """Read the proof that the log has an event, named by its position or its id.

        >>> client.proofs.inclusion(position=1).number
        0
        """
        query = {"position": position, "event": event_id}
        return Call("GET", self._path("inclusion"), InclusionDocument, query)

    @verb("proveConsistency")
    def consistency(self, from_: int, to: int | None = None) -> Call[ConsistencyDocument]:
        """Read the proof that a size of the log goes on from an earlier one.

        >>> client.proofs.consistency(1).hashes is not None
        True
        """
        query = {"from": from_, "to": to}
        return Call("GET", self._path("consistency"), ConsistencyDocument, query)

    @verb("getTile")
    def tile(self, level: int, index: str) -> Call[bytes]:
        """Read hashes of the tree, as C2SP's tlog-tiles has them.

        A tile is full, or its index has a width: here the first one, which has 256 hashes once the
        log has as many entries.

        >>> width = min(client.proofs.log().signed_size, 256)
        >>> index = "000" if width == 256 else f"000.p/{width}"
        >>> len(client.proofs.tile(0, index)) == 32 * width
        True
        """
        return Call("GET", self._path(f"tile/{level}/{index}"), bytes)

    @verb("getEntries")
    def entries(self, index: str) -> Call[bytes]:
        """Read entries of the log, each after its length.

        >>> width = min(client.proofs.log().signed_size, 256)
        >>> index = "000" if width == 256 else f"000.p/{width}"
        >>> len(client.proofs.entries(index)) > 0
        True
        """
        return Call("GET", self._path(f"tile/entries/{index}"), bytes)

    @listing("listTimestamps")
    def timestamps(self, *, page_size: int = 100) -> Items[TimestampDocument]:
        """List what an authority has said of when checkpoints were there.

        >>> list(client.proofs.timestamps())
        []
        """
        path, page = self._path("timestamps"), 1
        while True:
            query = {"page": page, "pageSize": page_size}
            found = yield from self._talk.ask(Call("GET", path, TimestampsDocument, query))
            for each in found.items:
                yield Item(each)
            if len(found.items) < page_size:
                return
            page += 1

    def _path(self, of: str = "") -> str:
        tenant_id = self._talk.connection.tenant_id
        if not tenant_id:
            raise ConfigurationError("It is not said which tenant: set NBLEDGER_TENANT.")
        return f"/audit/log/{tenant_id}" + (f"/{of}" if of else "")


class Proofs(ProofVerbs, BlockingGroup):
    """The tenant's log."""


class AsyncProofs(ProofVerbs, AwaitingGroup):
    """The tenant's log, awaited."""
