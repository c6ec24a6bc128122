"""Tiles as C2SP tlog-tiles defines them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbledger_domain.transparency import merkle, tiles
from nbledger_domain.transparency.tiles import Tile

LEAVES = [merkle.leaf_hash(str(index).encode()) for index in range(70_000)]


def grown(*sizes: int) -> dict[Tile, bytes]:
    """All tiles of a log that has grown to each of these sizes in turn."""
    kept: dict[Tile, bytes] = {}
    size = 0
    for new in sizes:
        edge = {tile: kept[tile] for tile in tiles.right_edge(size)}
        kept |= tiles.append(edge, size, LEAVES[size:new])
        size = new
    return kept


LARGE = grown(70_000)


def test_the_example_of_the_specification() -> None:
    widths: dict[tuple[int, int], int] = {}
    for tile, hashes in LARGE.items():
        width = len(hashes) // 32
        assert width == tiles.width_of(tile, 70_000)
        widths[tile.level, width] = widths.get((tile.level, width), 0) + 1
    assert widths == {(0, 256): 273, (0, 112): 1, (1, 256): 1, (1, 17): 1, (2, 1): 1}
    assert {tile: len(hashes) // 32 for tile, hashes in grown(256).items()} == {
        Tile(0, 0): 256,
        Tile(1, 0): 1,
    }


@given(st.lists(st.integers(0, 1_500), min_size=1, max_size=6).map(sorted))
def test_a_log_is_the_same_however_it_has_grown(sizes: list[int]) -> None:
    assert grown(*sizes) == grown(sizes[-1])
    # What a smaller tree has of a tile is its beginning.
    for tile, hashes in grown(sizes[0]).items():
        assert LARGE[tile].startswith(hashes)
        assert len(hashes) // 32 == tiles.width_of(tile, sizes[0])


@given(st.integers(1, 70_000), st.data())
def test_proofs_are_computed_from_tiles(size: int, data: st.DataObject) -> None:
    (root,) = tiles.proof_of((merkle.root(size),), LARGE)
    index = data.draw(st.integers(0, size - 1))
    steps = merkle.inclusion(index, size)
    needed = {
        tile: LARGE[tile][: 32 * tiles.width_of(tile, size)] for tile in tiles.tiles_of(steps)
    }
    merkle.check_inclusion(LEAVES[index], index, size, tiles.proof_of(steps, needed), root)
    # Some tiles for a path from the leaf, and for each perfect part to its right.
    assert len(needed) <= 2 * 3
    old = data.draw(st.integers(1, size))
    (old_root,) = tiles.proof_of((merkle.root(old),), LARGE)
    proof = tiles.proof_of(merkle.consistency(old, size), LARGE)
    merkle.check_consistency(old, old_root, size, root, proof)


def test_a_tile_that_is_too_short_has_no_hash() -> None:
    with pytest.raises(ValueError, match="has no hash"):
        tiles.hash_of(merkle.Perfect(0, 3), {Tile(0, 0): b"x" * 96})
    with pytest.raises(KeyError):
        tiles.hash_of(merkle.Perfect(8, 3), {})


@pytest.mark.parametrize(
    ("index", "width", "path"),
    [
        (0, 256, "000"),
        (999, 1, "999.p/1"),
        (1000, 256, "x001/000"),
        (1234067, 255, "x001/x234/067.p/255"),
    ],
)
def test_paths(index: int, width: int, path: str) -> None:
    assert tiles.index_path(index, width) == path
    assert tiles.read_index_path(path) == (index, width)


@given(st.integers(0, 2**60), st.integers(1, 256))
def test_a_path_reads_back(index: int, width: int) -> None:
    assert tiles.read_index_path(tiles.index_path(index, width)) == (index, width)


@pytest.mark.parametrize(
    "path",
    ["", "1", "0001", "x000/001", "001/002", "x01/002", "001.p/0", "001.p/256", "001.p/01",
     "001.p/", "001/", "x001", "\u0660\u0660\u0661", "001\n"],
)  # fmt: skip
def test_what_is_no_path(path: str) -> None:
    assert tiles.read_index_path(path) is None


def test_bundles() -> None:
    assert tiles.bundle([b"ab", b"", b"c"]) == b"\0\2ab\0\0\0\1c"
    assert tiles.bundle([b"x" * 65_535])[:2] == b"\xff\xff"
    with pytest.raises(ValueError, match="too long"):
        tiles.bundle([b"x" * 65_536])
