"""CPU, memory and scratch space of pods, with a default for each key and phase.

Knows nothing of how they are shared out over the containers of a pod.
"""

from pydantic import ConfigDict, Field

from chatbot_operator.api.base import Block, Quantity, Rule, ruled

_MEMORY = Rule(
    "!has(self.limits) || !has(self.limits.memory) || "
    "quantity(string(self.limits.memory)).compareTo(quantity(string(self.requests.memory))) >= 0",
    "limits.memory must not be below requests.memory (its default counts): raise limits.memory or lower "
    "requests.memory.",
)
_CPU = Rule(
    "!has(self.limits) || !has(self.limits.cpu) || "
    "quantity(string(self.limits.cpu)).compareTo(quantity(string(self.requests.cpu))) >= 0",
    "limits.cpu must not be below requests.cpu (its default counts): raise limits.cpu or lower requests.cpu.",
)
_SCRATCH = Rule(
    "!has(self.limits) || !has(self.limits.ephemeral__dash__storage) || "
    "!has(self.requests.ephemeral__dash__storage) || "
    "quantity(string(self.limits.ephemeral__dash__storage))"
    ".compareTo(quantity(string(self.requests.ephemeral__dash__storage))) >= 0",
    "limits.ephemeral-storage must not be below requests.ephemeral-storage: raise the one or lower the other.",
)
_ENGINE_SHARE = Rule(
    "!has(self.requests) || quantity(string(self.requests.cpu)).isGreaterThan(quantity('100m')) && "
    "quantity(string(self.requests.memory)).isGreaterThan(quantity('128Mi'))",
    "local.resources.requests must be above cpu 100m and memory 128Mi: that much is the runtime's, the engine "
    "gets the rest.",
)

_CPU_TEXT = "CPU to reserve, in cores (1000m is one core)."
_MEMORY_TEXT = "Memory to reserve, in bytes."


class Requests(Block):
    """What the scheduler reserves for a pod. Each key has its own default."""

    cpu: Quantity = Field(description=_CPU_TEXT)
    memory: Quantity = Field(description=_MEMORY_TEXT)
    ephemeral_storage: Quantity | None = Field(
        None,
        alias="ephemeral-storage",
        description="Scratch space to reserve on the node, in bytes. Default: none.",
        examples=["1Gi"],
    )


class Limits(Block):
    """What a pod may use at most."""

    cpu: Quantity | None = Field(
        None,
        description="Most CPU, in cores. Default: none; the engine's is its request, rounded up to a whole core.",
        examples=["2"],
    )
    memory: Quantity | None = Field(
        None, description="Most memory, in bytes. Default: as much as is requested.", examples=["4Gi"]
    )
    ephemeral_storage: Quantity | None = Field(
        None,
        alias="ephemeral-storage",
        description="Most scratch space, in bytes. Default: none.",
        examples=["2Gi"],
    )


class Resources(Block):
    """What a pod reserves and may use at most; what is not given keeps its default, key by key."""

    model_config = ConfigDict(json_schema_extra=ruled(_MEMORY, _CPU, _SCRATCH))

    requests: Requests = Field(description="What is reserved for a pod.")
    limits: Limits = Field(Limits(), description="What a pod may use at most.", examples=[{"memory": "4Gi"}])


class MockRequests(Requests):
    """The requests of a backend pod in phase mock."""

    cpu: Quantity = Field("100m", description=_CPU_TEXT)
    memory: Quantity = Field("128Mi", description=_MEMORY_TEXT)


class MockResources(Resources):
    """The resources of a backend pod in phase mock."""

    requests: MockRequests = Field(MockRequests(), description="What is reserved for a pod.")


class HfRequests(Requests):
    """The requests of a backend pod in phase hf."""

    cpu: Quantity = Field("200m", description=_CPU_TEXT)
    memory: Quantity = Field("256Mi", description=_MEMORY_TEXT)


class HfResources(Resources):
    """The resources of a backend pod in phase hf."""

    requests: HfRequests = Field(HfRequests(), description="What is reserved for a pod.")


class LocalRequests(Requests):
    """The requests of a backend pod in phase local, engine included."""

    cpu: Quantity = Field("1500m", description=_CPU_TEXT)
    memory: Quantity = Field("4Gi", description=_MEMORY_TEXT)


class LocalResources(Resources):
    """The resources of a backend pod in phase local: the runtime takes 100m and 128Mi, the engine the rest."""

    model_config = ConfigDict(json_schema_extra=ruled(_MEMORY, _CPU, _SCRATCH, _ENGINE_SHARE))

    requests: LocalRequests = Field(LocalRequests(), description="What is reserved for a pod, engine included.")


class WebRequests(Requests):
    """The requests of a web pod."""

    cpu: Quantity = Field("20m", description=_CPU_TEXT)
    memory: Quantity = Field("32Mi", description=_MEMORY_TEXT)


class WebResources(Resources):
    """The resources of a web pod."""

    requests: WebRequests = Field(WebRequests(), description="What is reserved for a pod.")
