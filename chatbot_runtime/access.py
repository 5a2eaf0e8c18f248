"""Who is asking: API keys, and the address of a client without one. It must not know limits or HTTP frameworks."""

import hashlib
import hmac
import ipaddress
import logging
import os
from functools import lru_cache
from pathlib import Path

from chatbot_runtime.contract import SecretState
from chatbot_runtime.errors import ApiError

log = logging.getLogger(__name__)

MAX_KEY_BYTES = 4096
IPV6_CLIENT_PREFIX = 64
"""One IPv6 customer has at least a /64 (RFC 6177), so single addresses tell nobody apart."""


class KeyRing:
    """The API keys in a mounted Secret's directory: each file name is a client, its content the client's key.

    No directory, no files or only unreadable ones: nobody has a key, so everyone is refused.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._seen: object = None
        self._digests: tuple[tuple[str, bytes], ...] = ()
        self.state: SecretState = "missing"
        """Never `notNeeded`: whether keys are needed is a setting."""
        self.poll()

    def __len__(self) -> int:
        return len(self._digests)

    def poll(self) -> None:
        """Reads the keys again if a file came, went or changed. A key whose file is gone is revoked."""
        if self._directory is None:
            return
        signature = _signature(self._directory)
        if signature != self._seen:
            self._seen = signature
            self._digests, self.state = _read(self._directory)
            log.info("API keys read", extra={"keys": len(self._digests)})

    def client_of(self, authorization: str | None) -> str:
        """The client whose key is in an `Authorization: Bearer …` header. Raises ApiError 401.

        Compares digests with every key and never leaves early, so the time it takes tells nothing about a key.
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise ApiError(
                401, "missing_api_key", "This chatbot needs an API key: send it as 'Authorization: Bearer <key>'."
            )
        digest = _digest(key.strip().encode("utf-8", "surrogateescape"))
        found = None
        for client, known in self._digests:
            if hmac.compare_digest(digest, known):
                found = client
        if found is None:
            raise ApiError(
                401, "invalid_api_key", "The API key is not known here: check it, or ask the chatbot's owner for one."
            )
        return found


def client_address(peer: str | None, forwarded_for: list[str], trusted_hops: int) -> str:
    """The address that stands for a client without a key.

    `forwarded_for`: the values of all X-Forwarded-For headers, in order. Every one of the `trusted_hops` proxies
    between client and here has appended the address that it saw, so the client's own is that many entries from the
    end; what stands before it may be invented. Fewer entries: the request came round the proxies, and only `peer`
    can be believed.
    """
    if trusted_hops:
        entries = [entry.strip() for value in forwarded_for for entry in value.split(",")]
        if len(entries) >= trusted_hops and (address := _parsed(entries[-trusted_hops])):
            return address
    return _parsed(peer or "") or "unknown"


@lru_cache(maxsize=1024)
def _parsed(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, IPV6_CLIENT_PREFIX), strict=False))
    return str(address)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _signature(directory: Path) -> object:
    try:
        with os.scandir(directory) as entries:
            stats = [(entry.name, entry.stat()) for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.errno
    return sorted((name, stat.st_mtime_ns, stat.st_ino, stat.st_size) for name, stat in stats)


def _read(directory: Path) -> tuple[tuple[tuple[str, bytes], ...], SecretState]:
    """Clients with their keys' digests, and what can be said of the whole; the weightiest fault if there is no key."""
    try:
        # Names with a dot in front are the kubelet's own links.
        paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return (), "missing"
    except OSError:
        return (), "unreadable"
    keys = []
    state: SecretState = "empty" if paths else "missing"
    for path in paths:
        try:
            key = path.read_bytes().strip()
        except OSError as error:
            log.warning("API key of client %s cannot be read: %s", path.name, error.strerror)
            state = "unreadable"
            continue
        if 0 < len(key) <= MAX_KEY_BYTES:
            keys.append((path.name, _digest(key)))
        else:
            log.warning("API key of client %s is ignored: it must have 1 to %d bytes", path.name, MAX_KEY_BYTES)
    return tuple(keys), "ok" if keys else state
