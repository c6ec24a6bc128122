"""Bundles on real PostgreSQL: what is asked for is in them, all of it is proved, nothing else."""

from __future__ import annotations

import asyncio
import json
import uuid
import zipfile
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from support.bundles import METADATA, Ledger, check, lines_of, names_of, open_ledger

from nbledger_audit import logs
from nbledger_audit.bundles.exporting import NothingToExportError
from nbledger_audit.bundles.lines import named_artifacts
from nbledger_audit.bundles.selecting import HistoryAlteredError
from nbledger_audit.bundles.targets import BundleTarget, TargetTakenError
from nbledger_audit.cosigning import kept
from nbledger_audit.keys import Signer
from nbledger_domain.transparency.erasures import DELETIONS
from nbledger_domain.transparency.notes import COSIGNATURE, read_note
from nbledger_domain.transparency.policies import Policy, read_policy
from nbledger_infrastructure.artifacts.store import Scope as Folder
from nbledger_infrastructure.postgres.event_store import Stream


@pytest.fixture
async def ledger(database_dsn: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    async with open_ledger(database_dsn, tmp_path) as opened:
        yield opened


async def test_a_whole_bundle_has_every_event_and_all_that_proves_it(
    ledger: Ledger, tmp_path: Path
) -> None:
    notebook = await ledger.notebook()
    for _ in range(3):
        await ledger.execution(notebook, 100)
    deleted = await ledger.notebook()
    late = await ledger.execution(deleted)
    await ledger.delete(deleted)
    # It ended after the deletion, and is erased as well.
    await ledger.append(late, "execution.completed.v1", {"secret": 1}, version=3)
    await ledger.store.erase_subject(deleted.subject_id)
    await ledger.seal()
    await ledger.append(notebook, "notebook.renamed.v1", {}, version=1)
    await ledger.append(notebook, "notebook.renamed.v1", {}, version=2)
    other = Ledger(*(getattr(ledger, name) for name in ledger.__struct_fields__))
    other.tenant_id = deleted.stream_id
    await other.notebook()

    manifest = await ledger.export(tmp_path / "bundle")
    told = check(tmp_path / "bundle")
    assert told == json.loads(manifest.encoded())
    assert (told["size"], told["events"], told["whole"], told["streams"]) == (307, 307, True, None)
    assert (told["first"], told["last"], told["context"], told["unsalted"]) == (0, 306, 0, 0)
    assert (told["erased"], told["uncoveredErasures"], told["notYetCovered"]) == (6, 0, 2)
    assert told["artifacts"]["count"] == 3
    assert told["artifacts"]["missing"] == 0
    names = names_of(tmp_path / "bundle")
    assert {name for name in names if name.startswith(("tile/", "proofs/"))} == {
        *(f"tile/{part}/000" for part in ("0", "entries")),
        *(f"tile/{part}/001.p/51" for part in ("0", "entries")),
        "tile/1/000.p/1",
    }
    lines = lines_of(tmp_path / "bundle")
    (deletion,) = (e["entry"] for e in lines if e["entry"]["type"] == "notebook.deleted.v1")
    erased = [line["erased"] for line in lines if "erased" in line]
    assert erased == 6 * [
        {
            "number": deletion["number"],
            "position": deletion["position"],
            "at": deletion["recordedAt"],
            "by": METADATA.actor,
        }
    ]
    assert "secret" not in (tmp_path / "bundle" / "events.jsonl").read_text()


async def test_a_part_has_its_own_events_and_no_entry_of_others(
    ledger: Ledger, tmp_path: Path
) -> None:
    project = (await ledger.notebook()).stream_id
    mine = await ledger.notebook(project)
    first = await ledger.execution(mine, 2)
    for _ in range(3):
        await ledger.execution(await ledger.notebook(), 170)
    last = await ledger.execution(mine, 300)
    await ledger.seal()
    secret = "data of others"
    await ledger.append(last, "execution.more.v1", {"n": secret}, version=300)

    for kind, id_, events, streams in (
        ("project", project, 303, 3),
        ("notebook", mine.stream_id, 303, 3),
        ("execution", first.stream_id, 2, 1),
    ):
        folder = tmp_path / kind
        await ledger.export(folder, kind=kind, id=id_)
        told = check(folder)
        assert (told["whole"], told["events"], told["streams"]) == (False, events, streams)
        assert told["scope"] == {"kind": kind, "id": str(id_), "from": None, "until": None}
        lines = lines_of(folder)
        assert {line["entry"]["project"] for line in lines} == {str(project)}
        heads = {line["entry"]["stream"]: line["entry"]["number"] for line in lines}
        names = names_of(folder)
        assert {name for name in names if name.startswith("proofs/")} == {
            f"proofs/{number}.tlog-proof" for number in heads.values()
        }
        assert not any(name.startswith("tile/entries") for name in names)
        kept = {name for name in names if name.startswith("tile/0/")}
        # Tile 1 has entries of others alone, and is on no path.
        edge = f"tile/0/003.p/{817 - 768}"
        more = set() if kind == "execution" else {"tile/0/002"}
        assert kept == {"tile/0/000", edge} | more
        assert secret not in (folder / "events.jsonl").read_text()
    assert told["first"] == 2


async def test_a_time_range_is_proved_to_be_complete(ledger: Ledger, tmp_path: Path) -> None:
    notebook = await ledger.notebook()
    execution = await ledger.execution(notebook, 5)
    await ledger.seal()
    await ledger.export(tmp_path / "whole")
    at = [_at(line["entry"]["recordedAt"]) for line in lines_of(tmp_path / "whole")]
    instant = timedelta(microseconds=1)

    await ledger.export(tmp_path / "range", since=at[2], until=at[4])
    told = check(tmp_path / "range")
    assert (told["first"], told["last"], told["events"], told["whole"]) == (2, 3, 2, False)
    assert told["scope"]["from"] == lines_of(tmp_path / "range")[0]["entry"]["recordedAt"]
    # Neighbours on both sides, and the last event of the only stream.
    assert _proofs(tmp_path / "range") == {1, 3, 4}

    await ledger.export(tmp_path / "none", since=at[2] + instant, until=at[2] + 2 * instant)
    assert check(tmp_path / "none")["events"] == 0
    assert _proofs(tmp_path / "none") == {2, 3}

    await ledger.export(tmp_path / "end", since=at[4], until=at[-1] + timedelta(days=1))
    assert (check(tmp_path / "end")["first"], _proofs(tmp_path / "end")) == (4, {3, 5})
    await ledger.export(tmp_path / "all", since=at[0])
    assert (check(tmp_path / "all")["events"], _proofs(tmp_path / "all")) == (6, {0, 5})
    await ledger.export(tmp_path / "never", since=at[-1] + timedelta(days=1))
    assert (check(tmp_path / "never")["events"], _proofs(tmp_path / "never")) == (0, {5})

    await ledger.export(
        tmp_path / "part", kind="execution", id=execution.stream_id, since=at[3], until=at[5]
    )
    told = check(tmp_path / "part")
    assert (told["first"], told["last"], _proofs(tmp_path / "part")) == (3, 4, {4})


async def test_the_deletion_comes_along_wherever_it_is(ledger: Ledger, tmp_path: Path) -> None:
    notebook = await ledger.notebook()
    execution = await ledger.execution(notebook, 3)
    await ledger.delete(notebook)
    await ledger.append(execution, "execution.cancelled.v1", {}, version=3)
    await ledger.store.erase_subject(notebook.subject_id)
    await ledger.seal()
    await ledger.export(tmp_path / "whole")
    at = [_at(line["entry"]["recordedAt"]) for line in lines_of(tmp_path / "whole")]
    of = {"kind": "execution", "id": execution.stream_id}
    cases: list[tuple[str, dict[str, Any], list[tuple[int, bool]]]] = [
        ("between", of, [(1, False), (2, False), (3, False), (4, True), (5, False)]),
        ("after", {"until": at[3]}, [(0, False), (1, False), (2, False), (4, True)]),
        ("before", {"since": at[5]}, [(4, True), (5, False)]),
        ("inside", {"since": at[4]}, [(4, False), (5, False)]),
    ]
    for name, scope, expected in cases:
        await ledger.export(tmp_path / name, **scope)
        told = check(tmp_path / name)
        lines = lines_of(tmp_path / name)
        assert [(e["entry"]["number"], "context" in e) for e in lines] == expected, name
        assert {line["erased"]["number"] for line in lines} == {4}
        assert told["context"] == sum(context for _, context in expected)
        assert told["uncoveredErasures"] == 0


async def test_whatever_can_be_deleted_is_erased_by_its_deletion(
    ledger: Ledger, tmp_path: Path
) -> None:
    for deletion in sorted(DELETIONS):
        stream = await ledger.notebook()
        await ledger.append(stream, deletion, {}, version=1)
        await ledger.store.erase_subject(stream.subject_id)
    await ledger.seal()
    told = await ledger.export(tmp_path / "bundle")
    assert (told.erased, told.uncovered_erasures) == (2 * len(DELETIONS), 0)
    check(tmp_path / "bundle")


async def test_data_that_is_gone_without_a_covered_deletion_is_told(
    ledger: Ledger, tmp_path: Path
) -> None:
    notebook = await ledger.notebook()
    await ledger.seal()
    await ledger.delete(notebook)
    told = await ledger.export(tmp_path / "early")
    assert (told.erased, told.uncovered_erasures, told.not_yet_covered) == (1, 1, 1)
    assert lines_of(tmp_path / "early")[0]["erased"] is None
    await ledger.seal()
    told = await ledger.export(tmp_path / "covered")
    assert (told.erased, told.uncovered_erasures) == (2, 0)
    forged = await ledger.notebook()
    # Only its own stream can say that it was deleted.
    other = msgspec.structs.replace(forged, stream_id=uuid.uuid4())
    await ledger.append(other, "notebook.deleted.v1", {}, version=0)
    await ledger.seal()
    await ledger.store.erase_subject(forged.subject_id)
    told = await ledger.export(tmp_path / "forged")
    assert (told.erased, told.uncovered_erasures) == (4, 2)


async def test_events_from_before_salts_are_shown_and_not_proved(
    ledger: Ledger, tmp_path: Path
) -> None:
    notebook = await ledger.notebook()
    await ledger.execution(notebook, 2)
    async with ledger.pool.acquire() as connection:
        await connection.execute(
            "UPDATE event SET formula = 1, salt = NULL, metadata_salt = NULL WHERE position <= 2"
        )
    await ledger.seal()
    await ledger.export(tmp_path / "bundle")
    assert check(tmp_path / "bundle")["unsalted"] == 2
    old = lines_of(tmp_path / "bundle")[0]
    assert json.loads(old["data"])["name"]
    assert old["entry"]["data"] is old["entry"]["chain"] is old["salt"] is None


async def test_artifacts_that_the_store_has_not_are_named(ledger: Ledger, tmp_path: Path) -> None:
    notebook = await ledger.notebook()
    outputs = [await ledger.output(notebook, text) for text in ("kept", "lost", "damaged")]
    await ledger.append(notebook, "notebook.x.v1", {"files": [*outputs, outputs[0]]}, version=1)
    await ledger.append(notebook, "notebook.y.v1", {"again": {"deep": outputs[:1]}}, version=2)
    await ledger.seal()
    kept, lost, damaged = (each["digest"] for each in outputs)
    folder = Folder(notebook.tenant_id, notebook.project_id, notebook.subject_id)
    stored = tmp_path / "artifacts" / folder.prefix
    (stored / lost[:2] / lost).unlink()
    (stored / damaged[:2] / damaged).write_bytes(b"Damaged")
    told = await ledger.export(tmp_path / "bundle")
    check(tmp_path / "bundle")
    assert (told.artifacts.count, told.artifacts.bytes, told.artifacts.missing) == (1, 4, 2)
    _, first, second = lines_of(tmp_path / "bundle")
    assert (first["artifacts"], first["missing"]) == ([kept], sorted((lost, damaged)))
    assert (second["artifacts"], "missing" in second) == ([kept], False)


def test_artifacts_are_named_by_digest_and_size() -> None:
    digest = "ab" * 32
    assert named_artifacts(None) == named_artifacts('{"a": 1}') == []
    assert named_artifacts(json.dumps({"digest": digest})) == []
    assert named_artifacts(json.dumps({"digest": digest.upper(), "size": 1})) == []
    assert named_artifacts(json.dumps([[{"digest": digest, "size": 0}]])) == [digest]


@pytest.mark.guarantee("G43")
async def test_bundles_verify_while_history_goes_on(ledger: Ledger, tmp_path: Path) -> None:
    """Appends, deletions, erasures and checkpoints go on while it is exported, again and again."""
    random = Random(4711)
    over = asyncio.Event()
    notebooks: list[Stream] = []

    async def record() -> None:
        for _ in range(40):
            if len(notebooks) > 2 and random.random() < 0.4:
                await ledger.delete(notebooks.pop(random.randrange(len(notebooks))))
            else:
                notebooks.append(await ledger.notebook(random.choice(projects)))
                await ledger.execution(notebooks[-1], random.randint(1, 20))
        over.set()

    async def sign() -> None:
        while not over.is_set():
            await ledger.seal()
            await asyncio.sleep(0.01)
        await ledger.seal()

    projects = [uuid.uuid4(), uuid.uuid4()]
    await ledger.notebook(projects[0])
    await ledger.seal()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(record())
        tasks.create_task(sign())
        number = 0
        while not over.is_set() or number < 3:
            folder = tmp_path / f"bundle-{number}"
            scope: dict[str, Any] = {"kind": "project", "id": projects[0]} if number % 2 else {}
            told = await ledger.export(folder, wait_seconds=10, **scope)
            # An artifact may be missing whose notebook is deleted while it is exported.
            assert told.uncovered_erasures == 0
            check(folder)
            number += 1
    await ledger.export(tmp_path / "last")
    assert check(tmp_path / "last")["erased"] > 0


async def test_a_policy_without_witnesses_has_no_age_that_nothing_could_show(
    ledger: Ledger, tmp_path: Path
) -> None:
    async with ledger.pool.acquire() as connection:
        await kept.tell_policy(connection, Policy(maximum_age=3600))
    await ledger.notebook()
    await ledger.seal()
    await ledger.export(tmp_path / "bundle")
    assert read_policy((tmp_path / "bundle" / "policy").read_text()).maximum_age is None
    check(tmp_path / "bundle")


async def test_what_others_have_seen_of_the_log_comes_along(ledger: Ledger, tmp_path: Path) -> None:
    witness = Signer.generate(tmp_path / "witness.pem")
    key = witness.key("witness.example.org/w", COSIGNATURE)
    policy = read_policy(f"# maximum-age 3600\nwitness w {key.encoded}\nquorum w\n")
    executions: list[Stream] = []
    sizes: list[int] = []

    async def more(hours: int, *, cosign: bool, stamps: Sequence[bytes] = ()) -> None:
        executions.append(await ledger.execution(notebook, 100))
        await ledger.seal()
        async with ledger.pool.acquire() as connection:
            newest = await logs.newest(connection, ledger.tenant_id)
            assert newest is not None
            sizes.append(newest.size)
            if cosign:
                at = int(datetime.now(UTC).timestamp())
                line = witness.cosign(key.name, read_note(newest.note).text, at)
                await kept.keep(
                    *(connection, ledger.tenant_id, newest.size, line), witness=key, policy=policy
                )
            for number, stamp in enumerate(stamps):
                await connection.execute(
                    "INSERT INTO log_timestamp (tenant_id, stamped_at, size, response) "
                    "VALUES ($1, now() + make_interval(secs => $2), $3, $4)",
                    *(ledger.tenant_id, number, newest.size, stamp),
                )
            await connection.execute(
                "UPDATE log_checkpoint SET signed_at = now() - make_interval(hours => $2) "
                "WHERE tenant_id = $1 AND size = $3",
                *(ledger.tenant_id, hours, newest.size),
            )

    async with ledger.pool.acquire() as connection:
        await kept.tell_policy(connection, policy)
    notebook = await ledger.notebook()
    await more(6, cosign=True)
    await more(5, cosign=False, stamps=[b"first", b"between", b"last"])
    await more(4, cosign=False)
    await more(3, cosign=True)
    await more(3, cosign=True, stamps=[b"only"])
    await more(2, cosign=True, stamps=[b"end"])
    first, second, _, _, fifth, size = sizes
    # It waits for its witness, and so does who looks.
    await more(1, cosign=False)

    await ledger.export(tmp_path / "whole")
    assert check(tmp_path / "whole")["size"] == size
    names = names_of(tmp_path / "whole")
    assert {name for name in names if name.startswith("checkpoint")} == {
        *(f"checkpoints/{each}" for each in (first, second, fifth)),
        *(f"checkpoints/{second}.tsr", f"checkpoints/{second}.last.tsr"),
        *(f"checkpoints/{fifth}.tsr", "checkpoint", "checkpoint.tsr"),
    }
    assert (tmp_path / "whole" / "checkpoints" / f"{second}.last.tsr").read_bytes() == b"last"
    told = (tmp_path / "whole" / "policy").read_text()
    assert read_policy(told).logs[0].key.encoded == ledger.key
    assert read_policy(told).quorum == "w"
    for number, around in ((0, {first}), (1, {first, second}), (3, {second, fifth}), (5, {fifth})):
        folder = tmp_path / f"part-{number}"
        await ledger.export(folder, kind="execution", id=executions[number].stream_id)
        check(folder)
        found = {int(each.stem.split(".")[0]) for each in (folder / "checkpoints").iterdir()}
        assert found == around, number


async def test_a_bundle_has_its_name_only_once_it_is_whole(ledger: Ledger, tmp_path: Path) -> None:
    notebook = await ledger.notebook()
    await ledger.seal()
    (tmp_path / "out").mkdir()
    with pytest.raises(TargetTakenError):
        await ledger.export(tmp_path / "out")
    async with ledger.pool.acquire() as connection:
        await connection.execute("DELETE FROM log_tile")
        with pytest.raises(HistoryAlteredError, match=r"no tile/0/000\.p/1"):
            await ledger.export(tmp_path / "out" / "altered")
        await connection.execute("DELETE FROM event")
        with pytest.raises(HistoryAlteredError, match="position 1 "):
            await ledger.export(tmp_path / "out" / "gone", zipped=True)
    for missing in ("notebook", "execution", "project"):
        with pytest.raises(NothingToExportError):
            await ledger.export(tmp_path / "out" / "no", kind=missing, id=ledger.tenant_id)
    ledger.tenant_id = notebook.stream_id
    with pytest.raises(NothingToExportError, match="no checkpoint"):
        await ledger.export(tmp_path / "out" / "none")
    assert list((tmp_path / "out").iterdir()) == []
    with BundleTarget(tmp_path / "out" / "raced", zipped=False) as target:
        (tmp_path / "out" / "raced").mkdir()
        with pytest.raises(TargetTakenError):
            target.finish()
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["raced"]


async def test_a_zip_has_the_same_files(ledger: Ledger, tmp_path: Path) -> None:
    await ledger.execution(await ledger.notebook(), 3)
    await ledger.seal()
    told = await ledger.export(tmp_path / "bundle.zip", zipped=True)
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    assert check(tmp_path / "unpacked") == json.loads(told.encoded())
    await ledger.export(tmp_path / "bundle")
    assert names_of(tmp_path / "bundle") == names_of(tmp_path / "unpacked")
    assert (tmp_path / "bundle.zip").stat().st_mode & 0o077 == 0
    assert (tmp_path / "bundle").stat().st_mode & 0o077 == 0


def _at(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


def _proofs(folder: Path) -> set[int]:
    return {int(each.name.removesuffix(".tlog-proof")) for each in (folder / "proofs").iterdir()}
