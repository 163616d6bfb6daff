"""Which addresses an HTTP tool may reach: those of the internet, unless its declaration allows private ones."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

# RFC 6052: the last 32 bits are an IPv4 address.
_NAT64: Final = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether it is a unicast address of the internet. False for a text that is not an address.

    IPv6 addresses that carry an IPv4 address (mapped, 6to4, Teredo, NAT64) are judged by that.
    """
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    carried = _carried(ip) if isinstance(ip, IPv6Address) else None
    ip = carried or ip
    return ip.is_global and not ip.is_multicast


def _carried(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
