"""What a caller demands of the state of what it changes."""

import msgspec

from nbledger_domain.errors import PreconditionFailedError


class Precondition(msgspec.Struct, frozen=True):
    """The states that a caller accepts: versions of a stream, or digests of a file.

    ``versions`` of ``None`` accepts every state.
    """

    versions: frozenset[int] | None = None
    digests: frozenset[str] = frozenset()

    def holds(self, stream_version: int) -> bool:
        """Whether a stream at this version is accepted."""
        return self.versions is None or stream_version in self.versions

    def names(self, digest: str) -> bool:
        """Whether a file with this digest is accepted."""
        return digest in self.digests

    def check(self, stream_version: int, what: str) -> None:
        """Raise :class:`PreconditionFailedError` of ``what`` unless this version is accepted."""
        if not self.holds(stream_version):
            raise PreconditionFailedError(what)


class NoneMatch(msgspec.Struct, frozen=True):
    """What a caller will not write over: files with these digests, or (``None``) any file."""

    digests: frozenset[str] | None = frozenset()

    def holds(self, digest: str | None) -> bool:
        """Whether a file with this digest may be written over; ``None`` where none is."""
        return digest is None or (self.digests is not None and digest not in self.digests)


ANY = Precondition()
"""Accepts every state."""
