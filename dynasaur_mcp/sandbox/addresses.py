"""Where a request may go: the address behind a host, if it is one of the allowed and leads where it should."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress

from dynasaur_mcp.hosts import HTTP_PORTS, Host, explain_refusal, read_host

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER_PUBLIC = [ipaddress.ip_network(text) for text in ("192.0.0.0/24", "fec0::/10", "3fff::/20", "5f00::/16")]
"""Which the Python of a server may take for global, as older ones do. In the first is a cloud's metadata service."""


class RefusedError(Exception):
    """The text says why, and what the operator can do."""


def find_address(hosts: Sequence[Host], name: str, port: int) -> str:
    """The address to connect to.

    Args:
        name: As the client gave it: a name, or an address.

    Raises:
        RefusedError: the hosts do not cover it, or it resolves to what is not of the public internet.
        OSError: it does not resolve.
    """
    try:
        wanted = read_host(f"[{name}]:{port}" if ":" in name else f"{name}:{port}")
    except ValueError as error:
        raise RefusedError(f"{error}.") from None
    if not any(host.covers(wanted) for host in hosts):
        asked = Host(wanted.name) if port in HTTP_PORTS else wanted
        raise RefusedError(f"{str(asked)!r} is not allowed by this server. {explain_refusal([str(asked)])}")
    with suppress(ValueError):
        return str(ipaddress.ip_address(wanted.name))
    addresses = [entry[4][0] for entry in socket.getaddrinfo(wanted.name, port, type=socket.SOCK_STREAM)]
    if not all(is_public(str(address)) for address in addresses):
        raise RefusedError(
            f"{wanted.name!r} resolves to an address that is not public, where no name leads. "
            "The operator of this server allows such an address by itself, as in --network allow:10.0.0.5"
        )
    # The system has put those first that it has a route to.
    return str(addresses[0])


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, also by the IPv4 address in it."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped or ip.teredo:
            return False
        if inner := ip.sixtofour or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None):
            return is_public(str(inner))
    if any(ip in network for network in _NEVER_PUBLIC):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)
