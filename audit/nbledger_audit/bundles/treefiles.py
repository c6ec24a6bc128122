"""The files of a bundle that make it a log: tiles, entries, proofs."""

from collections.abc import Iterable, Iterator
from uuid import UUID

from nbledger_audit import logs
from nbledger_audit.bundles.targets import BundleTarget
from nbledger_domain.transparency import merkle, tiles
from nbledger_domain.transparency.notes import Note
from nbledger_domain.transparency.proofs import EntryProof
from nbledger_domain.transparency.tiles import HEIGHT, WIDTH, Tile
from nbledger_infrastructure.postgres.database import PooledConnection


class WantedTiles:
    """The tiles on the paths of entries in the tree of ``size`` leaves."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._last: dict[int, int] = {}

    def above(self, number: int) -> Iterator[Tile]:
        """The tiles above an entry, but for those that were told last."""
        level = 0
        while self._size >> HEIGHT * level:
            index = number >> HEIGHT * (level + 1)
            if self._last.get(level) == index:
                return
            self._last[level] = index
            tile = Tile(level, index)
            if tiles.width_of(tile, self._size):
                yield tile
            level += 1

    def edge(self, size: int) -> Iterator[Tile]:
        """The tiles that make the root of the first ``size`` leaves, and those above them."""
        for tile in tiles.right_edge(size):
            above = tile
            while tiles.width_of(above, self._size):
                yield above
                above = Tile(above.level + 1, above.number >> HEIGHT)


class TreeFiles:
    """Writes the files of a tree of ``size`` entries, whose checkpoint is ``note``."""

    def __init__(
        self,
        connection: PooledConnection,
        tenant_id: UUID,
        target: BundleTarget,
        *,
        note: Note,
        size: int,
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._target = target
        self._note = note
        self._size = size
        self._wanted = WantedTiles(size)
        self._bundle: list[bytes] = []
        self._bundles = 0

    async def cover(self, number: int) -> None:
        """Write the tiles above an entry. Raises ``LookupError`` where one is not there."""
        for tile in self._wanted.above(number):
            await self._write(tile)

    async def close(self, earlier: Iterable[int]) -> None:
        """Write the tiles that make the root, and the roots of ``earlier`` sizes.

        Raises as :meth:`cover` does.
        """
        for size in (*earlier, self._size):
            for tile in self._wanted.edge(size):
                await self._write(tile)
        if self._bundle:
            self._write_bundle()

    def add_entry(self, entry: bytes) -> None:
        """Write the next entry, from number 0 on."""
        self._bundle.append(entry)
        if len(self._bundle) == WIDTH:
            self._write_bundle()

    async def prove(self, number: int, entry: bytes) -> None:
        """Write the proof of an entry. Raises as :meth:`cover` does."""
        steps = merkle.inclusion(number, self._size)
        hashes = await logs.prove(self._connection, self._tenant_id, steps)
        proof = EntryProof(number, tuple(hashes), self._note, entry)
        self._target.write(f"proofs/{number}.tlog-proof", str(proof).encode())

    async def _write(self, tile: Tile) -> None:
        width = tiles.width_of(tile, self._size)
        name = f"tile/{tile.level}/{tiles.index_path(tile.number, width)}"
        if self._target.has(name):
            return
        hashes = await logs.tile(self._connection, self._tenant_id, tile, width)
        if hashes is None:
            raise LookupError(f"the log has no {name}")
        self._target.write(name, hashes)

    def _write_bundle(self) -> None:
        name = f"tile/entries/{tiles.index_path(self._bundles, len(self._bundle))}"
        self._target.write(name, tiles.bundle(self._bundle))
        self._bundle = []
        self._bundles += 1
