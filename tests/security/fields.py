"""Specs in which one field has a given value, and values that no field should take lightly. Knows no cluster."""

import copy
import re
from collections.abc import Iterator
from typing import Any

from chatbot_operator.api import crd
from tests.support.schemas import Schema, is_leaf, nodes

SPEC: Schema = crd.object_schema()["properties"]["spec"]
FIELDS: dict[str, Schema] = dict(nodes(SPEC))
"""Every field of the spec by its path: `.a.b`, `[]` for items, `.*` for the values of a map."""

STRINGS = [
    path
    for path, node in FIELDS.items()
    if is_leaf(node) and node.get("type", "string") == "string" and "enum" not in node
]
MAPS = [path for path, node in FIELDS.items() if "additionalProperties" in node]
KEY = "example.com/key"

_BASE = {"phase": "mock", "access": {"mode": "Anonymous"}}
_HOST = {"host": "chat.example.com"}
_NEEDS: dict[str, dict[str, Any]] = {
    ".expose.host": {"expose": {"gatewayRef": {"name": "public"}}},
    ".expose.gatewayRef": {"expose": _HOST},
    ".expose.ingressClassName": {"expose": _HOST},
    ".expose.tlsSecretName": {"expose": {**_HOST, "ingressClassName": "nginx"}},
    ".expose.loadBalancer": {"expose": {"type": "LoadBalancer"}},
    ".backend.replicas": {"backend": {"autoscaling": {"enabled": False}}},
}
"""What else must be set so that a field means something, by the beginning of its path."""


def with_field(path: str, value: Any) -> dict[str, Any]:
    """The smallest spec that is valid but for this value."""
    spec = copy.deepcopy(_BASE)
    for beginning, needed in _NEEDS.items():
        if path.startswith(beginning):
            _merge(spec, copy.deepcopy(needed))
    _put(spec, SPEC, re.findall(r"\.\*|\[\]|\.[-\w]+", path), value)
    return spec


def _put(target: dict[str, Any], schema: Schema, steps: list[str], value: Any) -> None:
    step, rest = steps[0], steps[1:]
    name = KEY if step == ".*" else step[1:]
    child = schema["additionalProperties"] if step == ".*" else schema["properties"][name]
    if rest and rest[0] == "[]":
        if len(rest) == 1:
            target[name] = [value]
            return
        item = _least(child["items"])
        _put(item, child["items"], rest[1:], value)
        target[name] = [item]
    elif rest:
        inner = {**_least(child), **target.get(name, {})} if "properties" in child else {}
        _put(inner, child, rest, value)
        target[name] = inner
    else:
        target[name] = value


def _least(schema: Schema) -> dict[str, Any]:
    """An object with the fields that it must have."""
    return {name: _valid(schema["properties"][name]) for name in schema.get("required", ())}


def _valid(schema: Schema) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "integer":
        return schema.get("minimum", 1)
    return "a"


def _merge(target: dict[str, Any], extra: dict[str, Any]) -> None:
    for name, value in extra.items():
        if isinstance(value, dict):
            _merge(target.setdefault(name, {}), value)
        else:
            target[name] = value


LONG = "a" * 10_240
ODD_TEXTS = (
    "",
    "日本語 ñ \u202egnp.exe\u200b",
    LONG,
    "x" * 153_600,
    "$(id)`id`;|&&\n'\"\\",
    "{{x}} %s {0} # - : *a &b",
    "../../etc/passwd",
)


def wrong_types(schema: Schema) -> list[Any]:
    """Values of another type, which must be refused."""
    if "x-kubernetes-int-or-string" in schema:
        return [True, [], {}, 1.5]
    if schema.get("type") == "string":
        return [5, True, [], {}]
    if schema.get("type") == "array":
        return ["text", 5, {}]
    if schema.get("type") == "object":
        return ["text", 5, []]
    return ["text", [], {}, 1.5 if schema.get("type") == "integer" else 1]


def beyond_limits(schema: Schema) -> list[Any]:
    """Values just outside of what the schema allows, which must be refused."""
    found: list[Any] = []
    if "minimum" in schema and schema.get("type") in ("integer", "number"):
        found.append(schema["minimum"] - (0 if schema.get("exclusiveMinimum") else 1))
    if "maximum" in schema and schema.get("type") in ("integer", "number"):
        found.append(schema["maximum"] + (0 if schema.get("exclusiveMaximum") else 1))
    if schema.get("minLength"):
        found.append("a" * (schema["minLength"] - 1))
    if "maxLength" in schema:
        found.append("a" * (schema["maxLength"] + 1))
    if "enum" in schema:
        found.append("another")
    if "maxItems" in schema:
        item = schema["items"]
        found.append([_least(item) if "properties" in item else f"a{i}" for i in range(schema["maxItems"] + 1)])
    if "maxProperties" in schema:
        found.append({f"example.com/k{i}": "a" for i in range(schema["maxProperties"] + 1)})
    return found


_PAYLOADS = (
    # shells
    *(
        "; id",
        "$(id)",
        "`id`",
        "| id",
        "&& id",
        "|| id",
        "> /tmp/x",
        "' ; id ; '",
        '" ; id ; "',
        "${IFS}id",
        "\\x41",
        "-rf /",
    ),
    *("--help", "~root", "*", "?", "!!", "$HOME", "$(< /etc/passwd)", "\0id".replace("\0", "\x01")),
    # paths
    *(
        "../../etc/passwd",
        "/etc/passwd",
        "..\\..\\x",
        "%2e%2e%2f",
        "....//",
        "file:///etc/passwd",
        "/proc/self/environ",
        ".",
    ),
    # nginx
    *("; } server { listen 81;", "$uri", "\\$host", "}{", "# comment", "include /etc/nginx/*;"),
    # Python's formats and templates
    *("%s%s%n", "%(x)s", "{0.__class__}", "{x!r}", "{{7*7}}", "{% raw %}", "${7*7}", "<%= 7 %>", "__import__('os')"),
    # YAML and JSON
    *(
        "a: b",
        "- a",
        "&a *a",
        "!!python/object:os.system",
        "|\n  x",
        "'",
        '"',
        "\\",
        "null",
        "true",
        "0x1f",
        "1e3",
        "{}",
        "[]",
    ),
    *("---\nkind: Pod", "# x", "<<: *a", '","x":"y', "\\u0000", "~"),
    # HTTP
    *(
        "a\r\nX-Evil: 1",
        "a\nSet-Cookie: x=y",
        "\r\n\r\n<html>",
        "http://user:pw@h/",
        "javascript:alert(1)",
        "<script>x</script>",
    ),
    # Unicode: direction marks, zero width, look-alikes, combining, far planes, controls
    *(
        "\u202egnp.exe",
        "\u2066x\u2069",
        "a\u200bb",
        "\ufeffa",
        "раураl",
        "e\u0301" * 20,
        "\U0001f600",
        "\U000e0041",
        "\u2028x",
    ),
    *("\x1b[31m", "\x7f", "\t", " ", "\u00a0", "ﬀ", "İ", "\ud7ff"),
    # SQL and LDAP, which have no business here
    *("' OR 1=1 --", "*)(uid=*"),
)
_AROUND = ("{}", "a{}", "{}a", "a{}a", "{}{}", "a {} a")


def hostile_texts() -> Iterator[str]:
    """At least 500 texts, no two alike, the longest of 300 characters."""
    for payload in _PAYLOADS:
        for around in _AROUND:
            yield around.replace("{}", payload)
    for payload in _PAYLOADS[:10]:
        yield (payload * 300)[:300]
