"""Trust policies, as C2SP tlog-policy defines them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tlog import SmallLog, new_signer

from nbledger_audit.keys import Signer, verify
from nbledger_domain.transparency.notes import COSIGNATURE, ML_DSA_44, Key, Note, NoteError
from nbledger_domain.transparency.policies import (
    Policy,
    PolicyError,
    UntrustedCheckpointError,
    read_policy,
)

LOG = Key("ledger.example.com/log", 1, bytes(range(32))).encoded


def vkey(number: int, kind: int = COSIGNATURE) -> str:
    return Key(f"witness.example/w{number}", kind, bytes((number,)) * 32).encoded


# The example of the specification, with keys in the place of those it leaves out.
EXAMPLE = f"""
log {LOG}

witness X1 {vkey(1)}
witness X2 {vkey(2)}
witness X3 {vkey(3)}
group X-witnesses 2 X1 X2 X3

witness Y1 {vkey(4)}
witness Y2 {vkey(5)}
witness Y3 {vkey(6)}
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""


def test_the_example_of_the_specification_needs_two_of_x_and_one_of_y() -> None:
    policy = read_policy(EXAMPLE)
    assert [log.key.encoded for log in policy.logs] == [LOG]
    assert [each.name for each in policy.witnesses] == ["X1", "X2", "X3", "Y1", "Y2", "Y3"]
    assert (policy.quorum, policy.maximum_age) == ("X-and-Y", None)
    for chosen in itertools.product((False, True), repeat=6):
        names = [each.name for each, taken in zip(policy.witnesses, chosen, strict=True) if taken]
        enough = sum(chosen[:3]) >= 2 and any(chosen[3:])
        assert policy.is_witnessed(names) is enough, names
    assert not policy.is_witnessed(["X-and-Y", "X-witnesses", "Y-witnesses", "Z"])


def test_a_policy_that_is_written_reads_back() -> None:
    told = EXAMPLE.replace("quorum", "# maximum-age 3600\nquorum") + "\t# a word  \n"
    told = told.replace(LOG, f"{LOG} https://ledger.example.com/log")
    policy = read_policy(told)
    assert policy.maximum_age == 3600
    assert policy.logs[0].url == "https://ledger.example.com/log"
    assert read_policy(str(policy)) == policy
    assert str(policy).splitlines()[1:4] == [
        "# maximum-age 3600",
        f"log {LOG} https://ledger.example.com/log",
        f"witness X1 {vkey(1)}",
    ]
    assert read_policy("quorum none") == Policy()
    assert read_policy(str(Policy())) == Policy()


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("", "no quorum"),
        ("quorum none\nquorum none", "line 2: there is a second quorum"),
        ("quorum w", "w is not defined above"),
        ("quorum", "must be: quorum"),
        ("quorum none none", "must be: quorum"),
        (f"quorum w\nwitness w {vkey(1)}", "line 1: w is not defined above"),
        ("max-age 1\nquorum none", "'max-age' is none of"),
        ("# maximum-age 1\n#maximum-age 2\nquorum none", "second maximum age"),
        (f"log {LOG}\nlog {LOG}\nquorum none", "line 2: the public key of .* is there already"),
        (f"log {vkey(1)}\nquorum none", "is of type 4"),
        (f"log {LOG} a b\nquorum none", "must be: log"),
        ("log x\nquorum none", "a key is"),
        (f"log {Key('l', 1, b'short').encoded}\nquorum none", "has 5 bytes"),
        (f"witness w {LOG}\nquorum none", "is of type 1"),
        (f"witness {vkey(1)}\nquorum none", "must be: witness"),
        (f"witness none {vkey(1)}\nquorum none", "the name none is taken"),
        (f"witness w {vkey(1)}\nwitness w {vkey(2)}\nquorum w", "the name w is taken"),
        (f"witness w {vkey(1)}\nwitness v {vkey(1)}\nquorum w", "is there already"),
        (f"witness w {vkey(1)}\ngroup w 1 w\nquorum w", "the name w is taken"),
        (f"witness w {vkey(1)}\ngroup g 2 w\nquorum g", "'2' is neither"),
        (f"witness w {vkey(1)}\ngroup g 0 w\nquorum g", "'0' is neither"),
        (f"witness w {vkey(1)}\ngroup g 01 w\nquorum g", "'01' is neither"),
        (f"witness w {vkey(1)}\ngroup g most w\nquorum g", "'most' is neither"),
        (f"witness w {vkey(1)}\ngroup g any\nquorum g", "must be: group"),
        (f"witness w {vkey(1)}\ngroup g any w w\nquorum g", "w is a member already"),
        (
            f"witness w {vkey(1)}\ngroup g any w\ngroup h any w\nquorum g",
            "line 3: w is a member already",
        ),
        (f"witness w {vkey(1)}\ngroup g any w none\nquorum g", "none is not defined above"),
        (f"witness w {vkey(1)}\ngroup g any w g\nquorum g", "g is not defined above"),
        ("quorum none\r\n", "control characters"),
        ("quorum none\x7f", "control characters"),
        ("quorum\u00a0none", "is none of log"),
    ],
)
def test_what_is_no_policy_says_where(told: str, reason: str) -> None:
    with pytest.raises(PolicyError, match=reason):
        read_policy(told)


def test_blanks_comments_and_names_of_any_octets_are_taken() -> None:
    name = b"\xff\xe2\x84\xaa".decode("utf-8", "surrogateescape")
    told = (
        f"  # K and \u212a\n\n\twitness\t {name}  {vkey(1)} \n witness K {vkey(2)}\nquorum {name}"
    )
    policy = read_policy(told)
    assert policy.is_witnessed([name])
    assert not policy.is_witnessed(["K"])
    post_quantum = Key("w", ML_DSA_44, bytes(1312)).encoded
    assert read_policy(f"witness w {post_quantum}\nquorum w").witnesses[0].key.kind == ML_DSA_44


def test_a_policy_of_many_witnesses_and_groups_is_taken() -> None:
    lines = [f"witness w{number} {vkey(number)}" for number in range(200)]
    lines.append("group g0 any w0")
    lines += [f"group g{number} all g{number - 1} w{number}" for number in range(1, 200)]
    policy = read_policy("\n".join([*lines, "quorum g199"]))
    everybody = [each.name for each in policy.witnesses]
    assert policy.is_witnessed(everybody)
    assert not policy.is_witnessed(everybody[1:])


@given(st.dictionaries(st.sampled_from(["X1", "X2", "X3", "Y1", "Y2", "Y3"]), st.integers(1, 9)))
def test_the_time_of_a_checkpoint_is_the_latest_with_a_quorum(times: dict[str, int]) -> None:
    policy = read_policy(EXAMPLE)
    of_x = sorted((times[each] for each in times if each[0] == "X"), reverse=True)
    of_y = [times[each] for each in times if each[0] == "Y"]
    expected = min(of_x[1], max(of_y)) if len(of_x) > 1 and of_y else None
    assert policy.witnessed_at(times) == expected
    newest = max(times.values(), default=None)
    assert Policy(witnesses=policy.witnesses).witnessed_at(times) == newest


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Signer]:
    folder: Path = tmp_path_factory.mktemp("keys")
    return {name: new_signer(folder, name) for name in ("log", "w1", "w2", "other")}


@pytest.mark.guarantee("G41")
def test_a_checkpoint_is_judged_by_who_signed_it(keys: dict[str, Signer]) -> None:
    log = SmallLog(keys["log"], "ledger.example.com/log")
    told = "\n".join(
        [
            f"log {log.vkey}",
            *(
                f"witness {each} {keys[each].key(each, COSIGNATURE).encoded}"
                for each in ("w1", "w2")
            ),
            "group both all w1 w2",
            "quorum both",
        ]
    )
    policy, note = read_policy(told), log.note(5)
    first, second = (
        keys[each].cosign(each, note.text, at) for each, at in (("w1", 1000), ("w2", 2000))
    )
    foreign = keys["other"].cosign("other", note.text, 9000)
    verdict = policy.judge(note.with_signatures([first, foreign, second]), verify)
    assert verdict.checkpoint == log.checkpoint(5)
    assert verdict.key.encoded == log.vkey
    assert (verdict.times, verdict.witnessed_at) == ({"w1": 1000, "w2": 2000}, 1000)
    renewed = keys["w1"].cosign("w1", note.text, 3000)
    for signatures in ([first, second, renewed], [renewed, second, first]):
        verdict = policy.judge(note.with_signatures(signatures), verify)
        assert verdict.witnessed_at == 2000
    with pytest.raises(UntrustedCheckpointError, match="both has not cosigned"):
        policy.judge(note.with_signatures([first, foreign]), verify)
    with pytest.raises(UntrustedCheckpointError, match="no known log"):
        policy.judge(SmallLog(keys["other"], log.origin).note(5), verify)
    # A known log that signs a checkpoint of another origin.
    other = SmallLog(keys["log"], "ledger.example.com/other")
    with pytest.raises(UntrustedCheckpointError, match="no known log"):
        policy.judge(other.note(5), verify)
    text = other.note(5).text
    in_its_name = Note(text, (keys["log"].sign(log.origin, text),))
    with pytest.raises(UntrustedCheckpointError, match="no known log"):
        policy.judge(in_its_name, verify)
    of_another_size = keys["w2"].cosign("w2", log.note(6).text, 2000)
    with pytest.raises(NoteError, match="a signature of w2 is false"):
        policy.judge(note.with_signatures([first, second, of_another_size]), verify)
    none = read_policy(f"log {log.vkey}\nquorum none")
    assert none.judge(note, verify).witnessed_at is None
