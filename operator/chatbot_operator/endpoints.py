"""Where a Chatbot sends what leaves the cluster: host and port of an address, and whether the administrator allows it.

Pure; it must not know policies, pods or who asks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Endpoint:
    """One address, its host in lower case."""

    host: str
    port: int


def endpoint(url: str) -> Endpoint | None:
    """What a URL points at; None if it is no usable http:// or https:// URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname:
        return None
    return Endpoint(parts.hostname.lower().rstrip("."), port or _PORTS[parts.scheme])


def allowed(url: str, hosts: Iterable[str]) -> bool:
    """Whether one of `hosts` covers the URL: a name, `*.name` for every name below it, either with `:port`."""
    target = endpoint(url)
    return target is not None and any(_covers(entry.lower(), target) for entry in hosts)


def _covers(entry: str, target: Endpoint) -> bool:
    if entry == f"[{target.host}]":  # an IPv6 address, as it stands in a URL
        return True
    host, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and (host.startswith("[") or ":" not in host):
        if int(port) != target.port:
            return False
        entry = host.strip("[]")
    if entry.startswith("*."):
        return target.host.endswith(entry[1:]) and target.host != entry[2:]
    return entry == target.host
