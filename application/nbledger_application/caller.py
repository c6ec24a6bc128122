"""Who asks for something, and in which project."""

from enum import StrEnum
from uuid import UUID

import msgspec

from nbledger_infrastructure.artifacts.store import Scope
from nbledger_infrastructure.postgres.event_store import Metadata, Stream
from nbledger_infrastructure.postgres.tokens import Role


class Right(StrEnum):
    """What an operation takes."""

    READ = "read"
    WRITE = "write"
    AUDIT = "audit"
    ADMINISTER = "administer"


ROLES: dict[Right, frozenset[Role]] = {
    Right.READ: frozenset(Role),
    Right.WRITE: frozenset({Role.EDITOR, Role.ADMIN}),
    Right.AUDIT: frozenset({Role.AUDITOR, Role.ADMIN}),
    Right.ADMINISTER: frozenset({Role.ADMIN}),
}
"""The roles that have each right."""


class Caller(msgspec.Struct, frozen=True):
    """Who asks, with which roles, in which project, and in the course of what.

    ``actor`` is the principal behind the token that the request came with, ``token_id`` the token.
    """

    actor: str
    roles: frozenset[Role]
    tenant_id: UUID
    project_id: UUID
    request_id: str
    traceparent: str | None = None
    token_id: UUID | None = None

    def may(self, right: Right) -> bool:
        """Whether one of the roles has this right."""
        return not ROLES[right].isdisjoint(self.roles)

    def metadata(self) -> Metadata:
        """What events that the caller causes are recorded with."""
        return Metadata(
            actor=self.actor,
            correlation_id=self.request_id,
            traceparent=self.traceparent,
            request_id=self.request_id,
        )

    def scope(self, subject_id: UUID) -> Scope:
        """Where the artifacts of a notebook, dataset or library of this project are."""
        return Scope(self.tenant_id, self.project_id, subject_id)

    def stream(self, stream_id: UUID, subject_id: UUID) -> Stream:
        """A stream of this project that concerns a notebook, dataset or library."""
        return Stream(stream_id, subject_id, self.tenant_id, self.project_id)

    def owns(self, stream: Stream) -> bool:
        """Whether ``stream`` lies in this project."""
        return stream.tenant_id == self.tenant_id and stream.project_id == self.project_id
