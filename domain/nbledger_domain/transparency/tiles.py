"""Tiles: the pieces in which a log's tree is kept and served, as C2SP tlog-tiles defines them.

Tile ``number`` of ``level`` has the hashes of up to 256 perfect subtrees of 256**level leaves. A
tile only grows: what a smaller tree has of it is its beginning.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from nbledger_domain.transparency.merkle import Perfect, fold, perfect_hash

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
"""So many hashes has a full tile."""

HASH_BYTES: Final = 32

MOST_ENTRY_BYTES: Final = 0xFFFF
"""An entry of a bundle is not longer: two bytes say its length."""

_PATH: Final = re.compile(r"(?P<index>(?:x[0-9]{3}/)*[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?")


class Tile(NamedTuple):
    """One tile, whatever its width."""

    level: int
    number: int


def index_path(index: int, width: int = WIDTH) -> str:
    """``<N>[.p/<W>]``: the path of a tile below its level, or of a bundle of entries."""
    digits = str(index)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    path = "/".join((*(f"x{group}" for group in groups[:-1]), groups[-1]))
    return path if width == WIDTH else f"{path}.p/{width}"


def read_index_path(path: str) -> tuple[int, int] | None:
    """The index and the width that a path names; None for what is no such path."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    index = int(found["index"].replace("x", "").replace("/", ""))
    width = int(found["width"] or WIDTH)
    # One path for each tile: no more zeros in front than are needed, and no partial full tile.
    return (index, width) if index_path(index, width) == path else None


def width_of(tile: Tile, size: int) -> int:
    """How many hashes a tile has in the tree of ``size`` leaves; 0 where it is not there."""
    return min(max((size >> HEIGHT * tile.level) - tile.number * WIDTH, 0), WIDTH)


def tile_of(subtree: Perfect) -> Tile:
    """Which tile the hash of a perfect subtree is computed from."""
    level, height = divmod(subtree.height, HEIGHT)
    return Tile(level, (subtree.number << height) >> HEIGHT)


def hash_of(subtree: Perfect, tiles: Mapping[Tile, bytes]) -> bytes:
    """The hash of a perfect subtree. Raises ``KeyError`` where its tile is not among ``tiles``.

    Raises ``ValueError`` for a tile that is too short.
    """
    hashes = tiles[tile_of(subtree)]
    count = 1 << subtree.height % HEIGHT
    first = subtree.number * count % WIDTH
    part = hashes[first * HASH_BYTES : (first + count) * HASH_BYTES]
    if len(part) != count * HASH_BYTES:
        raise ValueError(f"{tile_of(subtree)} has no hash of {subtree}")
    return perfect_hash(split(part))


def tiles_of(steps: Iterable[Sequence[Perfect]]) -> set[Tile]:
    """The tiles that are needed for a proof."""
    return {tile_of(subtree) for step in steps for subtree in step}


def proof_of(steps: Iterable[Sequence[Perfect]], tiles: Mapping[Tile, bytes]) -> list[bytes]:
    """The hashes of a proof, one for each step. Raises as :func:`hash_of` does."""
    return [fold([hash_of(subtree, tiles) for subtree in step]) for step in steps]


def split(hashes: bytes) -> list[bytes]:
    """The hashes of a tile, one by one."""
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


def right_edge(size: int) -> list[Tile]:
    """The tiles that grow when leaves come after the first ``size`` ones, and are there by then."""
    edge: list[Tile] = []
    level = 0
    while count := size >> HEIGHT * level:
        if count % WIDTH:
            edge.append(Tile(level, count // WIDTH))
        level += 1
    return edge


def append(edge: Mapping[Tile, bytes], size: int, leaves: Sequence[bytes]) -> dict[Tile, bytes]:
    """The tiles that ``leaves`` change or make, with all their hashes.

    ``leaves`` are hashes of leaves, which come after the first ``size`` ones; ``edge`` has the
    tiles of :func:`right_edge`. Raises ``KeyError`` where one of them is missing, and
    ``ValueError`` where it has not as many hashes as it should.
    """
    changed: dict[Tile, bytes] = {}
    level, count, row = 0, size, list(leaves)
    while row:
        above: list[bytes] = []
        while row:
            tile = Tile(level, count // WIDTH)
            begun = edge[tile] if count % WIDTH else b""
            if len(begun) != count % WIDTH * HASH_BYTES:
                raise ValueError(f"{tile} has not {count % WIDTH} hashes")
            part, row = row[: WIDTH - count % WIDTH], row[WIDTH - count % WIDTH :]
            hashes = begun + b"".join(part)
            changed[tile] = hashes
            count += len(part)
            if count % WIDTH == 0:
                above.append(perfect_hash(split(hashes)))
        level, count, row = level + 1, size >> HEIGHT * (level + 1), above
    return changed


def bundle(entries: Iterable[bytes]) -> bytes:
    """A bundle of entries. Raises ``ValueError`` for an entry that is too long."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MOST_ENTRY_BYTES:
            raise ValueError(f"an entry of {len(entry)} bytes is too long")
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)
