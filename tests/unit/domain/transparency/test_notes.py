"""Signed notes, checkpoints and proofs in files, as C2SP defines them."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbledger_domain.transparency import merkle
from nbledger_domain.transparency.checkpoints import (
    LogCheckpoint,
    cosigned,
    read_checkpoint,
    timestamp_of,
)
from nbledger_domain.transparency.notes import (
    COSIGNATURE,
    ED25519,
    Key,
    Note,
    NoteError,
    Signature,
    read_note,
)
from nbledger_domain.transparency.proofs import EntryProof, read_proof

# The example of the specification of checkpoints.
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zh"
    "cyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX"
    "3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)

names = st.text(
    st.characters(categories=("L", "M", "N", "P", "S"), exclude_characters="+"),
    min_size=1,
    max_size=20,
)
texts = st.text(
    st.characters(categories=("L", "M", "N", "P", "S", "Z")) | st.just("\n"), max_size=60
)


def test_the_example_of_the_specification() -> None:
    note = read_note(EXAMPLE)
    assert str(note) == EXAMPLE
    checkpoint = read_checkpoint(note)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text == note.text
    log, witness = note.signatures
    assert (log.name, log.key_id.hex(), len(log.signed)) == (checkpoint.origin, "033de0ae", 64)
    assert witness.name == "witness.example.com/w1"
    assert timestamp_of(witness) == 1679315147
    assert timestamp_of(log) is None
    assert cosigned(note.text.encode(), 1679315147).decode() == (
        f"cosignature/v1\ntime 1679315147\n{note.text}"
    )


@given(names, st.sampled_from([ED25519, COSIGNATURE]), st.binary(min_size=32, max_size=32))
def test_a_key_reads_back(name: str, kind: int, public: bytes) -> None:
    key = Key(name, kind, public)
    assert Key.read(key.encoded) == key
    assert key.key_id != Key(f"{name}x", kind, public).key_id
    assert key.key_id != Key(name, 5 - kind, public).key_id


@pytest.mark.parametrize(
    "encoded",
    ["", "name", "name+00000000", "name+00000000+", "name+00000000+AQID", "na me+0+AQ==",
     "+7f8b4a52+AQID"],
)  # fmt: skip
def test_what_is_no_key(encoded: str) -> None:
    with pytest.raises(NoteError):
        Key.read(encoded)


@given(
    texts.map(lambda text: f"{text}\n"),
    st.lists(st.tuples(names, st.binary(min_size=5, max_size=80)), min_size=1, max_size=4),
)
def test_a_note_reads_back(text: str, signed: list[tuple[str, bytes]]) -> None:
    signatures = tuple(Signature(name, each[:4], each[4:]) for name, each in signed)
    note = Note(text, signatures)
    assert read_note(str(note)) == note
    assert note.with_signatures(signatures) == note


@pytest.mark.parametrize(
    "told",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\n— name",
        "text\n\n— name AAAAAAA=",
        "text\n\n— name AAAA\n",
        "text\n\n- name AAAAAAA=\n",
        "text\n\n— na+me AAAAAAA=\n",
        "text\n\n—  AAAAAAA=\n",
        "text\n\n— name AAAAAAB=\n",
        "te\rxt\n\n— name AAAAAAA=\n",
        "te\txt\n\n— name AAAAAAA=\n",
        "text\n\n" + "— name AAAAAAA=\n" * 101,
    ],
)
def test_what_is_no_note(told: str) -> None:
    with pytest.raises(NoteError):
        read_note(told)


def test_who_signed_a_note() -> None:
    one, other = Key("one", ED25519, b"1" * 32), Key("other", ED25519, b"2" * 32)

    def verify(key: Key, text: bytes, signature: Signature) -> bool:
        return signature.signed == key.public + text

    def by(key: Key, text: str = "text\n") -> Signature:
        return Signature(key.name, key.key_id, key.public + text.encode())

    note = Note("text\n", (by(one), by(Key("one", COSIGNATURE, b"3" * 32), "lies")))
    assert note.signed_by([one, other], verify) == (one,)
    assert note.with_signatures([by(other)]).signed_by([one, other], verify) == (one, other)
    with pytest.raises(NoteError, match="other is false"):
        note.with_signatures([by(other, "lies")]).signed_by([one, other], verify)


@pytest.mark.parametrize(
    "text",
    [
        "origin\n1\n",
        "origin\n01\n" + "A" * 43 + "=\n",
        "origin\n-1\n" + "A" * 43 + "=\n",
        "origin\n1\n" + "A" * 40 + "\n",
        "origin\n1\nno base64\n",
        "\n1\n" + "A" * 43 + "=\n",
        "origin\n1\n" + "A" * 43 + "=\n\nmore\n",
        "origin\n" + "9" * 30 + "\n" + "A" * 43 + "=\n",
    ],
)
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(NoteError):
        read_checkpoint(Note(text, ()))


def test_extensions_of_a_checkpoint_are_passed_over() -> None:
    checkpoint = LogCheckpoint("origin", 0, merkle.EMPTY)
    assert read_checkpoint(Note(f"{checkpoint.text}more\n", ())) == checkpoint


def proof(index: int = 1) -> EntryProof:
    leaves = [merkle.leaf_hash(each) for each in (b"a", b"b", b"c")]
    root = merkle.node_hash(merkle.node_hash(*leaves[:2]), leaves[2])
    signed = (Signature("origin", b"1234", b"5"),)
    note = Note(LogCheckpoint("origin", 3, root).text, signed)
    return EntryProof(index, (leaves[0], leaves[2]), note)


def test_a_proof_in_a_file() -> None:
    told = str(proof())
    assert told.startswith("c2sp.org/tlog-proof@v1\nindex 1\n")
    assert read_proof(told) == proof()
    with_extra = told.replace("\nindex", "\nextra AAAA\nindex")
    assert read_proof(with_extra) == msgspec.structs.replace(proof(), extra=bytes(3))
    assert str(read_proof(with_extra)) == with_extra
    assert proof().check(b"b").size == 3
    for wrong, entry in ((proof(), b"a"), (proof(0), b"b"), (proof(2), b"b")):
        with pytest.raises(merkle.ProofError):
            wrong.check(entry)
    alone = EntryProof(0, (), proof().checkpoint)
    assert read_proof(str(alone)) == alone


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("@v1", "@v2"),
        ("index 1", "index 01"),
        ("index 1\n", ""),
        ("index 1\n", "index 1\nAAAA\n"),
        ("index 1\n", "index 1\n!\n"),
        ("index 1\n", "index 1\n" + f"{base64.b64encode(b'x' * 32).decode()}\n" * 64),
        ("\n\n", "\n"),
        ("— origin", "- origin"),
    ],
)
def test_what_is_no_proof(part: str, instead: str) -> None:
    told = str(proof())
    assert part in told
    with pytest.raises(NoteError):
        read_proof(told.replace(part, instead))
