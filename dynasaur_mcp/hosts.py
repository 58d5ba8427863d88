"""Hosts that code may reach: how they are written, and which of them cover which.

    api.example.org         that name, on the ports of HTTP and HTTPS
    *.example.org           every name below it, not itself
    api.example.org:8443    on that port only
    10.0.0.5:8000           that very address; the only way to one that is not of the public internet

A name is only as good as what it resolves to: whoever connects checks the address too.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

HTTP_PORTS = (80, 443)

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Host:
    """One of the forms above; `str` gives it back in normal form."""

    name: str
    """A name in small letters without a dot at its end, with `*.` for those below it; or an address."""
    port: int | None = None
    """None: those of HTTP_PORTS."""

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"

    def covers(self, other: Host) -> bool:
        """Whether who may reach this one may reach the other. One without a port asks for either of HTTP_PORTS."""
        if self.name.startswith("*."):
            fits = other.name.removeprefix("*").endswith(self.name[1:])
        else:
            fits = other.name == self.name
        return fits and (
            self.port == other.port
            or (self.port is None and other.port in HTTP_PORTS)
            or (other.port is None and self.port in HTTP_PORTS)
        )


def read_host(text: str) -> Host:
    """
    Raises:
        ValueError: it is none of the forms above; says why and what to write.
    """
    name, port = _split_port(text.strip())
    with contextlib.suppress(ValueError):
        return Host(str(ipaddress.ip_address(name)), port)
    plain = name.lower().removesuffix(".")
    with contextlib.suppress(UnicodeError):
        plain = plain if plain.isascii() else plain.encode("idna").decode()
    labels = plain.removeprefix("*.").split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or len(plain) > 253 or labels[-1].isdigit():
        raise ValueError(f"{text[:80]!r} is no host. Write it like api.example.org, *.example.org or 10.0.0.5:8000")
    if labels[-1] == "localhost":
        raise ValueError(f"{text[:80]!r} never leads to this machine. Write its address, such as 127.0.0.1:8000")
    return Host(plain, port)


def _split_port(text: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(?:\[(?P<v6>[^\]]*)\]|(?P<name>[^:]*))(?::(?P<port>[0-9]{1,5}))?", text, re.ASCII)
    if found is None:
        return text, None
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"{text[:80]!r} has no port that exists: 1 to 65535")
    return found["v6"] or found["name"] or "", port


def find_uncovered(wanted: Iterable[str], allowed: Iterable[str]) -> tuple[str, ...]:
    """Those of the wanted that none of the allowed covers, in their order. Both are in normal form."""
    hosts = [read_host(text) for text in allowed]
    return tuple(text for text in wanted if not any(host.covers(read_host(text)) for host in hosts))


def explain_refusal(hosts: Iterable[str]) -> str:
    """How the operator of the server lets code reach these, after a sentence that names them."""
    return f"The operator of this server allows it with --network allow:{','.join(hosts)}"
