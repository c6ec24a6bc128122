"""Logs as they are kept: tiles that grow, which events they hold, and checkpoints.

Several transactions change the same rows: the sealer, those who ask witnesses, and couriers. Each
locks rows of transparency_log first, in order of tenants, then of log_checkpoint, then of
log_witness. So none waits for another in a circle.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from nbledger_audit.entries import Recorded
from nbledger_domain.transparency import merkle, tiles
from nbledger_domain.transparency.merkle import Perfect
from nbledger_domain.transparency.tiles import WIDTH, Tile
from nbledger_infrastructure.postgres.database import PooledConnection

FRESH_SECONDS: Final = 15.0
"""A checkpoint that was signed longer ago is signed anew before it is stamped or cosigned."""

_SIZES: Final = """
SELECT tenant_id, size FROM transparency_log WHERE tenant_id = ANY($1)
"""

_GROW: Final = """
INSERT INTO transparency_log (tenant_id, size)
SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS grown (tenant_id, size) ORDER BY tenant_id
ON CONFLICT (tenant_id) DO UPDATE SET size = excluded.size
"""

_TILES: Final = """
SELECT tenant_id, level, index, hashes FROM log_tile
JOIN unnest($1::uuid[], $2::smallint[], $3::bigint[]) AS wanted (tenant_id, level, index)
    USING (tenant_id, level, index)
"""

_KEEP_TILES: Final = """
INSERT INTO log_tile (tenant_id, level, index, hashes)
SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bytea[])
ON CONFLICT (tenant_id, level, index) DO UPDATE SET hashes = excluded.hashes
"""

# unnest() would take an array of arrays apart altogether.
_KEEP_BUNDLES: Final = """
INSERT INTO log_bundle (tenant_id, index, first_position, positions)
SELECT tenant_id, index, position[1], position FROM (
    SELECT tenant_id, index, array_agg(position ORDER BY position) AS position
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS added (tenant_id, index, position)
    GROUP BY tenant_id, index
) AS added
ON CONFLICT (tenant_id, index) DO UPDATE
    SET positions = log_bundle.positions || excluded.positions
"""

_POSITIONS: Final = """
SELECT positions FROM log_bundle WHERE tenant_id = $1 AND index = $2
"""

_BUNDLE_OF: Final = """
SELECT index, positions FROM log_bundle
WHERE tenant_id = $1 AND first_position <= $2 ORDER BY first_position DESC LIMIT 1
"""

_TO_SIGN: Final = """
SELECT tenant_id, size FROM transparency_log
WHERE tenant_id > $1 AND (
    size > signed_size
    OR confirmed_at IS NULL
    OR renewal
    OR confirmed_at < clock_timestamp() - make_interval(secs => $2)
)
ORDER BY tenant_id LIMIT $3
"""

_SIGN: Final = """
WITH confirmed AS (
    UPDATE transparency_log
    SET signed_size = greatest(signed_size, $2), confirmed_at = clock_timestamp(), renewal = false
    WHERE tenant_id = $1
    RETURNING tenant_id
)
INSERT INTO log_checkpoint (tenant_id, size, note) SELECT tenant_id, $2, $3 FROM confirmed
-- Cosignatures are of the text: they stay with it alone.
ON CONFLICT (tenant_id, size) DO UPDATE SET note = excluded.note,
    cosignatures = CASE
        WHEN split_part(log_checkpoint.note, E'\n\n', 1) = split_part(excluded.note, E'\n\n', 1)
        THEN log_checkpoint.cosignatures ELSE '' END
"""

# By another origin all logs are others: they are signed at once, and no witness knows them yet.
_USE_KEY: Final = """
WITH before AS (SELECT origin FROM log_key ORDER BY used_at DESC LIMIT 1),
renewed AS (
    UPDATE transparency_log SET renewal = true, witnessed_size = 0, witnessed_at = NULL
    WHERE (SELECT origin FROM before) <> $1
)
INSERT INTO log_key (origin, public_key) VALUES ($1, $2)
ON CONFLICT (origin, public_key) DO UPDATE SET used_at = clock_timestamp()
"""

_KEYS: Final = """
SELECT origin, public_key FROM log_key ORDER BY used_at DESC
"""

_NEWEST: Final = """
SELECT signed.size, note, signed_at,
    coalesce(log.confirmed_at, signed_at) AS confirmed_at
FROM log_checkpoint AS signed LEFT JOIN transparency_log AS log USING (tenant_id)
WHERE tenant_id = $1 ORDER BY signed.size DESC LIMIT 1
"""

_CHECKPOINTS: Final = """
SELECT size, note, signed_at FROM log_checkpoint
WHERE tenant_id = $1 AND size > $2 ORDER BY size LIMIT $3
"""

# Where witnesses are needed and do not come, the newest checkpoint is published without them once
# the last one with them is too old to be accepted anyway.
_PUBLISHED: Final = """
SELECT signed.size, note || cosignatures AS note, signed_at,
    CASE WHEN signed.size = signed_size THEN coalesce(confirmed_at, signed_at) ELSE signed_at END
FROM log_checkpoint AS signed JOIN transparency_log USING (tenant_id)
WHERE tenant_id = $1 AND signed.size = (
    SELECT CASE WHEN log.witnessed_size > 0 AND log.witnessed_at
        > clock_timestamp() - make_interval(secs => policy.maximum_age_seconds)
    THEN log.witnessed_size ELSE log.signed_size END
    FROM transparency_log AS log LEFT JOIN log_policy AS policy ON true
    WHERE log.tenant_id = $1
)
"""

_CHECKPOINT: Final = """
SELECT note || cosignatures FROM log_checkpoint WHERE tenant_id = $1 AND size = $2
"""


class ToSign(msgspec.Struct, frozen=True):
    """A log of which a checkpoint of so many entries is to be signed."""

    tenant_id: UUID
    size: int


class Signed(msgspec.Struct, frozen=True):
    """A checkpoint of so many entries: the signed note, and when it was signed.

    ``confirmed_at`` is when the log was last found to be what was signed of it; of an earlier
    checkpoint than the newest it is when that one was signed.
    """

    size: int
    note: str
    signed_at: datetime
    confirmed_at: datetime


class UsedKey(msgspec.Struct, frozen=True):
    """A key that signs, or has signed, the logs whose origins begin with ``origin``."""

    origin: str
    public: bytes


async def add(connection: PooledConnection, events: Sequence[Recorded]) -> None:
    """Enter events, which come in order of positions after all that are there.

    To be called within a transaction that no other one enters events beside.
    """
    by_tenant: dict[UUID, list[Recorded]] = {}
    for event in events:
        by_tenant.setdefault(event.tenant_id, []).append(event)
    sizes = dict.fromkeys(by_tenant, 0) | {
        row["tenant_id"]: row["size"] for row in await connection.fetch(_SIZES, list(by_tenant))
    }
    edges = await _tiles(
        connection,
        [
            (tenant_id, tile)
            for tenant_id in by_tenant
            for tile in tiles.right_edge(sizes[tenant_id])
        ],
    )
    changed: list[tuple[UUID, Tile, bytes]] = []
    entered: list[tuple[UUID, int, int]] = []
    for tenant_id, added in by_tenant.items():
        size = sizes[tenant_id]
        leaves = [merkle.leaf_hash(event.entry(number)) for number, event in enumerate(added, size)]
        edge = edges.get(tenant_id, {})
        changed += ((tenant_id, *kept) for kept in tiles.append(edge, size, leaves).items())
        entered += (
            (tenant_id, number // WIDTH, event.position) for number, event in enumerate(added, size)
        )
        sizes[tenant_id] = size + len(added)
    await connection.execute(
        _KEEP_TILES,
        [tenant_id for tenant_id, _, _ in changed],
        [tile.level for _, tile, _ in changed],
        [tile.number for _, tile, _ in changed],
        [hashes for _, _, hashes in changed],
    )
    await connection.execute(_KEEP_BUNDLES, *map(list, zip(*entered, strict=True)))
    await connection.execute(_GROW, list(sizes), list(sizes.values()))


async def to_sign(
    connection: PooledConnection, after: UUID, idle_seconds: float, limit: int
) -> list[ToSign]:
    """Logs that have grown since their last checkpoint, by tenant, those after one.

    Also those that have not, and were not confirmed for so many seconds, or are asked for.
    """
    rows = await connection.fetch(_TO_SIGN, after, idle_seconds, limit)
    return [ToSign(row["tenant_id"], row["size"]) for row in rows]


async def sign(connection: PooledConnection, tenant_id: UUID, size: int, note: str) -> None:
    """Keep a checkpoint of so many entries; the log is confirmed with it."""
    await connection.execute(_SIGN, tenant_id, size, note)


async def use_key(connection: PooledConnection, origin: str, public: bytes) -> None:
    """Tell readers of the logs by which key checkpoints are signed from now on."""
    await connection.execute(_USE_KEY, origin, public)


async def keys(connection: PooledConnection) -> list[UsedKey]:
    """The keys that sign or have signed, the one in use first; none before a sealer was at work."""
    return [UsedKey(row["origin"], row["public_key"]) for row in await connection.fetch(_KEYS)]


async def newest(connection: PooledConnection, tenant_id: UUID) -> Signed | None:
    """The newest checkpoint of a tenant's log as it was signed; None where there is none yet."""
    row = await connection.fetchrow(_NEWEST, tenant_id)
    return None if row is None else Signed(*row.values())


async def checkpoints_after(
    connection: PooledConnection, tenant_id: UUID, size: int, limit: int
) -> list[Signed]:
    """The checkpoints of more entries than so many as they were signed, in order."""
    rows = await connection.fetch(_CHECKPOINTS, tenant_id, size, limit)
    return [
        Signed(row["size"], row["note"], row["signed_at"], confirmed_at=row["signed_at"])
        for row in rows
    ]


async def published(connection: PooledConnection, tenant_id: UUID) -> Signed | None:
    """The checkpoint that is shown: the newest with a quorum of witnesses, where one is needed.

    The newest one of all, where none with a quorum is young enough by the policy. It has all
    cosignatures. None where there is none yet.
    """
    row = await connection.fetchrow(_PUBLISHED, tenant_id)
    return None if row is None else Signed(*row.values())


async def checkpoint(connection: PooledConnection, tenant_id: UUID, size: int) -> str | None:
    """The checkpoint of exactly so many entries, a signed note; None where there is none."""
    found: str | None = await connection.fetchval(_CHECKPOINT, tenant_id, size)
    return found


async def signed_size(connection: PooledConnection, tenant_id: UUID) -> int:
    """So many entries are in the newest checkpoint."""
    found: int | None = await connection.fetchval(
        "SELECT signed_size FROM transparency_log WHERE tenant_id = $1", tenant_id
    )
    return found or 0


async def tile(
    connection: PooledConnection, tenant_id: UUID, wanted: Tile, width: int
) -> bytes | None:
    """The first hashes of a tile; None where it does not have so many."""
    found = (await _tiles(connection, [(tenant_id, wanted)])).get(tenant_id, {}).get(wanted, b"")
    hashes = found[: width * tiles.HASH_BYTES]
    return hashes if len(hashes) == width * tiles.HASH_BYTES else None


async def positions(
    connection: PooledConnection, tenant_id: UUID, index: int, width: int
) -> list[int] | None:
    """Which events the first entries of a bundle are; None where it does not have so many."""
    found: list[int] | None = await connection.fetchval(_POSITIONS, tenant_id, index)
    if found is None or len(found) < width:
        return None
    return found[:width]


async def number_of(connection: PooledConnection, tenant_id: UUID, position: int) -> int | None:
    """Which entry of a tenant's log an event is; None where it is none, or none yet."""
    row = await connection.fetchrow(_BUNDLE_OF, tenant_id, position)
    if row is None or position not in row["positions"]:
        return None
    number: int = row["index"] * WIDTH + row["positions"].index(position)
    return number


async def prove(
    connection: PooledConnection, tenant_id: UUID, steps: Sequence[Sequence[Perfect]]
) -> list[bytes]:
    """The hashes of a proof. Raises ``LookupError`` where a tile is missing or too short."""
    wanted = [(tenant_id, each) for each in tiles.tiles_of(steps)]
    found = (await _tiles(connection, wanted)).get(tenant_id, {})
    try:
        return tiles.proof_of(steps, found)
    except ValueError as error:
        raise LookupError(str(error)) from error


async def root(connection: PooledConnection, tenant_id: UUID, size: int) -> bytes:
    """The hash of the tree of the first ``size`` entries. Raises as :func:`prove` does."""
    (hashed,) = await prove(connection, tenant_id, (merkle.root(size),))
    return hashed


async def _tiles(
    connection: PooledConnection, wanted: Iterable[tuple[UUID, Tile]]
) -> Mapping[UUID, dict[Tile, bytes]]:
    listed = list(wanted)
    found: dict[UUID, dict[Tile, bytes]] = {}
    if listed:
        rows = await connection.fetch(
            _TILES,
            [tenant_id for tenant_id, _ in listed],
            [tile.level for _, tile in listed],
            [tile.number for _, tile in listed],
        )
        for row in rows:
            kept = found.setdefault(row["tenant_id"], {})
            kept[Tile(row["level"], row["index"])] = row["hashes"]
    return found
