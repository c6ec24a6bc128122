"""Which addresses may be connected to: public ones, and networks that are allowed by name.

The check is of the address that is connected to, after its name was resolved: a name that resolves
to another address a moment later changes nothing.
"""

import ipaddress
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

import msgspec

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All that is given out of IPv6; what is beside it is local, or a notation of something else."""

_DOCUMENTATION: Final = ipaddress.IPv6Network("3fff::/20")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_TEREDO: Final = ipaddress.IPv6Network("2001::/32")
_RELAYS: Final = ipaddress.IPv4Network("192.88.99.0/24")
"""Relays of 6to4, of which there are none any more."""


def networks(texts: Sequence[str]) -> list[Network]:
    """The networks in CIDR notation. Raises ``ValueError``, which names the wrong one."""
    return [ipaddress.ip_network(text, strict=False) for text in texts]


def address_of(text: str) -> Address:
    """The address in ``text``, without the zone of a link-local one."""
    return ipaddress.ip_address(text.partition("%")[0])


def literal(host: str) -> Address | None:
    """The address that ``host`` is, in any notation that a resolver takes; ``None`` for a name."""
    host = host.removeprefix("[").removesuffix("]").rstrip(".")
    try:
        return address_of(host)
    except ValueError:
        pass
    try:
        # As decimal, octal or hexadecimal numbers, one to four of them.
        return IPv4Address(socket.inet_aton(host)) if host.isascii() else None
    except OSError:
        return None


def is_public(address: Address) -> bool:
    """Whether the address, and one of IPv4 that is embedded in it, is of the public internet."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and address not in _RELAYS
    if (embedded := _embedded(address)) is not None:
        return is_public(embedded)
    return address in _UNICAST and address.is_global and address not in _DOCUMENTATION


def is_within(address: Address, named: Sequence[Network]) -> bool:
    """Whether the address is in one of the networks; one of IPv4 in any form."""
    forms: list[Address] = [address]
    if isinstance(address, IPv6Address) and (embedded := _embedded(address)) is not None:
        forms.append(embedded)
    return any(form in network for form in forms for network in named)


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What may be connected to: ``allowed`` networks, and all else that is public where that is.

    Nothing in ``refused`` networks is.
    """

    public: bool = True
    allowed: Sequence[Network] = ()
    refused: Sequence[Network] = ()

    def takes(self, address: Address) -> bool:
        """Whether this address may be connected to."""
        if is_within(address, self.refused):
            return False
        return is_within(address, self.allowed) or (self.public and is_public(address))


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The address of IPv4 that packets to this one come to: mapped, by NAT64, 6to4 or Teredo."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _TEREDO and address.teredo is not None:
        return address.teredo[1]
    return None
