"""The blocks `spec.mock`, `spec.hf` and `spec.local`: who answers in each phase.

Knows nothing of pods, downloads or providers.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from chatbot_operator.api.base import Block, DataKey, ObjectName, Quantity, Rule, distinct_rule, ruled, url_rules
from chatbot_operator.api.resources import HfResources, LocalResources, MockResources

_HF_MODEL = "^[a-zA-Z0-9][a-zA-Z0-9._-]*(/[a-zA-Z0-9][a-zA-Z0-9._-]*)*(:[a-zA-Z0-9][a-zA-Z0-9._-]*)?$"
_WORD = "[a-zA-Z0-9][a-zA-Z0-9._-]*"
_FILE = "[a-zA-Z0-9_][a-zA-Z0-9 ._-]*"
_GGUF_MODEL = f"hf://{_WORD}/{_WORD}(/{_FILE})*/{_FILE}[.]gguf(@[a-zA-Z0-9][a-zA-Z0-9._/-]*)?"
_OLLAMA_MODEL = f"({_WORD}(:[0-9]+)?/)?({_WORD}/)?{_WORD}(:{_WORD})?"


class MockSpec(Block):
    """Phase mock: a demo that streams canned answers, without a key and without a model."""

    replies: tuple[
        Annotated[
            str, Field(min_length=1, max_length=1000, description="One answer.", examples=["Hello! I am a demo."])
        ],
        ...,
    ] = Field(
        (),
        max_length=20,
        description="Canned answers, at most 20 of 1000 characters. Default: the built-in set.",
        examples=[["Hello! I am a demo."]],
    )
    tokens_per_second: int = Field(30, ge=1, le=1000, description="Speed of the stream, in tokens per second.")
    resources: MockResources = Field(
        MockResources(),
        description="Resources of a backend pod in phase mock.",
        examples=[{"requests": {"cpu": "100m", "memory": "128Mi"}}],
    )


class HfTokenSecretRef(Block):
    """The Secret that holds the access token of phase hf."""

    model_config = ConfigDict(json_schema_extra=ruled(atomic=True))

    name: ObjectName = Field("hf-token", description="Name of the Secret, in the Chatbot's namespace.")
    key: DataKey = Field("token", description="Key of the Secret whose value is the token.")


class HfSpec(Block):
    """Phase hf: Hugging Face inference, or any other OpenAI-compatible endpoint."""

    model_config = ConfigDict(json_schema_extra=ruled(*url_rules("hf", "baseURL")))

    models: tuple[
        Annotated[
            str,
            Field(
                min_length=1, max_length=200, description="One model.", examples=["Qwen/Qwen3-4B-Instruct-2507:fastest"]
            ),
        ],
        ...,
    ] = Field(
        ("Qwen/Qwen3-4B-Instruct-2507",),
        min_length=1,
        max_length=8,
        description="Models to offer, 1 to 8; the first is the default one. owner/name, optionally with :provider, "
        ":fastest or :cheapest; for another baseURL the names that it uses.",
        json_schema_extra=ruled(
            distinct_rule("hf.models"),
            Rule(
                f"self.all(m, m.matches('{_HF_MODEL}'))",
                "hf.models takes owner/name, optionally with :provider, :fastest or :cheapest; for another baseURL "
                "the name that it uses.",
            ),
        ),
    )
    base_url: str = Field(
        "https://router.huggingface.co/v1",
        alias="baseURL",
        max_length=500,
        description="OpenAI-compatible endpoint that prompts are sent to. The administrator allows its host.",
    )
    token_secret_ref: HfTokenSecretRef = Field(
        HfTokenSecretRef(),
        description="Secret with the access token. With another baseURL it may be missing.",
        examples=[{"name": "hf-token", "key": "token"}],
    )
    timeout_seconds: int = Field(
        60, ge=1, le=300, description="Longest wait for the first byte of an answer, in seconds."
    )
    requests_per_minute: int = Field(
        60,
        ge=1,
        le=100_000,
        description="What this chatbot may send to the endpoint, in requests per minute over all replicas.",
    )
    resources: HfResources = Field(
        HfResources(),
        description="Resources of a backend pod in phase hf.",
        examples=[{"requests": {"cpu": "200m", "memory": "256Mi"}}],
    )


class DownloadSource(Block):
    """A Job downloads the weights into a claim that the operator makes."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            Rule(
                "!has(self.registry) || "
                "self.registry.matches('^([a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?)?$')",
                "local.source.download.registry takes a host, or host:port, without https:// and without a user name.",
                ".registry",
            ),
            atomic=True,
        )
    )

    registry: str = Field(
        "",
        max_length=253,
        description="Registry of Ollama models, host or host:port. Default: Ollama's own.",
        examples=["registry.example.com:5000"],
    )
    insecure: bool = Field(False, description="Whether the registry is spoken to in plain HTTP.")
    backoff_limit: int = Field(4, ge=0, le=20, description="How often a failed download is tried again.")
    active_deadline_seconds: int = Field(
        3600, ge=60, le=604_800, description="Longest duration of the whole download, in seconds."
    )


class ClaimSource(Block):
    """The weights already lie in a PersistentVolumeClaim of the Chatbot's namespace."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            Rule(
                "!has(self.subPath) || !self.subPath.startsWith('/') && !self.subPath.split('/').exists(p, p == '..')",
                "local.source.claim.subPath must be a path inside the claim: it must not begin with '/' and must not "
                "contain '..'.",
                ".subPath",
            ),
            atomic=True,
        )
    )

    name: ObjectName = Field(description="Name of the PersistentVolumeClaim.", examples=["my-models"])
    sub_path: str = Field(
        "",
        max_length=500,
        description="Folder in the claim that holds the weights. Default: the claim's root.",
        examples=["ollama"],
    )


class ImageSource(Block):
    """The engine's image holds the weights."""

    model_config = ConfigDict(json_schema_extra=ruled(atomic=True))

    reference: str = Field(
        min_length=1,
        max_length=500,
        description="The image, with tag or digest.",
        examples=["registry.example.com/ollama-phi:1"],
    )
    path: str = Field("/models", max_length=500, pattern="^/.*$", description="Folder of the weights in the image.")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        "IfNotPresent", description="When the node pulls the image."
    )


class Source(Block):
    """Where the weights come from; at most one member is set, none means download."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            Rule(
                "[has(self.download), has(self.claim), has(self.image)].filter(x, x).size() <= 1",
                "local.source takes at most one of download, claim and image.",
            )
        )
    )

    download: DownloadSource | None = Field(
        None,
        description="A Job downloads the weights into a claim that the operator makes.",
        examples=[{"backoffLimit": 4}],
    )
    claim: ClaimSource | None = Field(
        None, description="The weights already lie in this claim.", examples=[{"name": "my-models"}]
    )
    image: ImageSource | None = Field(
        None,
        description="The engine's image holds the weights.",
        examples=[{"reference": "registry.example.com/ollama-phi:1"}],
    )

    @property
    def downloads(self) -> bool:
        """Whether a Job of ours fetches the weights."""
        return self.claim is None and self.image is None


class Storage(Block):
    """The claim that a download fills."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            Rule(
                "!has(self.size) || quantity(string(self.size)).isGreaterThan(quantity('0'))",
                "local.storage.size must be above 0, such as 20Gi.",
                ".size",
            )
        )
    )

    size: Quantity = Field(
        "20Gi",
        description="Size of the claim, in bytes. It may grow while phase is local or prefetch is on, never shrink.",
    )
    storage_class_name: str | None = Field(
        None,
        max_length=253,
        pattern="^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        description="StorageClass of the claim; another one is another claim. Default: the cluster's default class.",
        examples=["standard"],
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = Field(
        "ReadWriteOnce",
        description="ReadWriteOnce: pods of one node. ReadWriteMany: pods of all nodes, if the class can do it.",
    )
    retain: bool = Field(
        True, description="Whether the claim outlives a change of the phase and the deletion of the Chatbot."
    )


class Gpu(Block):
    """GPUs of one backend pod."""

    model_config = ConfigDict(json_schema_extra=ruled(atomic=True))

    count: int = Field(1, ge=1, le=16, description="GPUs of one pod.")
    resource_name: str = Field(
        "nvidia.com/gpu",
        max_length=253,
        pattern="^[a-z0-9.-]+/[a-zA-Z0-9._-]+$",
        description="Extended resource under which the nodes offer them.",
    )


class LocalTokenSecretRef(Block):
    """The Secret that holds the token of a download."""

    model_config = ConfigDict(json_schema_extra=ruled(atomic=True))

    name: ObjectName = Field(description="Name of the Secret, in the Chatbot's namespace.", examples=["hf-token"])
    key: DataKey = Field("token", description="Key of the Secret whose value is the token.")


class LocalSpec(Block):
    """Phase local: a private model, served inside the cluster by Ollama or llama.cpp."""

    model_config = ConfigDict(
        json_schema_extra=ruled(
            Rule(
                "!has(self.image) || !has(self.source) || !has(self.source.image)",
                "local.image and local.source.image cannot both be set: source.image is the engine's image.",
                ".image",
            )
        )
    )

    models: tuple[
        Annotated[str, Field(min_length=1, max_length=300, description="One model.", examples=["llama3.2:1b"])], ...
    ] = Field(
        ("phi",),
        min_length=1,
        max_length=8,
        description="Models to serve, 1 to 8; the first is the default one. name[:tag] or "
        "registry/namespace/name:tag (Ollama), or one hf://owner/repo/path/file.gguf[@revision] (llama.cpp).",
        json_schema_extra=ruled(
            distinct_rule("local.models"),
            Rule(
                "!self.exists(m, m.startsWith('hf://')) || size(self) == 1",
                "local.models: an hf:// reference must stand alone: llama.cpp serves one file, and Ollama names "
                "cannot be mixed with it.",
            ),
            Rule(
                f"self.all(m, !m.contains('..') && m.matches('^({_GGUF_MODEL}|{_OLLAMA_MODEL})$'))",
                "local.models takes name[:tag] or registry/namespace/name:tag (Ollama), or "
                "hf://owner/repo/path/file.gguf[@revision] (llama.cpp), without '..'.",
            ),
        ),
    )
    prefetch: bool = Field(
        False, description="Whether the models are fetched while another phase serves, so that the switch is short."
    )
    source: Source = Field(
        Source(),
        description="Where the weights come from: at most one of download, claim and image. Default: download.",
        examples=[{"claim": {"name": "my-models"}}],
    )
    storage: Storage = Field(Storage(), description="The claim that a download fills.", examples=[{"size": "20Gi"}])
    image: str | None = Field(
        None,
        min_length=1,
        max_length=500,
        description="The engine's image. Default: the one that this release of the operator names.",
        examples=["registry.example.com/ollama:1"],
    )
    parallel: int = Field(1, ge=1, le=64, description="Answers that one pod gives at the same time.")
    context_length: int = Field(4096, ge=256, le=1_048_576, description="Context of one conversation, in tokens.")
    keep_alive: str = Field(
        "-1",
        max_length=20,
        pattern="^(-1|[0-9]+(ms|s|m|h)?)$",
        description="How long Ollama keeps an unused model in memory: a duration such as 30m, or -1 for always.",
    )
    gpu: Gpu | None = Field(None, description="GPUs of one backend pod. Default: none.", examples=[{"count": 1}])
    token_secret_ref: LocalTokenSecretRef | None = Field(
        None,
        description="Secret with a token for gated or private hf:// models. Default: none.",
        examples=[{"name": "hf-token"}],
    )
    resources: LocalResources = Field(
        LocalResources(),
        description="Resources of a backend pod in phase local; the runtime takes 100m CPU and 128Mi memory of them, "
        "the engine the rest.",
        examples=[{"requests": {"cpu": "1500m", "memory": "4Gi"}}],
    )
