"""The block `status`: what is, as the operator last saw it.

Deleting it must be harmless: nothing is stored here that could not be worked out again.
"""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from chatbot_operator.api.base import Block

ConditionStatus = Literal["True", "False", "Unknown"]
ServingPhase = Literal["mock", "hf", "local", ""]


class ModelStatus(Block):
    """The default model that answers."""

    name: str = Field("", max_length=1000, description="Name of the model.", examples=["Qwen/Qwen3-4B-Instruct-2507"])
    engine: str = Field(
        "", max_length=100, description="What runs it: mock, router, ollama or llama.cpp.", examples=["ollama"]
    )
    digest: str = Field(
        "", max_length=200, description="Digest of its weights, where there is one.", examples=["sha256:04778965"]
    )
    size_bytes: int = Field(0, ge=0, description="Size of its weights, in bytes; 0 where it is not known.")


class DownloadStatus(Block):
    """A download that runs."""

    percent: int = Field(0, ge=0, le=100, description="How much has arrived, in percent.")
    completed_bytes: int = Field(0, ge=0, description="How much has arrived, in bytes.")
    total_bytes: int = Field(0, ge=0, description="How much there is to download, in bytes; 0 while not known.")


class Endpoints(Block):
    """Addresses of the chatbot."""

    web: str = Field("", max_length=1000, description="Address of the chat page.", examples=["http://203.0.113.7"])
    openai: str = Field(
        "",
        max_length=1000,
        description="Base URL for OpenAI-compatible clients.",
        examples=["http://203.0.113.7/v1"],
    )
    cluster: str = Field(
        "",
        max_length=1000,
        description="Base URL for clients inside the cluster.",
        examples=["http://demo.default.svc/v1"],
    )


class Cost(Block):
    """An estimate of what the chatbot costs."""

    monthly: str = Field(
        "", max_length=30, description="Cost of a month at the fewest replicas, as a decimal number.", examples=["31"]
    )
    currency: str = Field("", max_length=10, description="Currency of the estimate, as in ISO 4217.", examples=["USD"])


class Condition(Block):
    """One condition, shaped like metav1.Condition."""

    type: str = Field(min_length=1, max_length=316, description="Type of the condition.", examples=["Ready"])
    status: ConditionStatus = Field(description="Whether it holds.")
    observed_generation: int | None = Field(
        None, ge=0, description="metadata.generation for which it was worked out.", examples=[7]
    )
    last_transition_time: AwareDatetime = Field(
        description="When its status changed last, as in RFC 3339.", examples=["2026-01-31T12:00:00Z"]
    )
    reason: str = Field(
        min_length=1,
        max_length=1024,
        pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        description="Why, in one word of the documented list.",
        examples=["Serving"],
    )
    message: str = Field(
        max_length=32_768,
        description="What is wrong and what to do next.",
        examples=["Everything that was asked for serves."],
    )


class ChatbotStatus(Block):
    """What is. Written by the operator alone."""

    observed_generation: int = Field(
        -1, description="metadata.generation that the operator saw last; -1 before its first visit."
    )
    serving_phase: ServingPhase = Field(
        "", description="Phase that answers now: during a migration the old one; empty if nothing answers."
    )
    model: ModelStatus | None = Field(
        None, description="The default model that answers.", examples=[{"name": "phi", "engine": "ollama"}]
    )
    download: DownloadStatus | None = Field(
        None, description="The download; present only while one runs.", examples=[{"percent": 42}]
    )
    url: str = Field("", max_length=1000, description="Address of the chatbot.", examples=["http://203.0.113.7"])
    endpoints: Endpoints | None = Field(
        None, description="Addresses of the chatbot.", examples=[{"web": "http://203.0.113.7"}]
    )
    replicas: int = Field(0, ge=0, description="Number of backend pods.")
    ready_replicas: int = Field(0, ge=0, description="Number of backend pods that are ready.")
    selector: str = Field(
        "",
        max_length=1000,
        description="Label selector of the backend pods, for autoscalers.",
        examples=["chatbot-operator.dev/chatbot=demo"],
    )
    cost: Cost | None = Field(
        None,
        description="Estimate of the running cost; its rates and assumptions are documented.",
        examples=[{"monthly": "31", "currency": "USD"}],
    )
    conditions: tuple[
        Annotated[Condition, Field(description="One condition.", examples=[{"type": "Ready", "status": "True"}])], ...
    ] = Field(
        (),
        max_length=16,
        description="What holds and what does not, one entry for each type.",
        examples=[[{"type": "Ready", "status": "True"}]],
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )

    def condition(self, type_: str) -> Condition | None:
        """The condition of this type, if there is one."""
        return next((condition for condition in self.conditions if condition.type == type_), None)
