"""Access tokens: opaque, stored only as hashes, bound to a tenant, projects and roles."""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import asyncpg
import msgspec

from nbledger_domain.vocabulary.addresses import ALL_PROJECTS
from nbledger_infrastructure.identifiers import new_id
from nbledger_infrastructure.postgres import principals
from nbledger_infrastructure.postgres.database import Pool, acquire

PREFIX = "nbl_"


class Role(StrEnum):
    """What a token allows. Editors may read; admins may do everything."""

    READER = "reader"
    EDITOR = "editor"
    AUDITOR = "auditor"
    ADMIN = "admin"


class Token(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A token's record, which does not hold the token itself.

    ``principal_id`` is who acts with it, as events tell; ``name`` is what that one is called,
    ``None`` once it is erased. No ``project_ids`` means every project.
    """

    token_id: UUID
    principal_id: UUID
    name: str | None
    tenant_id: UUID
    project_ids: list[UUID] | None
    roles: list[Role]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def covers(self, project_id: UUID) -> bool:
        """Whether the token is good for this project of its tenant."""
        return self.project_ids is None or project_id in self.project_ids


def generate() -> str:
    """A new secret token with 256 random bits."""
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()


def hash_token(token: str) -> bytes:
    """What is stored instead of the token. It is random, so a plain SHA-256 is enough."""
    return hashlib.sha256(token.encode()).digest()


async def create(
    pool: Pool,
    *,
    name: str,
    tenant_id: UUID,
    project_ids: Sequence[UUID] | None,
    roles: Sequence[Role],
    expires_at: datetime | None = None,
    token: str | None = None,
) -> tuple[str, Token]:
    """Store a token (a new one unless given) and return it, for the only time, with its record.

    Tokens of one name are of one principal of the tenant, which the first of them makes. Raises
    ``ValueError`` for the nil UUID, which is no project's id.
    """
    if project_ids is not None and ALL_PROJECTS in project_ids:
        raise ValueError("the nil UUID is no project's id")
    secret = token or generate()
    async with acquire(pool) as connection, connection.transaction():
        row = await connection.fetchrow(
            """
            INSERT INTO api_token AS t (
                token_id, hash, principal_id, tenant_id, project_ids, roles, expires_at
            )
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            RETURNING t.*, (SELECT p.name FROM principal AS p WHERE p.principal_id = $3) AS name
            """,
            new_id(),
            hash_token(secret),
            await principals.ensure(connection, tenant_id, name),
            tenant_id,
            None if project_ids is None else list(project_ids),
            [str(role) for role in roles],
            expires_at,
        )
    if row is None:
        raise AssertionError("INSERT … RETURNING gives a row")
    return secret, _from_row(row)


async def find(pool: Pool, token: str) -> Token | None:
    """The record of ``token`` if it is known, neither expired nor revoked."""
    async with acquire(pool) as connection:
        row = await connection.fetchrow(
            """
            SELECT t.*, p.name FROM api_token AS t JOIN principal AS p USING (principal_id)
            WHERE t.hash = $1 AND t.revoked_at IS NULL
                AND (t.expires_at IS NULL OR t.expires_at > now())
            """,
            hash_token(token),
        )
    return None if row is None else _from_row(row)


async def list_all(pool: Pool, tenant_id: UUID | None = None) -> list[Token]:
    """All tokens, or those of one tenant, oldest first, ended ones included."""
    async with acquire(pool) as connection:
        rows = await connection.fetch(
            """
            SELECT t.*, p.name FROM api_token AS t JOIN principal AS p USING (principal_id)
            WHERE $1::uuid IS NULL OR t.tenant_id = $1
            ORDER BY t.created_at, t.token_id
            """,
            tenant_id,
        )
    return [_from_row(row) for row in rows]


async def revoke(pool: Pool, token_id: UUID) -> bool:
    """End a token now; ``False`` when there is none with this id that has not ended already."""
    async with acquire(pool) as connection:
        found = await connection.fetchval(
            """
            UPDATE api_token SET revoked_at = now()
            WHERE token_id = $1 AND revoked_at IS NULL
            RETURNING true
            """,
            token_id,
        )
    return bool(found)


def _from_row(row: asyncpg.Record) -> Token:
    return Token(
        token_id=row["token_id"],
        principal_id=row["principal_id"],
        name=row["name"],
        tenant_id=row["tenant_id"],
        project_ids=row["project_ids"],
        roles=[Role(role) for role in row["roles"]],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
