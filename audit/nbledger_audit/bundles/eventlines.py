"""``events.jsonl``: every event of a selection, in order, with what is counted of them."""

from collections.abc import Sequence
from uuid import UUID

from nbledger_audit.bundles.copying import ArtifactCopies
from nbledger_audit.bundles.deletions import Deletions
from nbledger_audit.bundles.lines import Erasure, NamedArtifacts, line
from nbledger_audit.bundles.manifest import BundleManifest
from nbledger_audit.bundles.seen import SeenCheckpoints
from nbledger_audit.bundles.selecting import LogPlace, Selected
from nbledger_audit.bundles.targets import Sink
from nbledger_audit.bundles.treefiles import TreeFiles


class EventLines:
    """Writes the lines, and has all that a bundle needs written along.

    ``heads`` has for each stream of a partial bundle the number of its last event.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        tree: TreeFiles,
        deletions: Deletions,
        copies: ArtifactCopies,
        seen: SeenCheckpoints,
        manifest: BundleManifest,
    ) -> None:
        self._sink = sink
        self._tree = tree
        self._deletions = deletions
        self._copies = copies
        self._seen = seen
        self._manifest = manifest
        self.heads: dict[bytes, int] = {}

    async def write(self, events: Sequence[Selected], context: frozenset[LogPlace]) -> None:
        """Write some events; ``context`` tells which ones were not asked for."""
        erased = await self._deletions.of(
            event.subject_id for event in events if event.content.data is None
        )
        for event in events:
            await self._tree.cover(event.place.number)
            if event.place in context:
                self._manifest.context += 1
                artifacts = NamedArtifacts()
            else:
                artifacts = await self._copies.of(event)
                self._count(event, erased)
            told = line(
                event.entry,
                event.content,
                erased=erased.get(event.subject_id),
                artifacts=artifacts,
                context=event.place in context,
            )
            self._sink.write(told)

    def _count(self, event: Selected, erased: dict[UUID, Erasure | None]) -> None:
        manifest, number = self._manifest, event.place.number
        if manifest.whole:
            self._tree.add_entry(event.entry)
        else:
            self.heads[event.stream_id.bytes] = number
            self._seen.around(number)
        if manifest.first is None:
            manifest.first = number
        manifest.last = number
        manifest.events += 1
        if event.content.data is None:
            manifest.erased += 1
            manifest.uncovered_erasures += erased[event.subject_id] is None
        manifest.unsalted += event.content.metadata_salt is None
