"""Merkle trees as RFC 6962 defines them, held against its definitions by recursion."""

from __future__ import annotations

import hashlib
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbledger_domain.transparency import merkle
from nbledger_domain.transparency.merkle import Perfect, ProofError

# The tree of RFC 6962's reference tests: eight entries, and the root after each of them.
ENTRIES = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)

SIZES = st.integers(1, 600)


def entry(index: int) -> bytes:
    return str(index).encode()


@cache
def defined(first: int, last: int) -> bytes:
    """MTH of the entries from ``first`` up to ``last``, word by word as section 2.1 has it."""
    if last == first:
        return hashlib.sha256().digest()
    if last - first == 1:
        return hashlib.sha256(b"\x00" + entry(first)).digest()
    part = 1
    while part * 2 < last - first:
        part *= 2
    left, right = defined(first, first + part), defined(first + part, last)
    return hashlib.sha256(b"\x01" + left + right).digest()


def hash_of(subtree: Perfect) -> bytes:
    return defined(subtree.number << subtree.height, subtree.number + 1 << subtree.height)


def hashes_of(steps: tuple[tuple[Perfect, ...], ...]) -> list[bytes]:
    return [merkle.fold([hash_of(each) for each in step]) for step in steps]


def test_the_reference_tree() -> None:
    hashes = [merkle.leaf_hash(each) for each in ENTRIES]
    assert hashlib.sha256().digest() == merkle.EMPTY
    for size, root in enumerate(ROOTS, 1):
        parts = [
            merkle.perfect_hash(hashes[at.number << at.height : at.number + 1 << at.height])
            for at in merkle.root(size)
        ]
        assert merkle.fold(parts).hex() == root


@given(SIZES)
def test_the_root_is_as_defined(size: int) -> None:
    assert hashes_of((merkle.root(size),)) == [defined(0, size)]


@given(SIZES, st.data())
def test_an_entry_is_proved_to_be_in_the_tree_and_no_other(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = hashes_of(merkle.inclusion(index, size))
    assert len(proof) <= max(size - 1, 0).bit_length()
    leaf, root = merkle.leaf_hash(entry(index)), defined(0, size)
    merkle.check_inclusion(leaf, index, size, proof, root)
    other = data.draw(st.integers(0, size + 3).filter(lambda each: each != index))
    for wrong in (
        (merkle.leaf_hash(b"other"), index, size, proof, root),
        (leaf, other, size, proof, root),
        (leaf, index, size, [*proof, leaf], root),
        (leaf, index, size, proof, leaf if size > 1 else merkle.EMPTY),
        *((leaf, index, size, proof[:-1], root) for _ in proof[:1]),
        *((leaf, index, size, [*proof[:at], b"x" * 32, *proof[at + 1 :]], root)
          for at in range(len(proof))),
    ):  # fmt: skip
        with pytest.raises(ProofError):
            merkle.check_inclusion(*wrong)


@given(SIZES, st.data())
def test_a_tree_is_proved_to_have_grown_out_of_another(size: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(0, size))
    proof = hashes_of(merkle.consistency(old, size))
    then, now = defined(0, old), defined(0, size)
    merkle.check_consistency(old, then, size, now, proof)
    wrong = [
        (old, b"x" * 32, size, now, proof),
        (old, then, size, now, [*proof, now]),
        (size + 1, then, size, now, proof),
    ]
    if old > 0:
        wrong.append((old, then, size, b"x" * 32, proof))
    if 0 < old < size:
        wrong.append((old - 1, then, size, now, proof))
        wrong.append((old, then, size, now, proof[:-1]))
        wrong += [
            (old, then, size, now, [*proof[:at], b"x" * 32, *proof[at + 1 :]])
            for at in range(len(proof))
        ]
    for each in wrong:
        with pytest.raises(ProofError):
            merkle.check_consistency(*each)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3)])
def test_nothing_is_proved_of_what_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="has no leaf"):
        merkle.inclusion(index, size)
    with pytest.raises(ProofError):
        merkle.check_inclusion(b"", index, size, [], b"")
    with pytest.raises(ValueError, match="has not grown"):
        merkle.consistency(size + 1, size)
