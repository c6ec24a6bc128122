"""Where the server is, and who asks: given, from the environment, or of a server on this machine.

Each of the four is looked for by itself: what is given comes first, then the environment
(`NBLEDGER_URL`, `NBLEDGER_TOKEN`, `NBLEDGER_TENANT`, `NBLEDGER_PROJECT`). Where neither names a
server, `server.json` in the folder that `NBLEDGER_HOME` names (by default `.nbledger`) fills in
what is missing: `nbledger up` writes it while it serves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from nbledger_client.errors import ConfigurationError

URL, TOKEN, TENANT, PROJECT = (
    "NBLEDGER_URL",
    "NBLEDGER_TOKEN",
    "NBLEDGER_TENANT",
    "NBLEDGER_PROJECT",
)
HOME = "NBLEDGER_HOME"
HOME_DEFAULT = ".nbledger"
SERVER_FILE = "server.json"


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """What a client needs to know.

    Attributes:
        url: address of the service, without a slash at its end.
        token: access token; empty for what needs none.
        tenant_id: tenant that the token belongs to.
        project_id: project that is worked in.
    """

    url: str
    token: str = ""
    tenant_id: str = ""
    project_id: str = ""

    def __repr__(self) -> str:
        """Without the secret."""
        return (
            f"Connection(url={self.url!r}, tenant_id={self.tenant_id!r}, "
            f"project_id={self.project_id!r})"
        )


class _Server(msgspec.Struct, rename="camel", kw_only=True):
    url: str
    token: str
    tenant_id: str
    project_id: str


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody has said of the connection; None is what they have not."""

    url: str | None = None
    token: str | None = None
    tenant_id: str | None = None
    project_id: str | None = None

    def over(self, other: Given) -> Given:
        """This, and of ``other`` what is missing in it; nothing where that is about another server.

        A token goes to no server but the one that it was named with.
        """
        if self.url and other.url and self.url.rstrip("/") != other.url.rstrip("/"):
            return self
        mine, others = msgspec.structs.asdict(self), msgspec.structs.asdict(other)
        return Given(**{key: mine[key] or others[key] for key in mine})


def from_environment(environment: Mapping[str, str]) -> Given:
    """What the environment says.

    >>> from_environment({"NBLEDGER_URL": "https://nb.example.org"}).url
    'https://nb.example.org'
    """
    return Given(
        url=environment.get(URL),
        token=environment.get(TOKEN),
        tenant_id=environment.get(TENANT),
        project_id=environment.get(PROJECT),
    )


def server_file(environment: Mapping[str, str]) -> Path:
    """Where a server on this machine says how it is reached."""
    return Path(environment.get(HOME) or HOME_DEFAULT).expanduser() / SERVER_FILE


def from_server_file(path: Path) -> Given:
    """What a server on this machine says; nothing where none runs.

    Raises :class:`ConfigurationError` for a file that cannot be read.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Server)
    except FileNotFoundError:
        return Given()
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    return Given(**msgspec.structs.asdict(found))


def resolve(
    given: Given | None = None, *, environment: Mapping[str, str] | None = None
) -> Connection:
    """The connection: what is given, else the environment, else a server on this machine.

    Raises :class:`ConfigurationError` where no server is named.
    """
    environment = os.environ if environment is None else environment
    named = (given or Given()).over(from_environment(environment))
    file = server_file(environment)
    if not all((named.url, named.token, named.tenant_id, named.project_id)):
        named = named.over(from_server_file(file))
    if not named.url:
        raise ConfigurationError(
            f"It is not said where the server is: set {URL}, {TOKEN}, {TENANT} and {PROJECT}, or "
            f"start one with `nbledger up` ({file} is not there)."
        )
    return Connection(
        url=named.url.rstrip("/"),
        token=named.token or "",
        tenant_id=named.tenant_id or "",
        project_id=named.project_id or "",
    )
