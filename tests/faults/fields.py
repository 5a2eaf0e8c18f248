"""Which field of a spec shows where in its children: one row each, with values to try. Pure.

`test_fields.py` holds the table against the CRD's schema: a field is in here, or in `LATER` with what it waits for.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from chatbot_operator import names
from chatbot_operator.desired.base import WEB
from chatbot_operator.desired.deployment import CONTAINER
from chatbot_operator.desired.nginx import PAGE_KEY
from chatbot_operator.kinds import AUTOSCALER, CONFIG_MAP, DEPLOYMENT, SERVICE, Kind
from chatbot_operator.units import quantity
from tests.faults.admin import Object
from tests.faults.world import Id

Spec = dict[str, Any]
PRIORITY_CLASS = "faults-high"


@dataclass(frozen=True)
class Shown:
    """Where a value shows: an object, and how it is read from it."""

    kind: Kind
    name: Callable[[str], str]
    read: Callable[[Object], Any]


@dataclass(frozen=True)
class Field:
    """One field of the spec. `wanted` turns its value into what must be read from the child."""

    path: str
    values: tuple[Any, ...]
    shown: Shown
    wanted: Callable[[Any], Any] = lambda value: value
    needs: Callable[[Spec], bool] = lambda _: True
    """Whether it counts in this spec."""


def _settings(*path: str) -> Shown:
    return Shown(CONFIG_MAP, names.backend, lambda o: dig(json.loads(o["data"][names.SETTINGS_KEY]), *path))


def _template(*path: str) -> Shown:
    return Shown(DEPLOYMENT, names.backend, lambda o: dig(o, "spec", "template", *path))


def _container(*path: str) -> Shown:
    def read(deployment: Object) -> Any:
        containers = deployment["spec"]["template"]["spec"]["containers"]
        return dig(next(c for c in containers if c["name"] == CONTAINER), *path)

    return Shown(DEPLOYMENT, names.backend, read)


def _deployment(*path: str) -> Shown:
    return Shown(DEPLOYMENT, names.backend, lambda o: dig(o, "spec", *path))


def _scaler(read: Callable[[Object], Any]) -> Shown:
    return Shown(AUTOSCALER, names.backend, read)


def _page(spec: Spec) -> bool:
    return bool(dig(spec, "web", "enabled") is not False)


def _no_page(spec: Spec) -> bool:
    return not _page(spec)


def _page_scales(spec: Spec) -> bool:
    return _page(spec) and bool(dig(spec, "web", "autoscaling", "enabled") is not False and not spec.get("suspend"))


def _told(*path: str) -> Shown:
    """What the page is told."""
    return Shown(CONFIG_MAP, names.web, lambda o: dig(json.loads(o["data"][PAGE_KEY]), *path))


def _page_template(*path: str) -> Shown:
    return Shown(DEPLOYMENT, names.web, lambda o: dig(o, "spec", "template", *path))


def _nginx(*path: str) -> Shown:
    return Shown(DEPLOYMENT, names.web, lambda o: dig(o["spec"]["template"]["spec"]["containers"][0], *path))


def _page_scaler(read: Callable[[Object], Any]) -> Shown:
    return Shown(AUTOSCALER, names.web, read)


def _page_resources() -> Iterator["Field"]:
    for resource, both in AMOUNTS.items():
        for kind, values in zip(("requests", "limits"), both, strict=True):
            shown = _amount(_nginx("resources", kind, resource))
            yield Field(f"web.resources.{kind}.{resource}", values, shown, _quantity, needs=_page)


def _service(read: Callable[[Object], Any]) -> Shown:
    return Shown(SERVICE, lambda name: name, read)


def _volume(name: str, *path: str) -> Shown:
    def read(deployment: Object) -> Any:
        volumes = deployment["spec"]["template"]["spec"].get("volumes", ())
        return dig(next((v for v in volumes if v["name"] == name), {}), *path)

    return Shown(DEPLOYMENT, names.backend, read)


def dig(obj: Any, *path: str) -> Any:
    """The value at a path, or None."""
    for step in path:
        obj = obj.get(step) if isinstance(obj, Mapping) else None
    return obj


def _amount(shown: Shown) -> Shown:
    def read(obj: Object) -> Any:
        value = shown.read(obj)
        return None if value is None else quantity(str(value))

    return Shown(shown.kind, shown.name, read)


def _quantity(value: Any) -> Decimal:
    return quantity(str(value))


def _scales(spec: Spec) -> bool:
    return bool(dig(spec, "backend", "autoscaling", "enabled") is not False and not spec.get("suspend"))


def _fixed(spec: Spec) -> bool:
    return bool(dig(spec, "backend", "autoscaling", "enabled") is False and not spec.get("suspend"))


def _outside(spec: Spec) -> bool:
    return dig(spec, "expose", "type") in ("NodePort", "LoadBalancer")


def _balanced(spec: Spec) -> bool:
    return bool(dig(spec, "expose", "type") == "LoadBalancer")


def _subset(shown: Shown, keys: Callable[[], Mapping[str, str]]) -> Shown:
    """Only the keys that the test ever sets: ours stand beside them."""
    known = set(keys())
    return Shown(shown.kind, shown.name, lambda o: {k: v for k, v in (shown.read(o) or {}).items() if k in known})


def _hosted(spec: Spec) -> bool:
    return bool(spec["phase"] == "hf")


def _variable(name: str) -> Shown:
    def read(container: Any) -> Any:
        return next((v["value"] for v in container or () if v["name"] == name), None)

    env = _container("env")
    return Shown(env.kind, env.name, lambda o: read(env.read(o)))


AMOUNTS = {"cpu": (("50m", "0.2"), ("1", 2)), "memory": (("96Mi", "134217728"), ("512Mi", "1Gi"))}
AMOUNTS["ephemeral-storage"] = (("100Mi", "0.5Gi"), ("1Gi", "2Gi"))


def _resources(phase: str) -> Iterator["Field"]:
    """Requests and limits of a phase's pods."""
    for resource, both in AMOUNTS.items():
        for kind, values in zip(("requests", "limits"), both, strict=True):
            shown = _amount(_container("resources", kind, resource))
            path = f"{phase}.resources.{kind}.{resource}"
            yield Field(path, values, shown, _quantity, needs=lambda spec: bool(spec["phase"] == phase))


_LABELS = ({"team": "blue"}, {"team": "red", "stage": "test"})
_NOTES = ({"example.com/note": "one"}, {"example.com/note": "two", "example.com/more": "x"})
_SELECTORS = ({"type": "fake"}, {"kubernetes.io/os": "linux"})
_TOLERATIONS = (
    [{"key": "example.com/chat", "operator": "Exists", "effect": "NoSchedule"}],
    [{"key": "example.com/a", "operator": "Equal", "value": "b"}],
)
_SPREAD = (
    [{"maxSkew": 2, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}],
    [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}],
)


def _constraints(deployment: Object) -> Any:
    found = deployment["spec"]["template"]["spec"].get("topologySpreadConstraints", ())
    return [{k: c[k] for k in ("maxSkew", "topologyKey", "whenUnsatisfiable")} for c in found]


FIELDS: tuple[Field, ...] = (
    Field("systemPrompt", ("Be brief.", "Sei höflich: 'so' \"so\" $(id) {{x}}"), _settings("systemPrompt")),
    Field("mock.replies", (["One."], ["One.", "Two: \u202e"]), _settings("mock", "replies")),
    Field("mock.tokensPerSecond", (7, 1000), _settings("mock", "tokensPerSecond")),
    *_resources("mock"),
    Field("phase", ("mock", "hf"), _template("metadata", "labels", names.PHASE_LABEL)),
    Field(
        "hf.models",
        (["team/one"], ["team/one", "team/two:fastest"]),
        _variable("CHATBOT_MODELS"),
        ",".join,
        needs=_hosted,
    ),
    Field(
        "hf.baseURL",
        ("https://router.huggingface.co/v1", "https://router.huggingface.co:443/v2"),
        _variable("CHATBOT_BASE_URL"),
        needs=_hosted,
    ),
    Field(
        "hf.tokenSecretRef",
        ({"name": "mine", "key": "token"}, {"name": "mine", "key": "hf"}),
        _volume("token", "secret"),
        lambda ref: {
            "secretName": ref["name"],
            "items": [{"key": ref["key"], "path": "token"}],
            "optional": True,
            "defaultMode": 420,
        },
        needs=_hosted,
    ),
    Field("hf.timeoutSeconds", (5, 120), _settings("hf", "timeoutSeconds"), float),
    Field("hf.requestsPerMinute", (1, 600), _settings("hf", "requestsPerMinute")),
    *_resources("hf"),
    Field("network.httpProxy", ("http://proxy.example:3128",), _variable("HTTP_PROXY"), needs=_hosted),
    Field("network.httpsProxy", ("http://proxy.example:3129",), _variable("HTTPS_PROXY"), needs=_hosted),
    Field("network.noProxy", (".svc", ".svc,10.0.0.0/8"), _variable("NO_PROXY"), needs=_hosted),
    Field(
        "network.caBundleConfigMapRef",
        ({"name": "ours", "key": "ca.crt"},),
        _volume("ca", "configMap", "name"),
        lambda ref: ref["name"],
        needs=_hosted,
    ),
    Field("fallback.to", ("mock", "none"), _settings("fallback", "to")),
    Field("fallback.afterFailures", (2, 9), _settings("fallback", "afterFailures")),
    Field("fallback.retryAfterSeconds", (5, 60), _settings("fallback", "retryAfterSeconds"), float),
    Field("access.mode", ("Anonymous", "APIKey"), _settings("access", "mode")),
    Field("access.keysSecretRef.name", ("chat-keys", "other-keys"), _volume("keys", "secret", "secretName")),
    Field("access.requestsPerMinute", (5, 600), _settings("access", "requestsPerMinute")),
    Field("access.concurrentRequests", (1, 50), _settings("access", "concurrentRequests")),
    Field("access.trustedHops", (1, 3), _settings("access", "trustedHops"), needs=_no_page),
    Field("access.trustedHops", (1, 3), _settings("access", "trustedHops"), lambda hops: hops + 1, needs=_page),
    Field(
        "access.corsOrigins",
        (["https://a.example"], ["https://a.example", "http://b"]),
        _settings("access", "corsOrigins"),
    ),
    Field("backend.autoscaling.minReplicas", (1, 2), _scaler(lambda o: dig(o, "spec", "minReplicas")), needs=_scales),
    Field("backend.autoscaling.maxReplicas", (3, 5), _scaler(lambda o: dig(o, "spec", "maxReplicas")), needs=_scales),
    Field(
        "backend.autoscaling.targetCPUPercent",
        (50, 90),
        _scaler(lambda o: o["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"]),
        needs=_scales,
    ),
    Field("backend.replicas", (1, 2, 3), _deployment("replicas"), needs=_fixed),
    Field(
        "backend.rollout",
        ("Surge", "Replace"),
        _deployment("strategy", "rollingUpdate", "maxUnavailable"),
        lambda value: 0 if value == "Surge" else 1,
    ),
    Field("suspend", (True,), _deployment("replicas"), lambda _: 0),
    Field("expose.type", ("ClusterIP", "NodePort", "LoadBalancer"), _service(lambda o: o["spec"]["type"])),
    Field("expose.port", (8080, 443), _service(lambda o: o["spec"]["ports"][0]["port"])),
    Field(
        "expose.annotations",
        _NOTES,
        _subset(_service(lambda o: o["metadata"].get("annotations")), lambda: _NOTES[1]),
    ),
    Field(
        "expose.externalTrafficPolicy",
        ("Local", "Cluster"),
        _service(lambda o: o["spec"].get("externalTrafficPolicy")),
        needs=_outside,
    ),
    Field(
        "expose.loadBalancerSourceRanges",
        (["203.0.113.0/24"], ["203.0.113.0/24", "198.51.100.0/24"]),
        _service(lambda o: o["spec"].get("loadBalancerSourceRanges")),
        needs=_balanced,
    ),
    Field(
        "web.enabled",
        (True, False),
        _service(lambda o: o["spec"]["selector"][names.COMPONENT_LABEL] == WEB),
        needs=_page,
    ),
    Field("web.title", ("Support", "\u202e</title>"), _told("title"), needs=_page),
    Field("web.greeting", ("Hello!", "a\nb"), _told("greeting"), needs=_page),
    Field("web.suggestions", (["One?"], ["One?", "Two?"]), _told("suggestions"), needs=_page),
    *_page_resources(),
    Field("web.autoscaling.minReplicas", (1, 2), _page_scaler(lambda o: o["spec"]["minReplicas"]), needs=_page_scales),
    Field("web.autoscaling.maxReplicas", (3, 5), _page_scaler(lambda o: o["spec"]["maxReplicas"]), needs=_page_scales),
    Field(
        "web.autoscaling.targetCPUPercent",
        (50, 90),
        _page_scaler(lambda o: o["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"]),
        needs=_page_scales,
    ),
    Field("pods.labels", _LABELS, _subset(_page_template("metadata", "labels"), lambda: _LABELS[1]), needs=_page),
    Field("pods.tolerations", _TOLERATIONS, _page_template("spec", "tolerations"), needs=_page),
    Field(
        "pods.imageRegistry",
        ("registry.example.com", "registry.example.com/mirror"),
        _nginx("image"),
        lambda value: f"{value}/chatbot-web:test",
        needs=_page,
    ),
    Field("pods.labels", _LABELS, _subset(_template("metadata", "labels"), lambda: _LABELS[1])),
    Field("pods.annotations", _NOTES, _subset(_template("metadata", "annotations"), lambda: _NOTES[1])),
    Field("pods.nodeSelector", _SELECTORS, _template("spec", "nodeSelector")),
    Field("pods.tolerations", _TOLERATIONS, _template("spec", "tolerations")),
    Field("pods.priorityClassName", (PRIORITY_CLASS,), _template("spec", "priorityClassName")),
    Field(
        "pods.imagePullSecrets",
        ([{"name": "a"}], [{"name": "a"}, {"name": "b"}]),
        _template("spec", "imagePullSecrets"),
    ),
    Field(
        "pods.imageRegistry",
        ("registry.example.com", "registry.example.com/mirror"),
        _container("image"),
        lambda value: f"{value}/chatbot-runtime:test",
    ),
    Field("pods.topologySpreadConstraints", _SPREAD, Shown(DEPLOYMENT, names.backend, _constraints)),
)

LATER: Mapping[str, str] = {
    "local": "phase local",
    "web.autoscaling.enabled": "decides whether there is an autoscaler: `inconsistencies` asks that by itself",
    "privacy": "refused together with phase hf; test_network.py",
    "expose.host": "routes",
    "expose.gatewayRef": "routes",
    "expose.ingressClassName": "routes",
    "expose.tlsSecretName": "routes",
    "expose.loadBalancerClass": "a class of another balancer: no address here; rendered by tests/data/rendered",
    "backend.autoscaling.enabled": "decides whether there is an autoscaler: `inconsistencies` asks that by itself",
}


def inconsistencies(raw: Object, world: Mapping[Id, Object]) -> list[str]:
    """Fields of a Chatbot's spec whose value its children do not have."""
    name, spec = raw["metadata"]["name"], raw["spec"]
    found = []
    for field in FIELDS:
        value = dig(spec, *field.path.split("."))
        if value in (None, False, [], {}) or not field.needs(spec):
            continue
        child = world.get(Id(field.shown.kind.name, field.shown.name(name)))
        if child is None:
            found.append(f"{field.path}: no {field.shown.kind}")
            continue
        shown = field.shown.read(child)
        if shown != field.wanted(value):
            found.append(f"{field.path} is {value!r}, its {field.shown.kind} has {shown!r}")
    for block, own, scales in (("backend", names.backend, _scales), ("web", names.web, _page_scales)):
        scaler = world.get(Id(AUTOSCALER.name, own(name))) is not None
        if scaler != scales(spec):
            found.append(f"{block}.autoscaling: the autoscaler is {'there' if scaler else 'missing'}")
    return found


# Specs and changes at random -------------------------------------------------------------------------------------


def random_spec(rng: random.Random, changes: int) -> Spec:
    """A valid spec with that many changes from the smallest one."""
    spec: Spec = {"phase": "mock"}
    for block in ("backend", "web"):
        spec[block] = {"autoscaling": {"minReplicas": 1}}
    for _ in range(changes):
        mutate(spec, rng)
    return spec


def mutate(spec: Spec, rng: random.Random, field: Field | None = None) -> str:
    """Change one field in place, and what must change with it; returns its path."""
    field = field or rng.choice(FIELDS)
    value = rng.choice([v for v in field.values if v != dig(spec, *field.path.split("."))] or field.values)
    if field.path == "suspend":
        value = not spec.get("suspend", False)
    _put(spec, field.path, value)
    _repair(spec, field.path)
    return field.path


def _repair(spec: Spec, changed: str) -> None:
    """Meet the rules between fields, giving way to the one that was changed."""
    backend, access = spec.setdefault("backend", {}), spec.setdefault("access", {})
    if changed == "backend.replicas":
        backend["autoscaling"] = {"enabled": False}
    elif changed.startswith("backend.autoscaling"):
        backend["autoscaling"].pop("enabled", None)
        backend.pop("replicas", None)
    if access.get("mode") == "APIKey":
        access.setdefault("keysSecretRef", {"name": "chat-keys"})
    expose = spec.get("expose", {})
    if expose.get("type", "ClusterIP") != "ClusterIP":
        access.setdefault("mode", "Anonymous")
    if expose.get("type") != "LoadBalancer":
        expose.pop("loadBalancerSourceRanges", None)
    if expose.get("type", "ClusterIP") == "ClusterIP":
        expose.pop("externalTrafficPolicy", None)
    least = {"mock": {"cpu": "100m", "memory": "128Mi"}, "hf": {"cpu": "200m", "memory": "256Mi"}}
    for phase, low in least.items():
        limits, requests = (dig(spec, phase, "resources", k) or {} for k in ("limits", "requests"))
        for resource in low:
            asked = requests.get(resource, low[resource])
            if resource in limits and quantity(str(limits[resource])) < quantity(str(asked)):
                limits.pop(resource)


def _put(spec: Spec, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for step in parents:
        spec = spec.setdefault(step, {})
    spec[last] = value
