"""Which addresses may be connected to: public ones, and networks that are allowed by name.

The check is of the address that is connected to, after its name was resolved: a name that resolves
to another address a moment later changes nothing.
"""

import ipaddress
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64: Final = (
    ipaddress.IPv6Network("64:ff9b::/96"),
    ipaddress.IPv6Network("64:ff9b:1::/48"),
)
_V4_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")


def networks(texts: Sequence[str]) -> list[Network]:
    """The networks in CIDR notation. Raises ``ValueError``, which names the wrong one."""
    return [ipaddress.ip_network(text, strict=False) for text in texts]


def address_of(text: str) -> Address:
    """The address in ``text``, without the zone of a link-local one."""
    return ipaddress.ip_address(text.partition("%")[0])


def is_public(address: Address) -> bool:
    """Whether the address, and one of IPv4 that is embedded in it, is of the public internet."""
    if isinstance(address, IPv6Address):
        if (embedded := _embedded(address)) is not None:
            return is_public(embedded)
        if address.is_site_local or any(address in each for each in (*_NAT64, _V4_COMPATIBLE)):
            return False
    return address.is_global and not address.is_multicast


def is_within(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether the address is in one of the networks; one of IPv4 in any form."""
    forms: list[Address] = [address]
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        forms.append(address.ipv4_mapped)
    return any(form in network for form in forms for network in allowed)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64[0]:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
