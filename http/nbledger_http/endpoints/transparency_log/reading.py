"""The log of a tenant as C2SP tlog-tiles has it: checkpoint, tiles, bundles of entries."""

import asyncio
import gzip
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec
from litestar import Request, get

from nbledger_application.caller import Right
from nbledger_audit import reading
from nbledger_audit.cosigning import told
from nbledger_audit.cosigning.told import WitnessState
from nbledger_audit.reading import LogState
from nbledger_domain.transparency.tiles import Tile, read_index_path
from nbledger_domain.vocabulary.addresses import log_path
from nbledger_http.description.documentation import Answer, Operation
from nbledger_http.endpoints.transparency_log import examples
from nbledger_http.replies.negotiation import takes_gzip
from nbledger_http.replies.problems import Code, Problem
from nbledger_http.replies.responses import Reply, header_list, json_reply
from nbledger_http.requests.services import services_of
from nbledger_http.security.access import tenant_id_of
from nbledger_http.security.links import base_url
from nbledger_infrastructure.postgres.database import PooledConnection, acquire
from nbledger_projections.read_models.humanize import timestamp

TAG: Final = "Proofs"
FRESH: Final = {"Cache-Control": "private, max-age=1"}
"""For what the next checkpoint changes."""

FOR_EVER: Final = {"Cache-Control": "private, max-age=31536000, immutable"}
"""For what nothing changes."""

_LEVEL: Final = re.compile(r"0|[1-9][0-9]?")
_TILE_ANSWERS: Final = {
    200: Answer(
        description="The tile, which never changes.",
        media_types=("application/octet-stream",),
        headers={"Cache-Control": "That it never changes."},
    )
}


class LogLinks(msgspec.Struct, rename="camel", kw_only=True):
    """Where the parts of a log are."""

    checkpoint: str
    tiles: str
    entries: str
    inclusion: str
    consistency: str
    timestamps: str
    policy: str


class WitnessDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A witness: how many entries of the log it has cosigned last, and when it says it did.

    `problem` is why it did not cosign when it was asked last; null where it did.
    """

    name: str
    verifier_key: str
    size: int
    cosigned_at: str | None
    problem: str | None


class LogDocument(msgspec.Struct, rename="camel", kw_only=True):
    """A tenant's log: its origin and keys (signed-note vkeys, the one in use first).

    `size` counts the entries of the checkpoint that is served, which was signed at `checkpointAt`;
    that of a log at rest is signed again now and then. `signedSize` counts those of the newest one,
    which may wait for witnesses. Cosignatures are to be no older than `maximumAgeSeconds` (null: no
    limit).
    """

    origin: str
    verifier_keys: list[str]
    size: int
    checkpoint_at: str | None
    signed_size: int
    maximum_age_seconds: int | None
    witnesses: list[WitnessDocument]
    links: LogLinks


async def known_state(connection: PooledConnection, request: Request[Any, Any, Any]) -> LogState:
    """The log that the request is for. Raises :class:`Problem` (404)."""
    found = await reading.state(connection, tenant_id_of(request))
    if found is None:
        raise Problem(Code.LOG_NOT_FOUND)
    return found


@get(
    "/",
    right=Right.AUDIT,
    operation=Operation(
        id="getLog",
        tag=TAG,
        summary="Get the log of the tenant",
        description="Its origin, by which keys it is signed, and how far. Whoever checks proofs "
        "gets origin and key from here once, and compares them on another way.",
        answers={
            200: Answer(
                description="The log.",
                schema=LogDocument,
                example=examples.LOG,
                headers={"Cache-Control": "For how long it may be kept."},
            )
        },
        problems=(Code.LOG_NOT_FOUND,),
    ),
)
async def get_log(request: Request[Any, Any, Any]) -> Reply:
    """What there is to know of the log."""
    tenant_id = tenant_id_of(request)
    async with acquire(services_of(request).pool) as connection:
        state = await known_state(connection, request)
        policy = await told.policy(connection, state.keys, "")
        witnesses = await told.witness_states(connection, tenant_id, policy)
    base = _log_url(request)
    document = LogDocument(
        origin=state.origin,
        verifier_keys=[key.encoded for key in state.keys],
        size=state.size,
        checkpoint_at=None if state.signed_at is None else timestamp(state.signed_at),
        signed_size=state.signed_size,
        maximum_age_seconds=policy.maximum_age,
        witnesses=list(map(_witness, witnesses)),
        links=LogLinks(
            checkpoint=f"{base}/checkpoint",
            tiles=f"{base}/tile",
            entries=f"{base}/tile/entries",
            inclusion=f"{base}/inclusion",
            consistency=f"{base}/consistency",
            timestamps=f"{base}/timestamps",
            policy=f"{base}/policy",
        ),
    )
    return json_reply(msgspec.json.encode(document), headers=FRESH)


@get(
    "/checkpoint",
    right=Right.AUDIT,
    operation=Operation(
        id="getCheckpoint",
        tag=TAG,
        summary="Get the newest checkpoint",
        description="A signed note (C2SP tlog-checkpoint): origin, size, root hash and signature, "
        "and cosignatures of witnesses. Keep it: it is what the log is held against later. Where "
        "the policy needs witnesses, it is the newest that they have cosigned, as long as its "
        "cosignatures are young enough by the policy; else the newest of all.",
        answers={
            200: Answer(
                description="The checkpoint.",
                media_types=("text/plain",),
                example=examples.CHECKPOINT,
                headers={"Cache-Control": "For how long it may be kept."},
            )
        },
        problems=(Code.LOG_NOT_FOUND,),
    ),
)
async def get_checkpoint(request: Request[Any, Any, Any]) -> Reply:
    """The newest checkpoint."""
    async with acquire(services_of(request).pool) as connection:
        state = await known_state(connection, request)
    if state.published is None:
        raise Problem(Code.LOG_NOT_FOUND)
    return text_reply(state.published.note, FRESH)


@get(
    "/policy",
    right=Right.AUDIT,
    operation=Operation(
        id="getPolicy",
        tag=TAG,
        summary="Get the policy of the log",
        description="Which keys sign the log, which witnesses cosign its checkpoints, how many of "
        "them are needed (C2SP tlog-policy), and, in a comment, the maximum age of cosignatures. "
        "Whom to trust is for you to say: compare the keys on another way, and keep the file.",
        answers={
            200: Answer(
                description="The policy.",
                media_types=("text/plain",),
                example=examples.POLICY,
                headers={"Cache-Control": "For how long it may be kept."},
            )
        },
        problems=(Code.LOG_NOT_FOUND,),
    ),
)
async def get_policy(request: Request[Any, Any, Any]) -> Reply:
    """The policy as a file."""
    async with acquire(services_of(request).pool) as connection:
        state = await known_state(connection, request)
        policy = await told.policy(connection, state.keys, _log_url(request))
    return text_reply(str(policy), FRESH)


def _log_url(request: Request[Any, Any, Any]) -> str:
    services = services_of(request)
    base = base_url(request, services.settings.http.public_url)
    return base + log_path(tenant_id_of(request))


def _witness(state: WitnessState) -> WitnessDocument:
    return WitnessDocument(
        name=state.name,
        verifier_key=state.key.encoded,
        size=state.size,
        cosigned_at=None if state.cosigned_at is None else timestamp(state.cosigned_at),
        problem=state.problem or None,
    )


@get(
    "/tile/{tile_level:str}/{tile_index:path}",
    right=Right.AUDIT,
    operation=Operation(
        id="getTile",
        tag=TAG,
        summary="Get a tile of the tree",
        description="Up to 256 hashes, as C2SP tlog-tiles has them: `tile/0/x001/067` is a full "
        "one, `tile/0/x001/068.p/12` one with its first 12 hashes.",
        answers=_TILE_ANSWERS,
        problems=(Code.LOG_NOT_FOUND, Code.TILE_NOT_FOUND),
    ),
)
async def get_tile(request: Request[Any, Any, Any]) -> Reply:
    """The hashes of a tile."""
    level = request.path_params["tile_level"]
    if not _LEVEL.fullmatch(level) or int(level) > 63:
        raise Problem(Code.TILE_NOT_FOUND)

    async def read(connection: PooledConnection, index: int, width: int) -> bytes | None:
        tenant_id = tenant_id_of(request)
        return await reading.tile(connection, tenant_id, Tile(int(level), index), width)

    return _bytes_reply(await _found(request, read))


@get(
    "/tile/entries/{tile_index:path}",
    right=Right.AUDIT,
    operation=Operation(
        id="getEntries",
        tag=TAG,
        summary="Get a bundle of entries",
        description="Up to 256 entries, each after its length in two bytes, as C2SP tlog-tiles has "
        "them; what an entry holds is in docs/proofs.md. Compressed where gzip is accepted.",
        answers=_TILE_ANSWERS,
        problems=(Code.LOG_NOT_FOUND, Code.TILE_NOT_FOUND),
    ),
)
async def get_entries(request: Request[Any, Any, Any]) -> Reply:
    """The entries of a bundle."""
    read = partial(_bundle, tenant_id=tenant_id_of(request))
    entries = await _found(request, read)
    if not takes_gzip(request):
        return _bytes_reply(entries, {"Vary": "Accept-Encoding"})
    packed = await asyncio.to_thread(gzip.compress, entries, 1, mtime=0)
    return _bytes_reply(packed, {"Vary": "Accept-Encoding", "Content-Encoding": "gzip"})


async def _bundle(
    connection: PooledConnection, index: int, width: int, **where: Any
) -> bytes | None:
    return await reading.bundle(connection, index=index, width=width, **where)


async def _found(
    request: Request[Any, Any, Any],
    read: Callable[[PooledConnection, int, int], Awaitable[bytes | None]],
) -> bytes:
    """What ``read`` has at the index and width of the path. Raises :class:`Problem` (404)."""
    place = read_index_path(request.path_params["tile_index"].removeprefix("/"))
    # Larger numbers than the database has are no tiles either.
    if place is None or place[0] >= 1 << 55:
        raise Problem(Code.TILE_NOT_FOUND)
    async with acquire(services_of(request).pool) as connection:
        found = await read(connection, *place)
    if found is None:
        raise Problem(Code.TILE_NOT_FOUND)
    return found


def _bytes_reply(body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
    given = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(len(body)),
        **FOR_EVER,
        **(headers or {}),
    }
    return Reply(200, header_list(given), body)


def text_reply(text: str, headers: Mapping[str, str]) -> Reply:
    """An answer of plain text."""
    body = text.encode()
    given = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
        "X-Content-Type-Options": "nosniff",
        **headers,
    }
    return Reply(200, header_list(given), body)


HANDLERS: list[Any] = [get_log, get_checkpoint, get_policy, get_tile, get_entries]
