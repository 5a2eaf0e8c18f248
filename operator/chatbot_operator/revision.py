"""What makes a pod's provider another one: a hash of the fields that decide it. Pure."""

from typing import Any

from chatbot_operator import names
from chatbot_operator.api import ChatbotSpec


def revision(spec: ChatbotSpec) -> str:
    """Eight hex digits that name the provider: phase, models, address, whose token, weights and engine options.

    Not the runtime's image, nor settings that reach running pods: those change without a new test question.
    """
    return names.short_hash(_provider(spec))


def _provider(spec: ChatbotSpec) -> dict[str, Any]:
    if spec.phase == "mock":
        return {"phase": "mock"}
    if spec.phase == "hf":
        token = spec.hf.token_secret_ref.manifest()
        return {"phase": "hf", "models": spec.hf.models, "baseURL": spec.hf.base_url, "token": token}
    local = spec.local
    return {
        "phase": "local",
        "models": local.models,
        "source": local.source.manifest(),
        "claim": [local.storage.storage_class_name, local.storage.access_mode],
        "image": local.image,
        "parallel": local.parallel,
        "contextLength": local.context_length,
        "keepAlive": local.keep_alive,
        "gpu": local.gpu.manifest() if local.gpu else None,
    }


def list_hash(spec: ChatbotSpec) -> str:
    """Eight hex digits that name a list of models and where it comes from: one download."""
    download = spec.local.source.download
    return names.short_hash([spec.local.models, download.registry if download else ""])


def web_inputs(spec: ChatbotSpec) -> str:
    """The same as `template_inputs` for the chat page's pods."""
    exposed = [spec.expose.type, spec.expose.external_traffic_policy, spec.expose.host, spec.access.trusted_hops]
    return names.short_hash([spec.web.resources.manifest(), spec.pods.manifest(), spec.backend.rollout, exposed])


def template_inputs(spec: ChatbotSpec) -> str:
    """Eight hex digits that name everything in the spec that enters the pods' template.

    A template that differs while this is the same was changed by the operator's own version or settings.
    """
    blocks = {"mock": spec.mock.resources, "hf": spec.hf.resources, "local": spec.local}
    return names.short_hash(
        [
            _provider(spec),
            blocks[spec.phase].manifest(),
            spec.pods.manifest(),
            spec.network.manifest(),
            [spec.access.mode, spec.access.keys_secret_ref.manifest() if spec.access.keys_secret_ref else None],
            spec.backend.rollout,
        ]
    )
