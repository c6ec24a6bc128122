"""Everything that a service has kept, as text to search, and guesses at what was erased."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import (
    NAMESPACE_DNS,
    NAMESPACE_OID,
    NAMESPACE_URL,
    NAMESPACE_X500,
    UUID,
    uuid3,
    uuid5,
)

import asyncpg

from nbledger_infrastructure.postgres.database import Pool

_HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

WORDS = [
    f"{first}{second}"
    for first, second in itertools.product(
        ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "islet", "jetty"),
        (f"-{number:02}" for number in range(100)),
    )
]
"""Of these 1,000 words one is planted in everything that somebody may write; the rest are not."""


async def tables_as_text(pool: Pool) -> Mapping[str, str]:
    """Every row of every table, in any schema of ours, as PostgreSQL writes it.

    With them are its statistics, which are samples of what tables hold.
    """
    await pool.execute("ANALYZE")
    tables = await pool.fetch(
        """
        SELECT format('%I.%I', nspname, relname) AS name
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE relkind IN ('r', 'p', 'm') AND nspname NOT IN ('pg_catalog', 'information_schema')
            AND nspname NOT LIKE 'pg_toast%'
        """
    )
    found: dict[str, str] = {}
    for name in (*(table["name"] for table in tables), "pg_stats"):
        rows = await pool.fetch(f"SELECT whole::text FROM {name} AS whole")
        found[name.removeprefix("public.")] = "\n".join(row[0] for row in rows)
    return found


def paths_as_text(folder: Path) -> str:
    """The path of each file and folder below ``folder``."""
    return "\n".join(str(path.relative_to(folder)) for path in folder.rglob("*"))


def confirmed(
    words: Iterable[str], kept: str, events: Sequence[asyncpg.Record]
) -> dict[str, set[str]]:
    """The words that ``kept``, or a row of table event, betrays, each with how.

    Whoever guesses knows how the service hashes, and everything that is kept.
    """
    hashes, ids = set(_HASH.findall(kept)), set(_ID.findall(kept))
    namespaces = [UUID(each) for each in ids]
    salts = [b""] + [
        salt for row in events for salt in (row["salt"], row["metadata_salt"]) if salt is not None
    ]
    namespaces += [UUID(bytes=salt) for salt in salts if salt]
    found: dict[str, set[str]] = {}
    for word in words:
        ways = set(_ways(word, hashes, salts))
        if any(str(uuid5(each, f"dataset:{word}")) in ids for each in namespaces):
            ways.add("an id")
        if any(_chain_fits(row, salts, word) for row in events):
            ways.add("a chain value")
        if ways:
            found[word] = ways
    return found


_TOKEN = re.compile(r"[0-9A-Za-z+/_=-]{20,}")


def confirmed_by_digest(words: Iterable[str], kept: str) -> set[str]:
    """The words of which ``kept`` holds a digest without salt, whatever is hashed and written how.

    So would whoever guesses try all that services of this kind do: content addresses, entity tags,
    ids made of names, and the beginnings of digests that name folders and files.
    """
    tokens = set(_TOKEN.findall(kept))
    tokens |= {part for token in tokens for part in re.split(r"[-_/=]", token) if len(part) >= 20}
    found = set[str]()
    for word in words:
        for text in _texts(word):
            if not tokens.isdisjoint(_written(text)):
                found.add(word)
    return found


def _written(text: bytes) -> Iterator[str]:
    for name in ("sha256", "sha1", "md5", "sha512", "blake2b"):
        digest = hashlib.new(name, text).digest()
        yield digest.hex()
        yield digest.hex()[:20]  # as keys of environments are
        yield digest.hex()[:32]
        yield base64.b64encode(digest).decode()
        yield base64.urlsafe_b64encode(digest).decode().rstrip("=")
    for namespace in (NAMESPACE_DNS, NAMESPACE_URL, NAMESPACE_OID, NAMESPACE_X500, UUID(int=0)):
        yield str(uuid5(namespace, text.decode()))
        yield str(uuid3(namespace, text.decode()))


def _texts(word: str) -> list[bytes]:
    """What may have been hashed."""
    return [
        word.encode(),
        f"{word}\n".encode(),
        json.dumps(word).encode(),
        f'{{"name":"{word}"}}'.encode(),
    ]


def _ways(word: str, hashes: set[str], salts: Sequence[bytes]) -> Iterator[str]:
    for salt, text in itertools.product(salts, _texts(word)):
        if hashlib.sha256(salt + text).hexdigest() in hashes:
            yield "a salted digest" if salt else "a digest"


def _chain_fits(row: asyncpg.Record, salts: Sequence[bytes], word: str) -> bool:
    """Whether the chain value of a renaming is that of a renaming to ``word``."""
    if row["type"] != "notebook.renamed.v1":
        return False
    own = [each for each in (b"", row["salt"]) if each is not None]
    return any(
        _chain(row, hashlib.sha256(salt + f'{{"name":"{word}"}}'.encode()).digest()) == row["chain"]
        for salt in own
    )


def _chain(row: asyncpg.Record, digest: bytes) -> bytes:
    """The chain value by either formula, written here once more from its description."""
    salted = row["formula"] == 2
    return hashlib.sha256(
        row["chain_before"]
        + (b"\2" if salted else b"")
        + digest
        + row["event_id"].bytes
        + row["stream_id"].bytes
        + row["version"].to_bytes(4, "big")
        + row["subject_id"].bytes
        + row["tenant_id"].bytes
        + row["project_id"].bytes
        + row["position"].to_bytes(8, "big")
        + hashlib.sha256((row["metadata_salt"] or b"") + row["metadata"].encode()).digest()
        + _microseconds(row["occurred_at"])
        + _microseconds(row["recorded_at"])
        + row["type"].encode()
    ).digest()


def _microseconds(moment: datetime) -> bytes:
    return ((moment - _EPOCH) // _MICROSECOND).to_bytes(8, "big", signed=True)


async def all_events(pool: Pool) -> list[asyncpg.Record]:
    """Every row of table event, with the chain value before it."""
    return await pool.fetch(
        """
        SELECT *, lag(chain, 1, decode(repeat('00', 32), 'hex'))
            OVER (PARTITION BY stream_id ORDER BY version) AS chain_before
        FROM event ORDER BY position
        """
    )
