"""Which URLs a webhook may have: what can be told of one without looking its name up."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from nbledger_infrastructure.egress.addresses import Reach, address_of, literal, networks
from nbledger_infrastructure.settings import Webhooks

_NAME: Final = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?")
_NUMBER: Final = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)\.?")


def reaches(settings: Webhooks) -> Mapping[str, Reach]:
    """What may be reached, by the scheme of the URL; by HTTP only networks allowed by name."""
    allowed, refused = networks(settings.allowed_networks), networks(settings.refused_networks)
    found = {"https": Reach(allowed=allowed, refused=refused)}
    if allowed:
        found["http"] = Reach(public=False, allowed=allowed, refused=refused)
    return found


def wrong_url(url: str, reach: Mapping[str, Reach]) -> str | None:
    """Why this is no URL to send to; ``None`` where it is one."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return (
            "must be a URL in ASCII: other letters of a host in their xn-- form, everything else "
            "percent-encoded"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "must be a URL"
    if parts.scheme not in reach or not parts.hostname:
        return f"must be a URL that begins with {' or '.join(f'{each}://' for each in reach)}"
    if port == 0:
        return "must have a port from 1 to 65535, or none"
    return _wrong_parts(parts) or _wrong_host(parts.hostname, reach[parts.scheme])


def _wrong_parts(parts: SplitResult) -> str | None:
    if "@" in parts.netloc:
        return "must not hold a user or password"
    if parts.fragment:
        return "must not have a fragment"
    return None


def _wrong_host(host: str, reach: Reach) -> str | None:
    address = literal(host)
    if address is None and host.rstrip(".").rpartition(".")[2] == "localhost":
        address = address_of("127.0.0.1")
    if address is not None:
        if not reach.takes(address):
            return "must not lead to an address that may not be connected to"
        return None
    if _NUMBER.fullmatch(host) or not _NAME.fullmatch(host):
        return "must have a host that is a name or an address"
    return None
