"""Where the runtime may connect to, and by which way. It must not know what is asked there, nor any token.

A name proves nothing: whoever answers for it may say that it lies at a cloud's metadata service. So every address is
looked at, whatever led to it.
"""

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from chatbot_runtime.config import ConfigError

log = logging.getLogger(__name__)

KEEP_SECONDS = 30.0
"""How long an idle connection is kept, and a name's addresses are remembered."""
_METADATA = tuple(map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254")))
"""Metadata services of clouds that do not lie on a link-local address."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_allowed(url: URL, allowed: Iterable[str]) -> bool:
    """Whether a URL's host is among `allowed`: `name`, `*.name` for its subdomains, either with `:port`."""
    host = (url.raw_host or "").lower().rstrip(".")
    return any(_matches(host, url.port, entry.strip().lower()) for entry in allowed)


def _matches(host: str, port: int | None, entry: str) -> bool:
    name, colon, number = entry.rpartition(":")
    if not colon or (":" in name and not name.endswith("]")):  # no port: a name, or an IPv6 address without brackets
        name, number = entry, ""
    if number and str(port) != number:
        return False
    name = name.strip("[]").rstrip(".")
    if name.startswith("*."):
        return len(name) > 2 and host.endswith(name[1:]) and host != name[1:]
    return bool(host) and host == name


def is_refused(address: str) -> bool:
    """Whether nothing of ours may ever be sent there: link-local, multicast, unspecified, metadata services."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False  # a name; its addresses are looked at when they are known
    return any(
        a.is_link_local or a.is_multicast or a.is_unspecified or a in _METADATA for a in (found, *_within(found))
    )


def _within(address: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 address leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [found for found in inner if found is not None]


class SafeResolver(AbstractResolver):
    """Another resolver's answers without the addresses that are refused."""

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        good = [result for result in found if not is_refused(result["host"])]
        if found and not good:
            raise OSError(None, "its address is one that is never connected to")
        return good

    async def close(self) -> None:
        await self._resolver.close()


def proxy_for(url: URL) -> URL | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for `url`. Raises ConfigError."""
    proxies = getproxies()
    host = f"{url.raw_host}:{url.port}"
    given = proxies.get(url.scheme)
    if not given or proxy_bypass(host):
        return None
    try:
        proxy = URL(given if "://" in given else f"http://{given}")
    except ValueError:
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        # Its value is not repeated: it may hold a password.
        raise ConfigError(f"{url.scheme.upper()}_PROXY: it must be the URL of an HTTP proxy: http://host:port")
    return proxy


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """The system's authorities, and those in `ca_file`. Raises ConfigError."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:  # ssl.SSLError is one
            why = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigError(f"CHATBOT_CA_FILE: {ca_file} cannot be used: {why}") from None
    return context


def open_session(
    *,
    context: ssl.SSLContext | None,
    resolver: AbstractResolver | None,
    connect_seconds: float,
    traces: list[aiohttp.TraceConfig] | None = None,
) -> aiohttp.ClientSession:
    """A pool of connections. Reads neither ~/.netrc nor proxies; keeps no cookies."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0,  # admission bounds what is asked at once
            resolver=SafeResolver(resolver or aiohttp.ThreadedResolver()),
            ssl=context or True,
            ttl_dns_cache=int(KEEP_SECONDS),
            keepalive_timeout=KEEP_SECONDS,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds),
        trace_configs=traces,
    )


class Peers:
    """How many pods share what is theirs together: the addresses behind one name. 1 as long as it is not known."""

    def __init__(self, name: str, resolver: AbstractResolver | None = None) -> None:
        self._name = name
        self._resolver = resolver
        self.count = 1

    async def follow(self, seconds: float) -> None:
        """Counts, for ever; the last number stays while the name cannot be resolved."""
        if not self._name:
            return
        resolver = self._resolver or aiohttp.ThreadedResolver()
        while True:
            try:
                found = await resolver.resolve(self._name, 0, socket.AF_UNSPEC)
            except OSError:
                found = []
            # A pod has one address of each family.
            families = [{r["host"] for r in found if r["family"] == f} for f in (socket.AF_INET, socket.AF_INET6)]
            count = max(map(len, families))
            if count and count != self.count:
                log.info("peers counted", extra={"replicas": count})
            self.count = count or self.count
            await asyncio.sleep(seconds)
