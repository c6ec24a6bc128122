"""The commands of a witness's operator, and a witness that is killed and goes on."""

from __future__ import annotations

import contextlib
import random
import stat
import threading
import time
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from support.tlog import SmallLog, new_signer
from support.witnesses import running

from nbledger.main import main
from nbledger_audit.keys import verify
from nbledger_domain.transparency.checkpoints import read_checkpoint, timestamp_of
from nbledger_domain.transparency.notes import COSIGNATURE, Key, read_note, read_signatures
from nbledger_domain.transparency.witnessing import AddCheckpoint, origin_hash

NAME = "audit.example.com/w1"


def run_nbledger(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def made(folder: Path, log: SmallLog) -> Key:
    """A witness in a folder that knows a log; its key, as the command prints it."""
    done = run_nbledger("witness", "init", folder, "--name", NAME)
    assert done.exit_code == 0, done.stderr
    with (folder / "logs").open("a") as logs:
        logs.write(f"vkey {log.vkey}\n")
    return Key.read(done.stdout.strip())


def test_a_witness_is_a_folder_that_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "witness"
    key = made(folder, SmallLog(new_signer(tmp_path, "log"), "ledger.example.com/log"))
    assert (key.name, key.kind) == (NAME, COSIGNATURE)
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert run_nbledger("witness", "key", folder).stdout == f"{key.encoded}\n"
    again = run_nbledger("witness", "init", folder, "--name", NAME)
    assert (again.exit_code, again.stderr) == (1, f"Error: {folder}/key.pem: File exists\n")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is not like an address"),
        ("a b", "is not like an address"),
        ("w1", "is not like an address"),
        ("audit.example.com/", "is not like an address"),
        ("audit.example.com//w1", "is not like an address"),
        ("audit.example.com/w 1", "is not like an address"),
        ("audit.example.com/w+1", "is not like an address"),
        ("audit.example.com/w1\u200b", "is not like an address"),
        ("/audit.example.com", "is not like an address"),
        ("https://audit.example.com/w1", "has a scheme"),
        (f"audit.example.com/{'w' * 200}", "at most 200 characters"),
    ],
)
def test_a_name_that_stays_for_ever_is_checked(tmp_path: Path, name: str, reason: str) -> None:
    refused = run_nbledger("witness", "init", tmp_path / "other", "--name", name)
    assert refused.exit_code == 1
    assert reason in refused.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["audit.example.com", "Audit.example.com:8443/a/w-1", NAME])
def test_a_name_is_like_an_address(tmp_path: Path, name: str) -> None:
    made = run_nbledger("witness", "init", tmp_path / "w", "--name", name)
    assert Key.read(made.stdout.strip()).name == name


@pytest.mark.parametrize("fault", ["forgotten", "readable by others", "no list", "no witness"])
def test_a_witness_that_must_not_run_says_why(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "witness"
    made(folder, SmallLog(new_signer(tmp_path, "log"), "ledger.example.com/log"))
    expected = {
        "forgotten": f"{folder}/state: No such directory",
        "readable by others": f"{folder}/key.pem: others than its owner can get at it: chmod 600",
        "no list": f"{folder}/logs: line 1: a list of logs begins with logs/v0",
        "no witness": f"{folder}/none/name: No such file or directory",
    }[fault]
    if fault == "forgotten":
        (folder / "state").rmdir()
    elif fault == "readable by others":
        (folder / "key.pem").chmod(0o644)
    elif fault == "no list":
        (folder / "logs").write_text("vkey\n")
    else:
        folder /= "none"
    done = run_nbledger("witness", "run", folder, "--port", "0")
    assert (done.exit_code, done.stderr) == (1, f"Error: {expected}\n")


def test_a_checkpoint_is_checked_by_a_policy(tmp_path: Path) -> None:
    log = SmallLog(new_signer(tmp_path, "log"), "ledger.example.com/log")
    signer = new_signer(tmp_path, "w1")
    key = signer.key("w1", COSIGNATURE).encoded
    policy, checkpoint = tmp_path / "policy", tmp_path / "checkpoint"
    lines = f"# maximum-age 600\nlog {log.vkey}\nwitness w1 {key}\n"
    policy.write_text(f"{lines}quorum w1\n")
    note = log.note(5)

    def checked() -> tuple[int, str]:
        done = run_nbledger("witness", "check", policy, checkpoint)
        return done.exit_code, done.output

    checkpoint.write_text(str(note))
    assert checked() == (
        1,
        f"Error: {checkpoint}: the quorum w1 has not cosigned the checkpoint, but nobody\n",
    )
    now = int(time.time())
    for age, status in ((0, 0), (500, 0), (700, 1)):
        at = now - age
        checkpoint.write_text(str(note.with_signatures([signer.cosign("w1", note.text, at)])))
        code, told = checked()
        assert code == status, told
        assert told.startswith("ledger.example.com/log: 5 entries, signed\ncosigned by w1 at 20")
        assert ("the checkpoint is too old" in told) is bool(status)
    policy.write_text(f"{lines}quorum none\n")
    checkpoint.write_text(str(note))
    code, told = checked()
    assert (code, told.splitlines()[1][:23]) == (0, "no witness has cosigned")
    policy.write_text(lines)
    assert checked() == (1, f"Error: {policy}: there is no quorum line\n")


@pytest.mark.guarantee("G41")
@pytest.mark.timeout(300)
def test_a_witness_that_is_killed_at_any_moment_cosigns_one_history(tmp_path: Path) -> None:
    log = SmallLog(new_signer(tmp_path, "log"), "ledger.example.com/log")
    other = SmallLog(log.signer, log.origin, "another history ")
    folder = tmp_path / "witness"
    key = made(folder, log)
    cosigned: list[int] = []
    for lives in range(3):
        with running(folder) as (process, url), httpx.Client(base_url=url) as client:
            if not lives:
                again = run_nbledger("witness", "run", folder, "--port", "0")
                assert again.exit_code == 3
                assert f"is locked by process {process.pid}" in again.stderr
            # Soon after the witness begins to answer, or while it keeps what it answers next.
            process_ends = threading.Timer(random.uniform(0.0, 0.03), process.kill)
            with contextlib.suppress(httpx.TransportError):
                for size in range(len(cosigned) + 1, 700):
                    if len(cosigned) % 5 == 4:
                        assert _ask(client, other.request(0, size))[0] == 409
                        assert _ask(client, other.request(size - 1, size))[0] == 422
                    cosigned.append(_cosigned(client, log, key, size))
                    if size % 5 == 1 and process_ends.ident is None:
                        process_ends.start()
            process_ends.join()
    assert cosigned == sorted(cosigned)
    size = len(cosigned)
    assert size >= 3
    with running(folder) as (_, url), httpx.Client(base_url=url) as client:
        told = read_note(client.get(f"/{origin_hash(log.origin)}/checkpoint").text)
        last = read_checkpoint(told)
        # What was kept and not answered may be one ahead.
        assert last == log.checkpoint(last.size)
        assert last.size in {size, size + 1}
        assert _ask(client, other.request(0, 9)) == (409, f"{last.size}\n")
        assert _ask(client, log.request(last.size, 699))[0] == 200


def _cosigned(client: httpx.Client, log: SmallLog, key: Key, size: int) -> int:
    """Have one more entry cosigned; returns when it was."""
    status, body = _ask(client, log.request(size - 1, size))
    if status == 409:  # it was kept, and the witness killed before it answered
        assert body == f"{size}\n"
        status, body = _ask(client, log.request(size, size))
    assert status == 200, body
    (cosignature,) = read_signatures(body)
    assert verify(key, log.note(size).text.encode(), cosignature)
    return timestamp_of(cosignature) or 0


def _ask(client: httpx.Client, request: AddCheckpoint) -> tuple[int, str]:
    answer = client.post("/add-checkpoint", content=str(request).encode())
    return answer.status_code, answer.text
