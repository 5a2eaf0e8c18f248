"""The blocks `spec.fallback`, `spec.backend` and `spec.web`: how answers are kept up and shown.

Knows nothing of Deployments or autoscalers.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from chatbot_operator.api.base import Block, Rule, ruled
from chatbot_operator.api.resources import WebResources


def _bounds_rule(path: str) -> Rule:
    return Rule(
        "!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
        f"{path}.minReplicas must not be above maxReplicas.",
        ".minReplicas",
    )


class Fallback(Block):
    """What answers when hf or local cannot. Never an outside service, so that no prompt leaks."""

    to: Literal["mock", "none"] | None = Field(
        None,
        description="mock: a canned answer that says so. none: an error. Default: mock in phase hf, none in local.",
    )
    after_failures: int = Field(3, ge=1, le=100, description="Failures in a row after which the fallback answers.")
    retry_after_seconds: int = Field(
        30, ge=1, le=3600, description="Pause before the model is tried again by one request, in seconds."
    )


class Autoscaling(Block):
    """Horizontal scaling by CPU. Absent bounds are worked out from the phase."""

    enabled: bool = Field(True, description="Whether a HorizontalPodAutoscaler sets the number of pods.")
    min_replicas: int | None = Field(
        None, ge=1, le=100, description="Fewest pods. Default: 2; for the backend in phase local 1.", examples=[2]
    )
    max_replicas: int | None = Field(
        None, ge=1, le=100, description="Most pods. Default: 10; for the backend in phase local 1.", examples=[10]
    )
    target_cpu_percent: int = Field(
        70,
        alias="targetCPUPercent",
        ge=10,
        le=100,
        description="CPU use to aim at, in percent of what the pods request.",
    )


class BackendAutoscaling(Autoscaling):
    """Horizontal scaling of the backend."""

    model_config = ConfigDict(json_schema_extra=ruled(_bounds_rule("backend.autoscaling")))


class WebAutoscaling(Autoscaling):
    """Horizontal scaling of the web pods."""

    model_config = ConfigDict(json_schema_extra=ruled(_bounds_rule("web.autoscaling")))


class Backend(Block):
    """The pods that answer."""

    replicas: int | None = Field(
        None,
        ge=1,
        le=100,
        description="Number of pods. Required when autoscaling is off, refused when it is on. For none set suspend.",
        examples=[2],
    )
    autoscaling: BackendAutoscaling = Field(
        BackendAutoscaling(),
        description="Horizontal scaling of the backend by CPU. Without it set replicas.",
        examples=[{"minReplicas": 2, "maxReplicas": 4}],
    )
    rollout: Literal["Surge", "Replace"] = Field(
        "Surge",
        description="Surge: new pods beside the old ones, nothing is interrupted. Replace: the old ones go first, "
        "for one GPU or one full node.",
    )


class Web(Block):
    """The chat page."""

    enabled: bool = Field(True, description="Whether there is a chat page; without it the address is the API alone.")
    title: str = Field("Chatbot", max_length=100, description="Title of the page.")
    greeting: str = Field(
        "",
        max_length=1000,
        description="Text on an empty chat. Default: none.",
        examples=["Hello! Ask me about your order."],
    )
    suggestions: tuple[
        Annotated[str, Field(min_length=1, max_length=200, description="One prompt.", examples=["What can you do?"])],
        ...,
    ] = Field(
        (),
        max_length=6,
        description="Prompts that an empty chat offers, at most 6. Default: none.",
        examples=[["What can you do?"]],
    )
    autoscaling: WebAutoscaling = Field(
        WebAutoscaling(),
        description="Horizontal scaling of the web pods by CPU. Off: the fewest pods, fixed.",
        examples=[{"minReplicas": 2, "maxReplicas": 4}],
    )
    resources: WebResources = Field(
        WebResources(),
        description="Resources of a web pod.",
        examples=[{"requests": {"cpu": "20m", "memory": "32Mi"}}],
    )
