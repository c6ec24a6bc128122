"""What a witness decides: it cosigns one history of a log, whatever it is asked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.tlog import SmallLog, new_signer

from nbledger_audit.keys import Signer, verify
from nbledger_audit.witness import cosigner
from nbledger_audit.witness.cosigner import Cosigner, KnownLogs
from nbledger_audit.witness.memory import WitnessMemory
from nbledger_domain.transparency.checkpoints import read_checkpoint, timestamp_of
from nbledger_domain.transparency.notes import Key, Note, Signature, read_note, read_signatures
from nbledger_domain.transparency.witnessing import AddCheckpoint, origin_hash
from nbledger_infrastructure.locks import LockHeldError

ORIGIN = "ledger.example.com/log"
NAME = "audit.example.com/w1"


class Scene:
    """A witness that knows a log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1_000_000.0
        self.log = SmallLog(new_signer(folder, "log"), ORIGIN)
        self.signer = new_signer(folder, "witness")
        (folder / "logs").write_text(f"logs/v0\nvkey {self.log.vkey}\n")
        (folder / "state").mkdir()
        self.start()

    def start(self) -> None:
        """Start, again after an end."""
        self.memory = WitnessMemory(self.folder / "state")
        logs = KnownLogs(self.folder / "logs")
        self.cosigner = Cosigner(NAME, self.signer, logs, self.memory, now=lambda: self.now)

    def ask(self, request: AddCheckpoint | str) -> tuple[int, str]:
        answer = self.cosigner.add_checkpoint(str(request).encode())
        expected = "text/x.tlog.size" if answer.status == 409 else "text/plain; charset=utf-8"
        assert answer.media_type == expected
        return answer.status, answer.body

    def cosigned(self, request: AddCheckpoint) -> int:
        """Ask, and check the cosignature; returns its time."""
        status, body = self.ask(request)
        assert status == 200, body
        (cosignature,) = read_signatures(body)
        assert cosignature.is_of(self.cosigner.key)
        assert verify(self.cosigner.key, request.note.text.encode(), cosignature)
        return timestamp_of(cosignature) or 0


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.guarantee("G41")
def test_each_checkpoint_is_cosigned_that_goes_on_from_the_last(scene: Scene) -> None:
    for old, size in ((0, 0), (0, 3), (3, 3), (3, 256), (256, 300)):
        scene.now += 10
        assert scene.cosigned(scene.log.request(old, size)) == scene.now
        assert scene.ask(scene.log.request(1, 300)) == (409, f"{size}\n")
    kept = scene.cosigner.checkpoint(origin_hash(ORIGIN))
    note = read_note(kept.body)
    assert read_checkpoint(note) == scene.log.checkpoint(300)
    keys = [Key.read(scene.log.vkey), scene.cosigner.key]
    assert note.signed_by(keys, verify) == tuple(keys)
    assert scene.cosigner.checkpoint(origin_hash("another")).status == 404


@pytest.mark.guarantee("G41")
def test_of_two_histories_of_a_log_one_is_cosigned(scene: Scene) -> None:
    other = SmallLog(scene.log.signer, ORIGIN, "another history ")
    scene.cosigned(scene.log.request(0, 5))
    with capture_logs() as told:
        assert scene.ask(other.request(5, 5))[0] == 422
        assert scene.ask(other.request(5, 9))[0] == 422
        assert scene.ask(AddCheckpoint(5, scene.log.proof(5, 9), other.note(9)))[0] == 422
        assert scene.ask(AddCheckpoint(6, (), other.note(5)))[0] == 400
    # What the log signed proves that it has shown two histories.
    assert [each["checkpoint"] for each in told][:2] == [
        other.checkpoint(5).text,
        other.checkpoint(9).text,
    ]
    assert scene.ask(other.request(0, 9)) == (409, "5\n")
    scene.memory.close()
    scene.start()
    assert scene.ask(other.request(0, 9)) == (409, "5\n")
    scene.cosigned(scene.log.request(5, 9))


def test_logs_and_keys_that_are_unknown_are_refused(scene: Scene) -> None:
    unknown = SmallLog(scene.log.signer, "ledger.example.com/unknown")
    assert scene.ask(unknown.request(0, 5))[0] == 404
    stranger = SmallLog(scene.signer, ORIGIN)
    assert scene.ask(stranger.request(0, 5))[0] == 403
    request = scene.log.request(0, 5)
    false = Note(request.note.text, (scene.log.note(6).signatures[0],))
    assert scene.ask(AddCheckpoint(0, (), false))[0] == 403
    second = request.note.with_signatures(false.signatures)
    assert scene.ask(AddCheckpoint(0, (), second))[0] == 403
    # Who has signed it comes before what was cosigned last.
    scene.cosigned(request)
    assert scene.ask(stranger.request(3, 9))[0] == 403
    assert scene.ask(scene.log.request(3, 9)) == (409, "5\n")
    # Beside the log's own, signatures of others do not matter, as long as they have the form.
    others = (stranger.note(5).signatures[0], Signature("who", b"1234", b"what"))
    note = request.note.with_signatures(others)
    scene.cosigned(AddCheckpoint(5, (), note))
    kept = read_note(scene.cosigner.checkpoint(origin_hash(ORIGIN)).body)
    assert {each.name for each in kept.signatures} == {ORIGIN, NAME}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n",
        b"\xff\xfe",
        b"old 0\n\nnote",
        b"old 0\n\norigin\n5\n\n\xe2\x80\x94 a AAAAAAAA\n",
        b"old 0\n\n\n\norigin\n5\nAAAA\n\n\xe2\x80\x94 a AAAAAAAA\n",
    ],
)
def test_what_is_no_request_is_refused(scene: Scene, body: bytes) -> None:
    assert scene.cosigner.add_checkpoint(body).status == 400


def test_the_list_of_logs_is_read_anew_when_it_has_changed(scene: Scene) -> None:
    second = SmallLog(new_signer(scene.folder, "second"), "ledger.example.com/second")
    replaced = SmallLog(new_signer(scene.folder, "third"), ORIGIN)
    assert scene.ask(second.request(0, 5))[0] == 404
    logs = scene.folder / "logs"
    logs.write_text(f"{logs.read_text()}vkey {second.vkey}\nvkey {replaced.vkey}\n")
    scene.cosigned(second.request(0, 5))
    scene.cosigned(replaced.request(0, 5))
    scene.cosigned(scene.log.request(5, 6))
    with capture_logs() as told:
        logs.write_text("logs/v0\nvkey broken\n")
        scene.cosigned(second.request(5, 6))
        logs.unlink()
        scene.cosigned(second.request(6, 7))
    assert [each["event"] for each in told if each["log_level"] == "warning"] == [
        "logs not read",
        "logs not read",
    ]
    logs.write_text(f"logs/v0\nvkey {second.vkey}\n")
    assert scene.ask(scene.log.request(6, 7))[0] == 404


def test_no_cosignature_is_dated_before_the_last_one(scene: Scene) -> None:
    scene.cosigned(scene.log.request(0, 5))
    scene.now -= 200
    assert scene.cosigned(scene.log.request(5, 6)) == 1_000_000
    scene.now -= 200
    with capture_logs() as told:
        assert scene.ask(scene.log.request(6, 7))[0] == 500
    assert told[0]["event"] == "cannot cosign"
    scene.now += 1_000
    assert scene.cosigned(scene.log.request(6, 7)) == scene.now


@pytest.mark.guarantee("G41")
@pytest.mark.parametrize("damage", ["cut", "altered", "of another log", "of another witness"])
def test_a_witness_whose_memory_is_damaged_does_not_cosign(scene: Scene, damage: str) -> None:
    scene.cosigned(scene.log.request(0, 5))
    file = scene.folder / "state" / origin_hash(ORIGIN)
    other = SmallLog(scene.log.signer, "ledger.example.com/other")
    told = {
        "cut": file.read_text()[:-30],
        "altered": file.read_text().replace("\n5\n", "\n3\n"),
        "of another log": str(_cosigned(other.note(5), scene.signer)),
        "of another witness": str(_cosigned(scene.log.note(3), scene.log.signer)),
    }[damage]
    file.write_text(told)
    with capture_logs() as logged:
        assert scene.ask(scene.log.request(5, 6))[0] == 500
        assert scene.ask(scene.log.request(0, 6))[0] == 500
    assert {each["event"] for each in logged} == {"cannot cosign"}


def _cosigned(note: Note, signer: Signer) -> Note:
    return note.with_signatures([signer.cosign(NAME, note.text, 1)])


@pytest.mark.guarantee("G41")
def test_of_requests_at_once_one_is_cosigned(scene: Scene) -> None:
    other = SmallLog(scene.log.signer, ORIGIN, "another history ")
    begin = threading.Barrier(8)

    def ask(number: int) -> int:
        log = (scene.log, other)[number % 2]
        begin.wait(30)
        return scene.ask(log.request(0, 5 + number))[0]

    with ThreadPoolExecutor(8) as executor:
        answers = sorted(executor.map(ask, range(8)))
    assert answers == [200, *[409] * 7]


def test_one_witness_at_a_time_works_on_a_folder(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(LockHeldError):
        WitnessMemory(tmp_path / "state")
    scene.memory.close()
    WitnessMemory(tmp_path / "state").close()
    with pytest.raises(FileNotFoundError):
        WitnessMemory(tmp_path / "forgotten")


def test_what_cannot_be_kept_is_not_cosigned(scene: Scene) -> None:
    scene.cosigned(scene.log.request(0, 5))
    # Where the next state is written first.
    (scene.folder / "state" / f"{origin_hash(ORIGIN)}.new").mkdir()
    with capture_logs():
        assert scene.ask(scene.log.request(5, 6))[0] == 500
    assert scene.ask(scene.log.request(0, 6)) == (409, "5\n")


@pytest.mark.guarantee("G41")
def test_signatures_that_are_repeated_stop_no_witness(scene: Scene) -> None:
    note = scene.log.note(5)
    repeated = Note(note.text, note.signatures * 100)
    scene.cosigned(AddCheckpoint(0, (), repeated))
    scene.cosigned(AddCheckpoint(5, (), repeated))
    kept = read_note(scene.cosigner.checkpoint(origin_hash(ORIGIN)).body)
    assert [each.name for each in kept.signatures] == [ORIGIN, NAME]
    scene.memory.close()
    scene.start()
    scene.cosigned(scene.log.request(5, 9))


@pytest.mark.guarantee("G41")
def test_what_a_witness_has_kept_is_read_however_many_signatures_it_has(scene: Scene) -> None:
    note = scene.log.note(5)
    cosigned = _cosigned(Note(note.text, note.signatures * 100), scene.signer)
    (scene.folder / "state" / origin_hash(ORIGIN)).write_text(str(cosigned))
    scene.cosigned(scene.log.request(5, 9))


def test_one_signature_of_each_key_is_verified(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []

    def counting(key: Key, text: bytes, signature: Signature) -> bool:
        verified.append(key.name)
        return verify(key, text, signature)

    monkeypatch.setattr(cosigner, "verify", counting)
    note = scene.log.note(5)
    scene.cosigned(AddCheckpoint(0, (), Note(note.text, note.signatures * 100)))
    assert verified == [ORIGIN]
    verified.clear()
    false = tuple(Signature(ORIGIN, note.signatures[0].key_id, bytes([n]) * 64) for n in range(99))
    several = Note(note.text, (*note.signatures, *false))
    assert scene.ask(AddCheckpoint(5, (), several))[0] == 403
    assert verified == []
