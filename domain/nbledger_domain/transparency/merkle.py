"""Merkle trees over SHA-256, as RFC 6962 (section 2.1) defines them.

A tree is made of *perfect* subtrees: those with 2**height leaves, of which no later leaf changes
anything. Proofs are asked for in two steps, so that whoever stores hashes reads all that is needed
at once: :func:`inclusion` and :func:`consistency` name perfect subtrees, and :func:`fold` makes of
their hashes the hashes of the proof.

Leaves are numbered from 0. Hashes have 32 bytes.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

EMPTY: Final = hashlib.sha256(b"").digest()
"""The hash of the tree without leaves."""


class Perfect(NamedTuple):
    """The perfect subtree of the 2**height leaves from ``number * 2**height`` on."""

    height: int
    number: int


class ProofError(ValueError):
    """A proof that does not prove what it is held against."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of what two subtrees make."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def perfect_hash(hashes: Sequence[bytes]) -> bytes:
    """The hash of a perfect subtree, by those of its 2**n parts of one height, in order."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def fold(hashes: Sequence[bytes]) -> bytes:
    """The hash of the tree whose perfect subtrees, from the left, have these hashes."""
    if not hashes:
        return EMPTY
    *rest, folded = hashes
    for each in reversed(rest):
        folded = node_hash(each, folded)
    return folded


def root(size: int) -> tuple[Perfect, ...]:
    """The perfect subtrees that make the tree of ``size`` leaves, from the left."""
    return _span(0, size)


def inclusion(index: int, size: int) -> tuple[tuple[Perfect, ...], ...]:
    """What proves that leaf ``index`` is in the tree of ``size`` leaves, from the leaf up.

    Each element folds to one hash of the proof. Raises ``ValueError`` where there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    path: list[tuple[Perfect, ...]] = []
    first, last = 0, size
    while last - first > 1:
        split = first + _largest_part(last - first)
        if index < split:
            path.append(_span(split, last))
            last = split
        else:
            path.append(_span(first, split))
            first = split
    return tuple(reversed(path))


def consistency(old: int, size: int) -> tuple[tuple[Perfect, ...], ...]:
    """What proves that the tree of ``size`` leaves begins with that of the first ``old`` leaves.

    Each element folds to one hash of the proof, which is empty where ``old`` is 0 or ``size``.
    Raises ``ValueError`` where ``old`` is more than ``size``, or negative.
    """
    if not 0 <= old <= size:
        raise ValueError(f"a tree of {size} leaves has not grown out of one of {old}")
    if old in {0, size}:
        return ()
    path: list[tuple[Perfect, ...]] = []
    first, last = 0, size
    while last != old:
        split = first + _largest_part(last - first)
        if old <= split:
            path.append(_span(split, last))
            last = split
        else:
            path.append(_span(first, split))
            first = split
    # Whoever holds the old tree knows its hash, where it is that of a subtree of the new one.
    if first:
        path.append(_span(first, last))
    return tuple(reversed(path))


def check_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes
) -> None:
    """Check that the leaf with the hash ``leaf`` is number ``index`` of the tree.

    Follows RFC 9162, section 2.1.3.2. Raises :class:`ProofError` where that is not proved.
    """
    if not 0 <= index < size:
        raise ProofError(f"a tree of {size} leaves has no leaf {index}")
    (folded,) = _climb((leaf,), index, size - 1, proof)
    if folded != root_hash:
        raise ProofError("the entry is not in this tree")


def check_consistency(
    old: int, old_root: bytes, size: int, root_hash: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree of ``size`` leaves begins with the old one.

    Follows RFC 9162, section 2.1.4.2. Raises :class:`ProofError` where that is not proved.
    """
    if not 0 <= old <= size:
        raise ProofError(f"a tree of {size} leaves has not grown out of one of {old}")
    if old in {0, size}:
        if proof:
            raise ProofError("nothing is to be proved, and there is a proof")
        if old_root != (root_hash if old else EMPTY):
            raise ProofError("the trees differ")
        return
    at, last = old - 1, size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    # Whoever holds the old tree knows its hash, where it is that of a subtree of the new one.
    first, *rest = [*proof, b""] if at else [old_root, *proof, b""]
    if _climb((first, first), at, last, rest[:-1]) != (old_root, root_hash):
        raise ProofError("the new tree does not begin with the old one")


def _climb(
    hashes: tuple[bytes, ...], at: int, last: int, proof: Sequence[bytes]
) -> tuple[bytes, ...]:
    """From node ``at`` of a row that ends with ``last`` to the root, taking a step with each hash.

    The last of ``hashes`` becomes that of the whole tree; one before it, that of the tree which
    ends with this node. Raises :class:`ProofError` where the proof has another length.
    """
    for step in proof:
        if last == 0:
            raise ProofError("the proof is longer than the tree is high")
        if at & 1 or at == last:
            hashes = tuple(node_hash(step, each) for each in hashes)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            hashes = (*hashes[:-1], node_hash(hashes[-1], step))
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("the proof is shorter than the tree is high")
    return hashes


def _largest_part(leaves: int) -> int:
    """The largest power of two that is less than ``leaves``."""
    return 1 << (leaves - 1).bit_length() - 1


def _span(first: int, last: int) -> tuple[Perfect, ...]:
    """The perfect subtrees of the leaves from ``first`` up to ``last``, from the left.

    ``first`` is where a subtree of at least so many leaves begins, as everywhere in a proof.
    """
    parts: list[Perfect] = []
    while first < last:
        height = (last - first).bit_length() - 1
        parts.append(Perfect(height, first >> height))
        first += 1 << height
    return tuple(parts)
