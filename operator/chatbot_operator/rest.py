"""How the Kubernetes API is spoken in HTTP: the paths of its objects, and what its refusals mean. Pure."""

import json
from collections.abc import Mapping
from urllib.parse import quote

from chatbot_operator.cluster import (
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Terminating,
    Throttled,
    Transient,
)
from chatbot_operator.kinds import Kind


def path(kind: Kind, namespace: str | None, name: str = "", subresource: str = "") -> str:
    """The URL path of a collection, an object or one of its subresources."""
    parts = ["apis", kind.group, kind.version] if kind.group else ["api", kind.version]
    if namespace is not None:
        parts += ["namespaces", namespace]
    parts += [part for part in (kind.plural, name, subresource) if part]
    return "/" + "/".join(quote(part, safe="") for part in parts)


def error_of(
    status: int, data: bytes, headers: Mapping[str, str], *, verb: str = "", resource: str = ""
) -> ClusterError:
    """The error that an answer of 400 or above stands for, with the server's own message."""
    try:
        parsed = json.loads(data)
        message = str(parsed.get("message") or "") if isinstance(parsed, dict) else ""
    except ValueError:
        message = ""
    message = message or f"the API server answered {status}"
    if status == 429:
        return Throttled(message, retry_after=_retry_after(headers), verb=verb, resource=resource)
    if status == 403 and "because it is being terminated" in message:
        return Terminating(message, verb=verb, resource=resource)
    kinds: dict[int, type[ClusterError]] = {400: Invalid, 403: Forbidden, 404: NotFound, 409: Conflict, 422: Invalid}
    return kinds.get(status, Transient)(message, verb=verb, resource=resource)


def _retry_after(headers: Mapping[str, str]) -> float:
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "")
    try:
        return min(max(float(value), 0.1), 60)
    except ValueError:
        return 1.0
