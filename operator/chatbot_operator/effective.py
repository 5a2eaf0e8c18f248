"""What a spec comes to once the defaults that depend on the phase are filled in. Pure."""

from decimal import Decimal
from typing import NamedTuple

from chatbot_operator.api import Autoscaling, ChatbotSpec, Phase, Resources
from chatbot_operator.units import quantity


class Range(NamedTuple):
    """How few and how many pods an autoscaler may run."""

    least: int
    most: int


_BACKEND_RANGES: dict[Phase, Range] = {"mock": Range(2, 10), "hf": Range(2, 10), "local": Range(1, 1)}


def backend_range(spec: ChatbotSpec, phase: Phase) -> Range:
    """The autoscaler's range of backend pods in a phase."""
    return _range(spec.backend.autoscaling, _BACKEND_RANGES[phase])


def web_range(spec: ChatbotSpec) -> Range:
    """The autoscaler's range of the chat page's pods."""
    return _range(spec.web.autoscaling, Range(2, 10))


def web_minimum(spec: ChatbotSpec) -> int:
    """The fewest pods of the chat page; one while suspended, which says so."""
    return 1 if spec.suspend else web_range(spec).least


def _range(autoscaling: Autoscaling, default: Range) -> Range:
    least, most = autoscaling.min_replicas, autoscaling.max_replicas
    if least is None:
        least = default.least if most is None else min(default.least, most)
    if most is None:
        most = max(default.most, least)
    return Range(least, max(most, least))


def backend_minimum(spec: ChatbotSpec, phase: Phase) -> int:
    """The fewest backend pods that run in a phase while not suspended."""
    if not spec.backend.autoscaling.enabled and spec.backend.replicas is not None:
        return spec.backend.replicas
    return backend_range(spec, phase).least


def backend_resources(spec: ChatbotSpec, phase: Phase) -> Resources:
    """What a whole backend pod asks for in a phase."""
    blocks = {"mock": spec.mock.resources, "hf": spec.hf.resources, "local": spec.local.resources}
    return blocks[phase]


def fallback_to(spec: ChatbotSpec, phase: str = "") -> str:
    """Who answers when the provider of a phase (default: the spec's) cannot: `mock` or `none`.

    A private model is used by programs too, for which canned text would be wrong data.
    """
    return spec.fallback.to or ("none" if (phase or spec.phase) == "local" else "mock")


def shared_addresses(spec: ChatbotSpec) -> bool:
    """Whether many clients reach the pods from one address: a node's, or a proxy's whose header is not trusted."""
    expose = spec.expose
    hidden = expose.type != "ClusterIP" and expose.external_traffic_policy == "Cluster"
    return spec.access.trusted_hops == 0 and (hidden or expose.host is not None)


def downloads(spec: ChatbotSpec) -> bool:
    """Whether the weights come by a Job into a claim of ours, now or ahead of a switch."""
    return spec.local.source.downloads and (spec.phase == "local" or spec.local.prefetch)


def engine(spec: ChatbotSpec, phase: Phase) -> str:
    """The program behind the answers of a phase, as `status.model.engine` names it."""
    if phase == "local":
        return "llama.cpp" if spec.local.models[0].startswith("hf://") else "ollama"
    return {"mock": "mock", "hf": "router"}[phase]


def default_model(spec: ChatbotSpec, phase: Phase) -> str:
    """The model of a phase that a request without a name gets."""
    return {"mock": "mock", "hf": spec.hf.models[0], "local": spec.local.models[0]}[phase]


def storage_size(spec: ChatbotSpec) -> Decimal:
    """Bytes of the claim of the weights."""
    return quantity(spec.local.storage.size)
