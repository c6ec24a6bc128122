"""Check an exported history of nbledger without nbledger; VERIFY.md explains the rules."""

import argparse
import json
import re
import zipfile
from base64 import b64decode
from bisect import bisect
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LINK = "02{data}{id}{stream}{version:08x}{subject}{tenant}{project}{position:016x}{metadata}"
NOTE = re.compile(r"(([^\n]+)\n([1-9][0-9]*)\n(\S{44})\n(?:[^\n]+\n)*)\n((?:— \S+ \S+\n)+)")
written = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
canonical = json.JSONEncoder(sort_keys=True, allow_nan=False, separators=(",", ":")).encode
WHERE: list[Any] = ["the bundle"]  # what is being checked
NEVER, SINCE, SKEW = 2**63, 946684800, 60 * 10**6  # chains count microseconds since 2000


def need(holds: object, what: str) -> None:
    if not holds:
        raise ValueError(what)


class Bundle:
    def __init__(self, path: Path, policy: Path | None) -> None:
        self.root: Any = path if path.is_dir() else zipfile.Path(path)
        files = [each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file()]
        self.names = set(files if path.is_dir() else zipfile.ZipFile(path).namelist())
        self.whole = any(name.startswith("tile/entries/") for name in self.names)
        told = (policy or self.root / "policy").read_bytes().decode()
        ages = re.findall(r"(?m)^[ \t]*#[ \t]*maximum-age(.*)$", told)
        self.policy = [each.split() for each in told.split("\n") if re.match(r"\s*[^\s#]", each)]
        self.size, self.pack, self.context, self.seen = 0, b"", set[int](), {"unsalted": 0}
        self.outside, self.age = [(0, -NEVER), (NEVER, NEVER)], min(map(int, [*ages, NEVER]))
        self.tiles: dict[int, tuple[int, list[bytes]]] = {}
        self.last: dict[str, Any] = {"number": -1, "position": 0, "recordedAt": ""}
        self.erased, self.deletions, self.streams = list[Any](), set[Any](), dict[str, Any]()

    def checkpoint(self, told: str) -> tuple[str, int, bytes, int]:  # rules 1 and 2
        found, times = NOTE.fullmatch(told), dict[str, int]()
        text, origin, size, root, below = found.groups() if found else 5 * [""]
        keys = {tuple(key.split("+")[:2]): key for words in self.policy for key in words[1:3]}
        for name, encoded in re.findall(r"— (\S+) (\S+)\n", below):
            raw = b64decode(encoded)
            if vkey := keys.get((name, raw[:4].hex())):
                key, at = b64decode(vkey.split("+", 2)[2]), int.from_bytes(raw[4:-64], "big")
                message = f"cosignature/v1\ntime {at}\n{text}" if key[0] == 4 else text
                Ed25519PublicKey.from_public_bytes(key[1:]).verify(raw[-64:], message.encode())
                times[vkey] = at if key[0] == 4 else 0
        known, signed, at = {"none": max(times.values(), default=0)}, False, 0
        for kind, name, *rest in self.policy:
            if kind == "log":
                signed |= name in times and name.startswith(f"{origin}+")
            elif kind == "witness":
                known[name] = times.pop(rest[0], 0)  # counts under one name
            elif kind == "group":
                count = {"any": 1, "all": len(rest) - 1}.get(rest[0]) or int(rest[0])
                known[name] = sorted({each: known[each] for each in rest[1:]}.values())[-count]
            else:
                at, known = known[name], {}  # a second quorum is refused
        need(signed, "it is not signed by a key of its log")
        return origin, int(size), b64decode(root), at

    def read(self, kind: object, level: int, number: int) -> bytes:  # rule 3
        width = min((self.size >> 8 * level) - 256 * number, 256)
        *groups, last = f"{number:,}".split(",")
        path = "".join(f"x{group:0>3}/" for group in groups) + f"{last:0>3}.p/{width}"
        told = bytes((self.root / f"tile/{kind}/{path}".removesuffix(".p/256")).read_bytes())
        need(kind == "entries" or len(told) == 32 * width, "the tile has another width")
        return told

    def tile(self, level: int, number: int) -> list[bytes]:  # rule 3
        if self.tiles.get(level, (-1, []))[0] != number:
            up = hashes = re.findall(b"(?s).{1,32}", self.read(level, level, number))
            if number < self.size >> 8 * level + 8:
                while len(up) > 1:
                    up = [sha256(b"\1" + up[i] + up[i + 1]).digest() for i in range(0, len(up), 2)]
                above = self.tile(level + 1, number >> 8)[number & 255]
                need(up == [above], f"tile {level}/{number} is not what the one above it says")
            self.tiles[level] = number, hashes
        return self.tiles[level][1]

    def tree(self, first: int, last: int) -> bytes:  # rule 3
        height = (last - first - 1).bit_length()
        if last - first == 1 << height and height % 8 == 0:
            return self.tile(height // 8, first >> height + 8)[first >> height & 255]
        split = first + (1 << height - 1)
        return sha256(b"\1" + self.tree(first, split) + self.tree(split, last)).digest()

    def place(self, entry: dict[str, Any], text: bytes) -> None:  # rules 5 and 6
        number, last, self.last = entry["number"], self.last, entry
        leaf = self.tile(0, number >> 8)[number & 255] if number < self.size else b""
        need(leaf == sha256(b"\0" + text).digest(), "the entry is not in the tree")
        need(entry["v"] == 1 and self.origin.endswith(entry["tenant"]), "it is of another log")
        need(number > last["number"] and entry["position"] > last["position"], "it is out of order")
        need(not self.whole or number == last["number"] + 1, "entries are missing before it")
        need(entry["recordedAt"] >= last["recordedAt"], "it is older than the event before it")
        self.pack += len(text).to_bytes(2, "big") + text if self.whole else b""
        if self.whole and (number & 255 == 255 or number == self.size - 1):
            need(self.read("entries", 0, number >> 8) == self.pack, "tile/entries differs")
            self.pack = b""

    def chain(self, entry: dict[str, Any], stream: str) -> None:  # rules 7 and 8
        since = (datetime.fromisoformat(entry[each]) for each in ("occurredAt", "recordedAt"))
        times = [round((each.timestamp() - SINCE) * 10**6) for each in since]
        place = bisect(self.outside, (entry["number"], NEVER))
        right = self.outside[place - 1][1] - SKEW <= times[1] <= self.outside[place][1] + SKEW
        need(right, "its time is not between those of the checkpoints around it")
        version = entry["version"]
        start = (0, "0" * 64) if version == 1 or self.whole else (version - 1, None)
        last, before = self.streams.pop(stream, start)
        need(version == last + 1, f"version {last + 1} of its stream is missing")
        if before and entry["chain"]:
            link = LINK.format_map(entry).replace("-", "") + f"{times[0]:016x}{times[1]:016x}"
            told = sha256(bytes.fromhex(before + link) + entry["type"].encode()).hexdigest()
            need(told == entry["chain"], "the event does not match its chain")
        self.streams[stream] = version, entry["chain"]

    def event(self, told: str) -> None:  # rules 5 and 9 to 11
        line = json.loads(told)
        entry, data, context = line.pop("entry"), line["data"], line.get("context")
        text = canonical(entry)
        need(told == f'{{"entry":{text},{written(line)[1:]}\n', "it is not written as it must be")
        self.context |= {entry["number"]} if context else set()
        self.place(entry, text.encode())
        self.chain(entry, entry[{None: "stream", True: "id"}[context]])
        for name, salted in (("data", "salt"), ("metadata", "metadataSalt")):
            if entry[name] and (data, name) != (None, "data"):
                salt = b64decode(line[salted], validate=True)
                digest = sha256(salt + line[name].encode()).hexdigest()
                need(digest == entry[name] and len(salt) == 16, f"the {name} has another digest")
        if data is None or "erased" in line:
            need(data is line["salt"] is None and line["erased"], "nothing erased the data")
            self.erased.append((entry["subject"], *line["erased"].values()))
        if re.fullmatch(r"(notebook|dataset|library|webhook)\.deleted\.v[0-9]+", entry["type"]):
            who = json.loads(line["metadata"])
            of = (entry[each] for each in ("stream", "number", "position", "recordedAt"))
            self.deletions.add((*of, who.get("onBehalfOf") or who["actor"]))
        for each in line.get("artifacts", []):
            need(each in data and f"artifacts/{each}" in self.names, f"artifact {each} is missing")
        self.seen["unsalted"] += not entry["data"]

    def check(self, held: list[Path]) -> None:  # rules 1 to 4, 6, 10 and 12
        names = sorted(name for name in self.names if re.fullmatch("checkpoints/[0-9]+", name))
        for file in [*(self.root / name for name in ("checkpoint", *names)), *held]:
            WHERE[0] = file
            origin, size, root, at = self.checkpoint(file.read_bytes().decode())
            if not self.size:
                self.origin, self.size, self.at = origin, size, at
                need(at or ["quorum", "none"] in self.policy, "too few witnesses have cosigned it")
                need(datetime.now(UTC).timestamp() - at <= self.age, f"it is over {self.age} s old")
            need(origin == self.origin, "it is of another log")
            need(size <= self.size, f"it has {size} entries, and the log ends after {self.size}")
            need(self.tree(0, size) == root, "the log does not begin with what was signed here")
            self.outside += [(size, (at - SINCE) * 10**6)] if at else []
        self.outside.sort()
        with (self.root / "events.jsonl").open("rb") as lines:
            for self.seen["events"], raw in enumerate(iter(lambda: lines.readline(2**27), b""), 1):
                WHERE[0] = f"events.jsonl, line {self.seen['events']}"
                self.event(raw.decode())
        need(not self.whole or self.last["number"] == self.size - 1, "entries are missing after it")
        need({*self.erased} <= self.deletions, f"no event is { ({*self.erased} - self.deletions) }")
        need(self.context <= {each[1] for each in self.erased}, "context that no line points at")
        WHERE[0] = "SHA256SUMS"
        sums = re.findall(r"([0-9a-f]{64})  (.+)\n", (self.root / WHERE[0]).read_text("utf-8"))
        need({"SHA256SUMS", *(each[1] for each in sums)} == self.names, "it lists other files")
        for told, WHERE[0] in sums:
            with (self.root / WHERE[0]).open("rb") as file:
                need(file_digest(file, "sha256").hexdigest() == told, "SHA256SUMS differs")
            need(WHERE[0][:10] != "artifacts/" or WHERE[0][10:] == told, "it is not named so")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, help="a folder or a ZIP")
    parser.add_argument("--policy", type=Path, help="keys that you have from elsewhere")
    parser.add_argument("--held", type=Path, action="append", default=[], help="what you kept")
    told = parser.parse_args()
    for file in (told.bundle, told.policy or told.bundle, *told.held):
        file.exists() or parser.error(f"{file} is not there")  # pyright: ignore[reportUnusedExpression]
    try:
        bundle = Bundle(told.bundle, told.policy)
        bundle.check(told.held)
    except Exception as error:  # noqa: BLE001 (whatever it is, the bundle is not as it must be)
        raise SystemExit(f"WRONG: {WHERE[0]}: {str(error) or type(error).__name__}") from None
    seen, part = bundle.seen, "" if bundle.whole else " (a PART: what is left out does not show)"
    print(f"nothing is wrong: {seen['events']} of {bundle.size} events of {bundle.origin}{part}")
    print("cosigned at", datetime.fromtimestamp(bundle.at, UTC) if bundle.at else "NO KNOWN TIME")
    print(f"{seen['unsalted']} NOT PROVED, without salt; {len(bundle.erased)} erased, by these:")
    print(*sorted({*bundle.erased}), "" if told.policy else "with the bundle's OWN KEYS", sep="\n")


if __name__ == "__main__":
    main()
