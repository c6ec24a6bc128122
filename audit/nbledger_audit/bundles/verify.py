"""Check an exported history of nbledger without nbledger; VERIFY.md explains the rules."""

import argparse
import json
import re
import zipfile
from base64 import b64decode
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LINK = "02{data}{id}{stream}{version:08x}{subject}{tenant}{project}{position:016x}{metadata}"
NAME = re.compile(r"(?a)\w[\w.-]*(/\w[\w.-]*)*")
NOTE = re.compile(r"(([^\n]+)\n([1-9][0-9]*)\n(\S{44})\n(?:[^\n]+\n)*)\n((?:— \S+ \S+\n)+)")
POLICY = re.compile(  # a line, with one blank between words
    r"(?a)(?:(log)|witness (\S+)) ([^\s+]+)\+([0-9a-f]{8})\+(\S+)(?: \S+)?"
    r"|group (\S+) (any|all|[1-9][0-9]*) (.+)|quorum (\S+)"
    r"|# ?maximum-age ([1-9][0-9]*)|(?:#(?! ?maximum-age).*)?"
)
written = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
canonical = json.JSONEncoder(sort_keys=True, allow_nan=False, separators=(",", ":")).encode
WHERE: list[Any] = ["the bundle"]  # what is being checked
NEVER, SINCE, SKEW = 2**63, 946684800, 60  # seconds; chains count microseconds since 2000


def need(holds: Any, what: str) -> Any:
    if not holds:
        raise ValueError(what)
    return holds


class Bundle:
    def __init__(self, path: Path) -> None:
        self.root: Any = path if path.is_dir() else zipfile.Path(path)
        files = [each for each in path.rglob("*") if each.is_symlink() or not each.is_dir()]
        packed = zipfile.ZipFile(path).infolist() if path.is_file() else []
        self.files = [(each.relative_to(path).as_posix(), each.is_symlink()) for each in files]
        self.files += [(p.filename, p.external_attr >> 28 == 10) for p in packed if not p.is_dir()]
        self.keys, self.groups = dict[Any, Any](), {"none": (1, ["none"])}
        self.quorum, self.age, self.names = "", NEVER, set[str]()
        self.size, self.since, self.outside = 0, -NEVER, [(NEVER, -NEVER, NEVER)]
        self.last: dict[str, Any] = {"number": -1, "position": 0, "recordedAt": ""}
        self.erased, self.deletions, self.streams = list[Any](), set[Any](), dict[str, Any]()
        self.seen = {"events": 0, "unsalted": 0, "late": 0, "absent": 0}

    def trust(self, policy: Any) -> None:  # rule 2
        said, told = {"none", "member none"}, re.sub("[ \t]+", " ", policy.read_bytes().decode())
        for at, line in enumerate(told.split("\n"), 1):
            WHERE[0] = f"{policy}, line {at}"
            found = need(POLICY.fullmatch(line.strip(" ")), "no policy has such a line")
            log, witness, name, number, key, group, least, of, quorum, age = found.groups("")
            raw, defined, some = b64decode(key), witness or group, of.split(" ") if group else []
            once = {key and f"{log} {raw[1:]!r}", defined, quorum and "quorum ", age and "age "}
            once |= {f"member {each}" for each in some}
            need(not once & said, "it says again what is said above")
            said |= once - {""}
            need({*some, quorum or "none"} <= {*self.groups}, "a name is not defined above")
            count = {"any": 1, "all": len(some)}.get(least) or int(least or 1)
            need(not group or count <= len({*some}) == len(some), "it has too few members")
            self.groups[defined] = count, some or [witness]  # "" where the line defines nothing
            if raw[:1] == (b"\1" if log else b"\4"):  # others are passed over
                self.keys[name, number] = witness, Ed25519PublicKey.from_public_bytes(raw[1:])
            self.quorum, self.age = quorum or self.quorum, int(age or self.age)
        most = self.latest([(witness, 1) for witness, _ in self.keys.values() if witness])
        need(most == 1 or self.quorum == "none", "no quorum is there, of known kinds of keys")

    def latest(self, times: list[tuple[Any, int]]) -> int:  # rule 2
        known = dict[Any, int]()
        for witness, at in [*times, *(("none", at) for _, at in times)]:
            known[witness] = max(at, known.get(witness, -NEVER))
        for name, (count, some) in self.groups.items():
            known[name] = sorted(known.get(each, -NEVER) for each in some)[-count]
        return known[self.quorum]

    def checkpoint(self, told: str) -> tuple[str, int, bytes, list[tuple[Any, int]]]:  # rule 1
        text, origin, size, root, below = need(NOTE.fullmatch(told), "it is no checkpoint").groups()
        signed, times = False, list[tuple[Any, int]]()
        for name, encoded in re.findall(r"— (\S+) (\S+)\n", below):
            raw = b64decode(encoded)
            if (name, raw[:4].hex()) in self.keys:
                witness, key = self.keys[name, raw[:4].hex()]
                at = int.from_bytes(raw[4:-64], "big")
                message = f"cosignature/v1\ntime {at}\n{text}" if witness else text
                key.verify(raw[-64:], message.encode())
                times += [(witness, at)] if witness else []
                signed |= not witness and name == origin
        need(signed, "it is not signed by a key of its log")
        return origin, int(size), b64decode(root), times

    @lru_cache(16)  # noqa: B019 (there is one bundle)
    def tile(self, level: int, number: int) -> list[bytes]:  # rule 3
        width = min((self.size >> 8 * level) - 256 * number, 256)
        *groups, last = f"{number:,}".split(",")
        path = "".join(f"x{group:0>3}/" for group in groups) + f"{last:0>3}.p/{width}"
        told = (self.root / f"tile/{level}/{path}".removesuffix(".p/256")).read_bytes()
        need(len(told) == 32 * width, "the tile has another width")
        up = hashes = re.findall(b"(?s).{32}", told)
        if number < self.size >> 8 * level + 8:
            while len(up) > 1:
                up = [sha256(b"\1" + up[i] + up[i + 1]).digest() for i in range(0, len(up), 2)]
            above = self.tile(level + 1, number >> 8)[number & 255]
            need(up == [above], f"tile {level}/{number} is not what the one above it says")
        return hashes

    def tree(self, first: int, last: int) -> bytes:  # rule 3
        height = (last - first - 1).bit_length()
        if last - first == 1 << height and height % 8 == 0:
            return self.tile(height // 8, first >> height + 8)[first >> height & 255]
        split = first + (1 << height - 1)
        return sha256(b"\1" + self.tree(first, split) + self.tree(split, last)).digest()

    def place(self, entry: dict[str, Any], text: bytes) -> None:  # rules 5 to 7, and 9
        number, last, self.last = entry["number"], self.last, entry
        leaf = self.tile(0, number >> 8)[number & 255] if number < self.size else b""
        need(leaf == sha256(b"\0" + text).digest(), "the entry is not in the tree")
        need(entry["v"] == 1 and self.origin.endswith(entry["tenant"]), "it is of another log")
        need(number > last["number"] and entry["position"] > last["position"], "it is out of order")
        need(not self.whole or number == last["number"] + 1, "entries are missing before it")
        need(entry["recordedAt"] >= last["recordedAt"], "it is older than the event before it")
        while number >= self.outside[-1][0]:
            self.since = max(self.since, self.outside.pop()[1])
        at = datetime.fromisoformat(entry["recordedAt"]).timestamp()
        need(self.since - SKEW <= at <= self.outside[-1][2] + SKEW, "outside times deny its date")
        digests = [entry[each] for each in ("data", "metadata", "chain")]
        old = digests == [None] * 3 and self.seen["unsalted"] == self.seen["events"] - 1
        need(all(digests) or old, "it has no digests")
        self.seen["unsalted"] += old

    def chain(self, entry: dict[str, Any]) -> None:  # rule 8
        stream, version = entry["stream"], entry["version"]
        self.seen["late"] += stream not in self.streams and version > 1
        start = (0, "0" * 64) if version == 1 or self.whole else (version - 1, None)
        last, before = self.streams.pop(stream, start)
        need(version == last + 1, f"version {last + 1} of its stream is missing")
        if before and entry["chain"]:
            moments = (datetime.fromisoformat(entry[each]) for each in ("occurredAt", "recordedAt"))
            times = (round((each.timestamp() - SINCE) * 10**6) for each in moments)
            link = LINK.format_map(entry).replace("-", "") + "{:016x}{:016x}".format(*times)
            told = sha256(bytes.fromhex(before + link) + entry["type"].encode()).hexdigest()
            need(told == entry["chain"], "the event does not match its chain")
        self.streams[stream] = version, entry["chain"]

    def event(self, told: str) -> None:  # rules 5 and 9 to 11
        line = json.loads(told)
        entry, data, context = line.pop("entry"), line["data"], line.get("context")
        text = canonical(entry)
        need(told == f'{{"entry":{text},{written(line)[1:]}\n', "it is not written as it must be")
        self.place(entry, text.encode())
        need(context in ([None] if self.whole else [None, True]), "it must not have context")
        if context is None:
            self.chain(entry)
        for name, salted in (("data", "salt"), ("metadata", "metadataSalt")):
            if entry[name] and (data, name) != (None, "data"):
                salt = b64decode(line[salted], validate=True)
                digest = sha256(salt + line[name].encode()).hexdigest()
                need(digest == entry[name] and len(salt) == 16, f"the {name} has another digest")
        if data is None or "erased" in line:
            need(data is line["salt"] is None and line.get("erased"), "nothing erased the data")
            self.erased.append((entry["subject"], *line["erased"].values()))
        if re.fullmatch(r"(notebook|dataset|library|webhook)\.deleted\.v[0-9]+", entry["type"]):
            who = json.loads(line["metadata"])
            of = (entry[each] for each in ("stream", "number", "position", "recordedAt"))
            self.deletions.add((*of, who.get("onBehalfOf") or who["actor"]))
        if data and '"digest"' in data:
            json.loads(data, object_hook=self.artifact)

    def artifact(self, found: dict[str, Any]) -> None:  # rule 11
        digest, size = str(found.get("digest")), found.get("size")
        if isinstance(size, int) and re.fullmatch("[0-9a-f]{64}", digest):
            self.seen["absent"] += f"artifacts/{digest}" not in self.names

    def check(self, held: list[Path]) -> None:  # rules 1 to 4, 6, 7, 10 and 12
        for WHERE[0], linked in self.files:
            need(NAME.fullmatch(WHERE[0]) and not linked, "it is a link, or not named as files are")
            need(WHERE[0] not in self.names, "it is there twice")
            self.names.add(WHERE[0])
        self.whole = any(name.startswith("tile/entries/") for name in self.names)
        seen, end = dict[int, list[tuple[Any, int]]](), NEVER
        names = sorted(name for name in self.names if re.fullmatch("checkpoints/[0-9]+", name))
        for WHERE[0] in [*(self.root / name for name in ("checkpoint", *names)), *held]:
            origin, size, root, times = self.checkpoint(WHERE[0].read_bytes().decode())
            if not self.size:
                self.origin, self.size, self.at = origin, size, max(self.latest(times), 0)
                need(self.at or self.quorum == "none", "too few witnesses have cosigned it")
                need(datetime.now(UTC).timestamp() - self.at <= self.age, "it is too old")
            need(origin == self.origin, "it is of another log")
            need(size <= self.size, f"it has {size} entries, and the log ends after {self.size}")
            need(self.tree(0, size) == root, "the log does not begin with what was signed here")
            seen[size] = seen.get(size, []) + times
        for size, times in sorted(seen.items(), reverse=True):  # rule 7
            last = self.latest([(witness, at) for witness, at in times if at <= end])
            end = min(end, -self.latest([(witness, -at) for witness, at in times]))
            self.outside.append((size, last, end))
        with (self.root / "events.jsonl").open("rb") as lines:
            for self.seen["events"], raw in enumerate(iter(lambda: lines.readline(2**27), b""), 1):
                WHERE[0] = f"events.jsonl, line {self.seen['events']}"
                self.event(raw.decode())
        need(not self.whole or self.last["number"] == self.size - 1, "entries are missing after it")
        need({*self.erased} <= self.deletions, f"no event is { ({*self.erased} - self.deletions) }")
        sums = {*(self.root / "SHA256SUMS").read_text("utf-8").splitlines()}
        for WHERE[0] in sorted(self.names - {"SHA256SUMS"}):
            with (self.root / WHERE[0]).open("rb") as file:
                digest = file_digest(file, "sha256").hexdigest()
            need(f"{digest}  {WHERE[0]}" in sums, "SHA256SUMS has another digest of it, or none")
            need(WHERE[0][:10] != "artifacts/" or WHERE[0][10:] == digest, "it is not named so")
        need(len(sums) == len(self.names) - 1, "SHA256SUMS lists what is not there")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="a folder or a ZIP")
    parser.add_argument("--policy", type=Path, help="keys that you have from elsewhere")
    parser.add_argument("--held", type=Path, action="append", default=[], help="what you kept")
    told, begun = parser.parse_args(), False
    try:
        bundle = Bundle(told.bundle)
        bundle.trust(told.policy or bundle.root / "policy")
        begun = True
        bundle.check(told.held)
    except Exception as error:  # noqa: BLE001 (whatever it is, the bundle is not as it must be)
        plain = isinstance(error, ValueError | OSError)
        what = f"{WHERE[0]}: {error if plain else f'it is not as it must be: {error!r}'}"
        unread = isinstance(error, OSError) or not begun
        parser.exit(1 + unread, f"{'NOT CHECKED' if unread else 'WRONG'}: {what}\n")
    seen, part = bundle.seen, "" if bundle.whole else " (a PART: what is left out does not show)"
    print(f"nothing is wrong: {seen['events']} of {bundle.size} events of {bundle.origin}{part}")
    print("cosigned at", datetime.fromtimestamp(bundle.at, UTC) if bundle.at else "NO KNOWN TIME")
    print("{late} streams begin LATE, {absent} artifacts are ABSENT".format_map(seen))
    print(f"{seen['unsalted']} NOT PROVED, without salt; {len(bundle.erased)} erased, by these:")
    print(*sorted({*bundle.erased}), "" if told.policy else "with the bundle's OWN KEYS", sep="\n")
    for name in sorted(name for name in bundle.names if name.endswith(".tsr")):
        print(f"NOT CHECKED, but by VERIFY.md: openssl ts -verify -in {name} -data ...")


if __name__ == "__main__":
    main()
