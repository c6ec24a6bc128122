"""``bundle.json``: what was asked for, and what a bundle has of it."""

from importlib import metadata
from typing import Final, Self
from uuid import UUID

import msgspec

from nbledger_audit.bundles.scopes import HistoryScope

FORMAT: Final = "nbledger-bundle/1"


class CopiedArtifacts(msgspec.Struct):
    """How many artifacts a bundle has, and how many that events name it has not."""

    included: bool
    count: int = 0
    bytes: int = 0
    missing: int = 0


class BundleManifest(msgspec.Struct, kw_only=True, rename="camel"):
    """What ``docs/bundle.md`` says of each member. It grows while a bundle is written."""

    format: str = FORMAT
    origin: str
    tenant: UUID
    size: int
    scope: dict[str, str | None]
    whole: bool
    events: int = 0
    context: int = 0
    first: int | None = None
    last: int | None = None
    streams: int | None = None
    erased: int = 0
    uncovered_erasures: int = 0
    unsalted: int = 0
    artifacts: CopiedArtifacts
    not_yet_covered: int
    nbledger: str

    @classmethod
    def of(
        cls, scope: HistoryScope, *, origin: str, size: int, not_yet_covered: int, artifacts: bool
    ) -> Self:
        """The manifest of a bundle that has no event yet."""
        return cls(
            origin=origin,
            tenant=scope.tenant_id,
            size=size,
            scope=scope.described(),
            whole=scope.whole,
            artifacts=CopiedArtifacts(artifacts),
            not_yet_covered=not_yet_covered,
            nbledger=metadata.version("nbledger"),
        )

    def encoded(self) -> bytes:
        """The file."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"
