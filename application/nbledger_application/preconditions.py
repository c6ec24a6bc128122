"""What a caller demands of the state of what it changes (RFC 9110, section 13.1)."""

from datetime import datetime

import msgspec

from nbledger_domain.errors import PreconditionFailedError, RuledOutError


class Tags(msgspec.Struct, frozen=True):
    """States that a caller names: versions of a stream, digests of a file, or any (``every``)."""

    versions: frozenset[int] = frozenset()
    digests: frozenset[str] = frozenset()
    every: bool = False

    def name_version(self, version: int) -> bool:
        """Whether a stream at this version is among them."""
        return self.every or version in self.versions

    def name_file(self, digest: str | None) -> bool:
        """Whether a file with this digest is among them; ``None`` where none is."""
        return digest is not None and (self.every or digest in self.digests)


class Precondition(msgspec.Struct, frozen=True):
    """The states that a caller accepts (``None``: any, or none at all), and those it rules out.

    With ``unmodified_since`` it accepts only what has not changed after that second.
    """

    accepted: Tags | None = None
    ruled_out: Tags = Tags()
    unmodified_since: datetime | None = None

    def check(self, version: int, modified_on: datetime, what: str) -> None:
        """Raise unless the caller accepts the stream at this version; ``what`` is its kind.

        It was changed last at ``modified_on``. That is :class:`PreconditionFailedError` or
        :class:`RuledOutError`.
        """
        if self.accepted is not None and not self.accepted.name_version(version):
            raise PreconditionFailedError(what)
        self._check_time(modified_on, what)
        if self.ruled_out.name_version(version):
            raise RuledOutError(f"the {what} as it is")

    def check_file(
        self, notebook_version: int, modified_on: datetime, path: str, digest: str | None
    ) -> None:
        """Likewise for a file of a notebook: either one's state may be accepted.

        ``digest`` is ``None`` where no file is at ``path``.
        """
        accepted = self.accepted
        if accepted is not None and not (
            notebook_version in accepted.versions or accepted.name_file(digest)
        ):
            raise PreconditionFailedError("notebook or the file")
        self._check_time(modified_on, "notebook or the file")
        if self.ruled_out.name_file(digest):
            raise RuledOutError(f"the file that is at {path!r}")

    def _check_time(self, modified_on: datetime, what: str) -> None:
        since = self.unmodified_since
        if since is not None and modified_on.replace(microsecond=0) > since:
            raise PreconditionFailedError(what)


UNCONDITIONAL = Precondition()
"""Demands nothing."""
