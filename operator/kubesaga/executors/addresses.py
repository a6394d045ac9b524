# SPDX-License-Identifier: Apache-2.0
"""What an IP address is good for, after IANA's special-purpose registries (RFC 6890) and the clouds' own manuals.

Python's `is_global` is not used: it changes between versions, and knows neither the clouds nor what an address wraps.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address


class Reach(Enum):
    """How much an administrator has to say for an address to be reached."""

    ALLOWABLE = auto()
    """Any rule that fits: of a network, an address, a name."""
    LOOPBACK = auto()
    """A rule that speaks of loopback itself: `localhost`, an address or network of it."""
    ITSELF = auto()
    """A rule with that very address. Credentials of the machine can be had there."""
    NEVER = auto()
    """No rule helps: it is no address to connect to, or another spelling of one."""


@dataclass(frozen=True, slots=True)
class Special:
    """Addresses that are not simply public."""

    network: str
    name: str
    reach: Reach = Reach.ALLOWABLE


_CLOUD: Final = "of a cloud's metadata service"
_SPECIAL: Final = (
    # The first that fits counts: the clouds' own addresses lie within wider networks, or are public.
    Special("169.254.0.0/16", "link-local, where clouds keep their metadata services", Reach.ITSELF),
    Special("100.100.100.200/32", _CLOUD, Reach.ITSELF),
    Special("168.63.129.16/32", _CLOUD, Reach.ITSELF),
    Special("192.0.0.192/32", _CLOUD, Reach.ITSELF),
    Special("fd00:ec2::/32", _CLOUD, Reach.ITSELF),
    Special("fd20:ce::254/128", _CLOUD, Reach.ITSELF),
    Special("fe80::/10", "link-local", Reach.ITSELF),
    Special("0.0.0.0/8", "unspecified", Reach.NEVER),
    Special("::/128", "unspecified", Reach.NEVER),
    Special("127.0.0.0/8", "loopback", Reach.LOOPBACK),
    Special("::1/128", "loopback", Reach.LOOPBACK),
    Special("224.0.0.0/4", "multicast", Reach.NEVER),
    Special("ff00::/8", "multicast", Reach.NEVER),
    Special("255.255.255.255/32", "broadcast", Reach.NEVER),
    Special("2002::/16", "6to4, another spelling of an IPv4 address", Reach.NEVER),
    Special("2001::/32", "Teredo, another spelling of an IPv4 address", Reach.NEVER),
    Special("10.0.0.0/8", "private"),
    Special("172.16.0.0/12", "private"),
    Special("192.168.0.0/16", "private"),
    Special("fc00::/7", "private"),
    Special("fec0::/10", "private"),
    Special("100.64.0.0/10", "shared between a provider's customers, and in many clusters the pods'"),
    Special("34.118.224.0/20", "of Services, by default, in Google's clusters"),
    Special("192.0.0.0/24", "reserved for protocols"),
    Special("192.0.2.0/24", "for documentation"),
    Special("192.88.99.0/24", "reserved"),
    Special("198.18.0.0/15", "for benchmarks"),
    Special("198.51.100.0/24", "for documentation"),
    Special("203.0.113.0/24", "for documentation"),
    Special("240.0.0.0/4", "reserved"),
    Special("64:ff9b:1::/48", "for local translation to IPv4", Reach.NEVER),
    Special("2001::/23", "reserved for protocols"),
    Special("2001:db8::/32", "for documentation"),
    Special("3fff::/20", "for documentation"),
)
_NETWORKS: Final = tuple((ip_network(special.network), special) for special in _SPECIAL)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_UNASSIGNED: Final = Special("::/0", "not assigned to anyone")
_WRAPPERS: Final = (
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped (RFC 4291): the system connects to the IPv4 address
    IPv6Network("::/96"),  # IPv4-compatible (RFC 4291)
    IPv6Network("64:ff9b::/96"),  # NAT64 (RFC 6052): a translator connects to the IPv4 address
)
_NOT_WRAPPED: Final = (IPv6Address("::"), IPv6Address("::1"))


def effective(address: Address) -> Address:
    """Return the address that a connection would end at: the IPv4 address within an IPv6 one that wraps it."""
    if isinstance(address, IPv6Address):
        address = IPv6Address(int(address))  # without a zone
        if address not in _NOT_WRAPPED and any(address in wrapper for wrapper in _WRAPPERS):
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def special_of(address: Address) -> Special | None:
    """Return what is special about an address that `effective` returned; None: it is a public one."""
    for network, special in _NETWORKS:
        if address in network:
            return special
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return _UNASSIGNED
    return None


def parse_address(text: str) -> Address | None:
    """Return an address in its ordinary form (no octal, hexadecimal or short forms); None: it is none."""
    try:
        return ip_address(text)
    except ValueError:
        return None
