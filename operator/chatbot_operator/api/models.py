"""The Chatbot object: its spec as a whole, and how raw data from the API server becomes one.

Pure: knows neither a cluster nor a client.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError

from chatbot_operator.api.base import Block, Rule, ruled
from chatbot_operator.api.exposure import Access, Expose, Privacy
from chatbot_operator.api.phases import HfSpec, LocalSpec, MockSpec
from chatbot_operator.api.pods import Network, Pods
from chatbot_operator.api.serving import Backend, Fallback, Web
from chatbot_operator.api.status import ChatbotStatus

GROUP = "chatbot-operator.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "Chatbot"
PLURAL = "chatbots"

Phase = Literal["mock", "hf", "local"]

NAME_RULE = Rule(
    "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 45",
    "metadata.name must be at most 45 lower-case letters, digits and '-', begin with a letter and end with a letter "
    "or digit: the names of its Services are made of it.",
    ".metadata.name",
)

_SPEC_RULES = (
    Rule(
        "self.phase != 'hf' || self.privacy.externalInference != 'Forbidden'",
        "phase hf sends prompts to an outside service, which privacy.externalInference: Forbidden rules out. Use phase "
        "local, or set privacy.externalInference: Allowed.",
        ".phase",
    ),
    Rule(
        "self.backend.autoscaling.enabled || has(self.backend.replicas)",
        "backend.replicas is required while backend.autoscaling.enabled is false: set both in one edit.",
        ".backend.replicas",
        "FieldValueRequired",
    ),
    Rule(
        "!self.backend.autoscaling.enabled || !has(self.backend.replicas)",
        "backend.replicas cannot be set while backend.autoscaling.enabled is true: the autoscaler decides. Set "
        "backend.autoscaling.enabled: false in the same edit, or go back to autoscaling by a merge patch of "
        '{"spec":{"backend":{"replicas":null,"autoscaling":{"enabled":true}}}}.',
        ".backend.replicas",
        "FieldValueForbidden",
    ),
    Rule(
        "has(self.access.mode) || self.expose.type == 'ClusterIP' && !has(self.expose.host)",
        "access.mode is required when the chatbot can be reached from outside (expose.type LoadBalancer or NodePort, "
        "or expose.host): set access.mode: APIKey with access.keysSecretRef, or access.mode: Anonymous.",
        ".access.mode",
        "FieldValueRequired",
    ),
    Rule(
        "!(oldSelf.phase == 'local' || oldSelf.local.prefetch) || "
        "has(oldSelf.local.source) && (has(oldSelf.local.source.claim) || has(oldSelf.local.source.image)) || "
        "has(self.local.storage.storageClassName) != has(oldSelf.local.storage.storageClassName) || "
        "has(self.local.storage.storageClassName) && "
        "self.local.storage.storageClassName != oldSelf.local.storage.storageClassName || "
        "self.local.storage.accessMode != oldSelf.local.storage.accessMode || "
        "quantity(string(self.local.storage.size)).compareTo(quantity(string(oldSelf.local.storage.size))) >= 0",
        "local.storage.size may only grow while phase is local or local.prefetch is true: a volume cannot shrink. "
        "Write the old size again (20Gi where it was not given), or use another storageClassName: that is another "
        "claim.",
        ".local.storage.size",
    ),
    Rule(
        "oldSelf.expose.type != 'LoadBalancer' || self.expose.type != 'LoadBalancer' || "
        "has(self.expose.loadBalancerClass) == has(oldSelf.expose.loadBalancerClass) && "
        "(!has(self.expose.loadBalancerClass) || "
        "self.expose.loadBalancerClass == oldSelf.expose.loadBalancerClass)",
        "expose.loadBalancerClass cannot change while expose.type is LoadBalancer (Kubernetes fixes it on the "
        "Service): set expose.type: ClusterIP first; the address changes.",
        ".expose.loadBalancerClass",
    ),
)


class ChatbotSpec(Block):
    """What is wanted. Only phase is required."""

    model_config = ConfigDict(json_schema_extra=ruled(*_SPEC_RULES))

    phase: Phase = Field(
        description="Who answers: mock (canned answers), hf (Hugging Face inference or another OpenAI-compatible "
        "endpoint), local (a private model). It may be edited at any time and in every direction.",
    )
    system_prompt: str = Field(
        "You are a helpful assistant.",
        max_length=8192,
        description="Instruction before every conversation, at most 8192 characters. Assume that users can read it.",
    )
    suspend: bool = Field(
        False,
        description="True: no backend pods, and one web pod that says so; Services, claims and the address stay.",
    )
    mock: MockSpec = Field(
        MockSpec(), description="Settings of phase mock.", examples=[{"replies": ["Hello! I am a demo."]}]
    )
    hf: HfSpec = Field(
        HfSpec(),
        description="Settings of phase hf: Hugging Face inference or another OpenAI-compatible endpoint.",
        examples=[{"models": ["Qwen/Qwen3-4B-Instruct-2507"]}],
    )
    local: LocalSpec = Field(
        LocalSpec(),
        description="Settings of phase local: a private model, served inside the cluster.",
        examples=[{"models": ["phi"]}],
    )
    fallback: Fallback = Field(
        Fallback(), description="What answers when hf or local cannot.", examples=[{"to": "mock"}]
    )
    backend: Backend = Field(
        Backend(),
        description="The pods that answer.",
        examples=[{"autoscaling": {"minReplicas": 2, "maxReplicas": 4}}],
    )
    web: Web = Field(Web(), description="The chat page.", examples=[{"title": "Support"}])
    expose: Expose = Field(Expose(), description="How people reach the chatbot.", examples=[{"type": "LoadBalancer"}])
    access: Access = Field(
        Access(),
        description="Who may use the chatbot, and how much.",
        examples=[{"mode": "APIKey", "keysSecretRef": {"name": "chat-keys"}}],
    )
    privacy: Privacy = Field(
        Privacy(), description="Where prompts may go.", examples=[{"externalInference": "Forbidden"}]
    )
    network: Network = Field(
        Network(),
        description="Proxies and certificates for what leaves the cluster.",
        examples=[{"httpsProxy": "http://proxy.example.com:3128"}],
    )
    pods: Pods = Field(
        Pods(),
        description="What is the same for all pods of the chatbot.",
        examples=[{"nodeSelector": {"example.com/pool": "chat"}}],
    )


class Metadata(Block):
    """The part of the object's metadata that the operator reads."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: AwareDatetime | None = None
    deletion_timestamp: AwareDatetime | None = None
    labels: Mapping[str, str] = Field(default_factory=dict)
    annotations: Mapping[str, str] = Field(default_factory=dict)


class Chatbot(Block):
    """One Chatbot of the API server."""

    metadata: Metadata
    spec: ChatbotSpec
    status: ChatbotStatus = ChatbotStatus()


class InvalidChatbot(ValueError):
    """A raw object is no valid Chatbot. The message names the fields and never quotes a value."""


def parse_chatbot(raw: Mapping[str, Any]) -> Chatbot:
    """The Chatbot that `raw`, as the API server gives it, describes.

    A status that does not fit counts as absent: it can be worked out again.
    Raises InvalidChatbot where metadata or spec do not fit.
    """
    try:
        chatbot = Chatbot.model_validate({"metadata": raw.get("metadata"), "spec": raw.get("spec")})
    except ValidationError as error:
        raise InvalidChatbot(_describe(error)) from None
    try:
        status = ChatbotStatus.model_validate(raw.get("status") or {})
    except ValidationError:
        status = ChatbotStatus()
    return chatbot.model_copy(update={"status": status})


def _describe(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{_path(problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}" for problem in problems)


def _path(location: tuple[int | str, ...]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".")
