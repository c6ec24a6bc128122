"""Bundles that are made without a database, and altered: true ones, and every kind of false one."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import uuid
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from nbledger_audit.keys import Signer
from nbledger_domain.transparency import merkle, tiles
from nbledger_domain.transparency.checkpoints import LogCheckpoint, origin_of
from nbledger_domain.transparency.notes import COSIGNATURE, Note

TENANT: Final = uuid.UUID(int=1)
ORIGIN: Final = origin_of("ledger.example.com", TENANT)
START: Final = datetime(2026, 1, 1, tzinfo=UTC)
EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
LINK: Final = stat.S_IFLNK | 0o777
DELETED: Final = "notebook.deleted.v1"

Line = dict[str, Any]


def signer(name: str) -> Signer:
    """The signer of this name, always the same one."""
    seed = hashlib.sha256(name.encode()).digest()
    return Signer(Ed25519PrivateKey.from_private_bytes(seed))


def key(name: str) -> str:
    """The key of a witness of this name."""
    return signer(name).key(name, COSIGNATURE).encoded


LOG: Final = signer("log").key(ORIGIN).encoded
POLICY: Final = (
    f"# whom to trust\n\nlog {signer('old').key(ORIGIN).encoded}\nlog {LOG} https://ledger\n"
    + "".join(f"witness {name} {key(name)}\n" for name in ("w1", "w2", "w3"))
    + "group two 2 w1 w2 w3\n \t\nquorum two\n"
)


def when(seconds: float) -> str:
    """A time after the start, as entries have it."""
    return (START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def unix(seconds: float) -> int:
    """The same in seconds since 1970."""
    return int(START.timestamp() + seconds)


def digest(salt: str, text: str) -> str:
    return hashlib.sha256(base64.b64decode(salt) + text.encode()).hexdigest()


def event(number: int, stream: int, version: int, *, subject: int = 0, **changes: Any) -> Line:
    """A line, of which digests and chain are still to be computed. One event is ten seconds."""
    salt, other = (hashlib.sha256(b"%d" % (2 * number + at)).digest()[:16] for at in (0, 1))
    entry = {
        "chain": "",
        "data": "",
        "id": str(uuid.UUID(int=1000 + number)),
        "metadata": "",
        "number": number,
        "occurredAt": when(10 * number - 0.25),
        "position": 2 * number + 1,
        "project": str(uuid.UUID(int=2)),
        "recordedAt": when(10 * number),
        "stream": str(uuid.UUID(int=100 + stream)),
        "subject": str(uuid.UUID(int=100 + subject)),
        "tenant": str(TENANT),
        "type": "thing.happened.v1",
        "v": 1,
        "version": version,
        **changes,
    }
    return {
        "entry": entry,
        "data": json.dumps({"n": number, "text": "Größe\n\u2028"}, ensure_ascii=False),
        "salt": base64.b64encode(salt).decode(),
        "metadata": json.dumps({"actor": f"user-{number}", "requestId": "r"}),
        "metadataSalt": base64.b64encode(other).decode(),
    }


def history(count: int = 20) -> list[Line]:
    """Three streams in turns; the second is deleted by its event number 7, of somebody's behalf."""
    lines = [event(n, n % 3, n // 3 + 1, subject=n % 3) for n in range(count)]
    if count > 7:
        deletion = lines[7]
        deletion["entry"]["type"] = DELETED
        deletion["metadata"] = json.dumps({"actor": "nbledger", "onBehalfOf": "user-7"})
        recompute(lines)
        for line in lines[1:14:3]:
            erase(line, deletion)
    return recompute(lines)


def erase(line: Line, deletion: Line, by: str = "user-7") -> None:
    """Take the data of a line, as its deletion does."""
    entry = deletion["entry"]
    told = [entry[name] for name in ("number", "position", "recordedAt")]
    line |= {"data": None, "salt": None}
    line["erased"] = dict(zip(("number", "position", "at", "by"), (*told, by), strict=True))


def recompute(lines: Sequence[Line], *, digests: bool = True) -> list[Line]:
    """Compute digests and chains anew, as the owner of a database can."""
    heads: dict[str, str] = {}
    for line in lines:
        entry = line["entry"]
        if entry["chain"] is None:
            heads[entry["stream"]] = ""
            continue
        if digests:
            if line["data"] is not None:
                entry["data"] = digest(line["salt"], line["data"])
            entry["metadata"] = digest(line["metadataSalt"], line["metadata"])
        before = heads.get(entry["stream"], "0" * 64)
        if before or not entry["chain"]:
            entry["chain"] = hashlib.sha256(bytes.fromhex(before) + link(entry)).hexdigest()
        heads[entry["stream"]] = entry["chain"]
    return list(lines)


def link(entry: Mapping[str, Any]) -> bytes:
    """What an event adds to its chain."""

    def of(name: str) -> bytes:
        return uuid.UUID(entry[name]).bytes

    def since(name: str) -> bytes:
        at = datetime.fromisoformat(entry[name]) - EPOCH
        return (at // timedelta(microseconds=1)).to_bytes(8, "big", signed=True)

    return b"".join(
        (
            b"\x02" + bytes.fromhex(entry["data"]) + of("id") + of("stream"),
            entry["version"].to_bytes(4, "big") + of("subject") + of("tenant") + of("project"),
            entry["position"].to_bytes(8, "big") + bytes.fromhex(entry["metadata"]),
            since("occurredAt") + since("recordedAt") + entry["type"].encode(),
        )
    )


def canonical(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()


def written(line: Line) -> bytes:
    """A line as exports write it."""
    rest = {name: value for name, value in line.items() if name != "entry"}
    told = json.dumps(rest, ensure_ascii=False, separators=(",", ":"))
    return b'{"entry":' + canonical(line["entry"]) + b"," + told[1:].encode() + b"\n"


def tree(entries: Sequence[bytes]) -> tuple[dict[str, bytes], bytes]:
    """The tiles of a log, by their paths, and its root."""
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    kept = tiles.append({}, 0, leaves)
    (root,) = tiles.proof_of((merkle.root(len(leaves)),), kept)
    files = {
        f"tile/{tile.level}/{tiles.index_path(tile.number, len(hashes) // 32)}": hashes
        for tile, hashes in kept.items()
    }
    return files, root


def checkpoint(
    entries: Sequence[bytes],
    cosigned: Mapping[str, float] | None = None,
    *,
    log: str = "log",
    origin: str = ORIGIN,
    name: str = "",
) -> bytes:
    """A signed checkpoint of these entries; witnesses cosign it so many seconds after the start."""
    text = LogCheckpoint(origin, len(entries), tree(entries)[1]).text
    note = Note(text, (signer(log).sign(name or origin, text),) if log else ())
    cosignatures = [
        signer(each).cosign(each, text, unix(seconds)) for each, seconds in (cosigned or {}).items()
    ]
    return str(note.with_signatures(cosignatures)).encode()


def bundle(
    lines: Sequence[Line],
    *,
    whole: bool = True,
    shown: Sequence[Line] | None = None,
    cosigned: Mapping[str, float] | None = None,
    log: str = "log",
    more: Mapping[str, bytes] | None = None,
) -> dict[str, bytes]:
    """The files of a bundle of the log that these lines make, of which some may be ``shown``."""
    entries = [canonical(line["entry"]) for line in lines]
    end = 10.0 * len(lines)
    files, _ = tree(entries)
    files["checkpoint"] = checkpoint(entries, cosigned or {"w1": end, "w2": end + 5}, log=log)
    files["events.jsonl"] = b"".join(written(line) for line in (lines if shown is None else shown))
    files["policy"] = POLICY.encode()
    if whole:
        for at in range(0, len(entries), 256):
            part = entries[at : at + 256]
            files[f"tile/entries/{tiles.index_path(at // 256, len(part))}"] = tiles.bundle(part)
    return summed({**files, **(more or {})})


def summed(files: dict[str, bytes]) -> dict[str, bytes]:
    """With the file that lists the others."""
    files.pop("SHA256SUMS", None)
    sums = "".join(f"{hashlib.sha256(told).hexdigest()}  {name}\n" for name, told in files.items())
    return {**files, "SHA256SUMS": sums.encode()}


def write(
    files: Mapping[str, bytes],
    path: Path,
    *,
    zipped: bool = False,
    extra: Sequence[tuple[str, bytes, int]] = (),
) -> Path:
    """Write a bundle to a new folder, or ZIP."""
    if zipped:
        with zipfile.ZipFile(path, "w") as packed, warnings.catch_warnings(action="ignore"):
            for name, told in files.items():
                packed.writestr(name, told)
            for name, told, mode in extra:
                member = zipfile.ZipInfo(name)
                member.external_attr = mode << 16
                packed.writestr(member, told)
        return path
    for name, told in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(told)
    for name, told, mode in extra:
        if mode == LINK:
            (path / name).symlink_to(told.decode())
        else:
            (path / name).write_bytes(told)
    return path
