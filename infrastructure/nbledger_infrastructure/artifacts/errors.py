"""What an artifact store that cannot do its part says, in words for people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from obstore.exceptions import BaseError

_OS_ERROR: Final = re.compile(r"([A-Z][\w ,'-]+) \(os error \d+\)")
_STATUS: Final = re.compile(r"status code: (\d{3}[\w -]*)")
_XML_CODE: Final = re.compile(r"<Code>([^<]{1,100})</Code>")
_XML_MESSAGE: Final = re.compile(r"<Message>([^<]{1,500})</Message>")
# How the causes are named in what the client library says for its developers.
_CAUSES: Final = (
    ("ConnectionRefused", "it refuses connections"),
    ("TimedOut", "it does not answer"),
    ("operation timed out", "it does not answer"),
    ("dns error", "its name cannot be resolved"),
    ("ConnectionReset", "it cut the connection"),
    ("IncompleteMessage", "it cut the connection"),
    ("error sending request", "it cannot be reached"),
)
_LONGEST: Final = 500


class ArtifactStoreUnavailableError(Exception):
    """The artifact store cannot be reached, refuses, or is full; the text says why.

    The text is for users, too: it names neither addresses nor paths.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ArtifactMissingError(Exception):
    """An artifact that was stored is not in the store any more.

    The text does not tell its digest: logs are kept when what is deleted is not.
    """

    def __init__(self, digest: str) -> None:
        super().__init__("an artifact is not in the store")
        self.digest = digest


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the client library raises into :class:`ArtifactStoreUnavailableError`.

    FileNotFoundError passes through: what it means, the caller knows.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        raise ArtifactStoreUnavailableError(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """Why the store did not do what it was asked for."""
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    told = str(error)
    if (status := _STATUS.search(told)) is not None:
        words = [status[1].strip()]
        words += [found[1] for each in (_XML_CODE, _XML_MESSAGE) if (found := each.search(told))]
        return ": ".join(words)[:_LONGEST]
    if (system := _OS_ERROR.search(told)) is not None and "HTTP error" not in told:
        return system[1]
    for mark, meaning in _CAUSES:
        if mark in told:
            return meaning
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it failed for a reason that the log has"
