"""The operator's settings, from the environment, each documented where it is defined. It must not know the cluster."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

PREFIX = "CHATBOT_OPERATOR_"


class InvalidSettings(ValueError):
    """A variable is not usable; the message names it and the remedy."""


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_split)]


class Settings(BaseModel):
    """One field, one variable: `workers` is CHATBOT_OPERATOR_WORKERS."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field("default", description="Namespace that the operator runs in: its Lease lies there.")
    identity: str = Field("", description="Name of this process in the Lease; the pod's name. Empty: the host's name.")
    watch_namespaces: Words = Field(
        (),
        description="Namespaces whose Chatbots are served, separated by commas. Empty: all of them. One that an older "
        "install serves already keeps this one from serving any.",
    )
    runtime_image: str = Field("chatbot-runtime:dev", description="Image of the chatbot's backend.")
    web_image: str = Field("chatbot-web:dev", description="Image of the chat page: nginx with the page's files.")
    ollama_image: str = Field("ollama/ollama:0.32.15", description="Image of Ollama, which serves `local.models`.")
    llama_server_image: str = Field(
        "ghcr.io/ggml-org/llama.cpp:server-b11434",
        description="Image of llama.cpp's llama-server, which serves a model given as `hf://…`.",
    )
    hub_url: str = Field(
        "https://huggingface.co", description="Address of the Hugging Face Hub, or of a mirror, that models come from."
    )
    download_retry_seconds: float = Field(
        300, gt=0, description="Pause before a download that failed for a passing reason is started anew."
    )
    download_kept_seconds: int = Field(
        86_400, ge=0, description="How long the Job of a download is kept after its end, for its log."
    )
    image_pull_policy: str = Field("IfNotPresent", description="When a node pulls the images.")
    allowed_hosts: Words = Field(
        ("router.huggingface.co", "huggingface.co"),
        description="Hosts that `hf.baseURL` may name and tokens may be sent to, separated by commas: a name, "
        "`*.example.com` for every name below it, either with `:port`. `huggingface.co` is asked what is wrong with "
        "a token or a model.",
    )
    workers: int = Field(8, ge=1, le=64, description="Chatbots that are reconciled at once; most of it is waiting.")
    resync_seconds: float = Field(60, gt=0, description="Seconds between two full lists of every kind.")
    retry_first_seconds: float = Field(0.5, gt=0, description="First pause after a failed reconcile; it doubles.")
    retry_longest_seconds: float = Field(60, gt=0, description="Longest pause after a failed reconcile.")
    api_timeout_seconds: float = Field(30, gt=0, description="Longest time of one call of the Kubernetes API.")
    status_hold_seconds: float = Field(
        1, ge=0, description="While pods come up, changes of status within these seconds are written together."
    )
    lease_name: str = Field("chatbot-operator", description="Name of the Lease of which only the holder writes.")
    lease_seconds: float = Field(15, gt=0, description="Time after which a silent holder has lost the Lease.")
    lease_renew_seconds: float = Field(4, gt=0, description="Seconds between two renewals of the Lease.")
    port: int = Field(8080, ge=0, le=65535, description="Port of /livez, /readyz and /metrics; 0 picks a free one.")
    host: str = Field("0.0.0.0", description="Address that this port is opened on.")  # noqa: S104 - a pod's own address
    pod_status_url: str = Field(
        "http://{ip}:8001/status",
        description="Where a pod says its state; {ip}, {namespace} and {name} are filled in.",
    )
    poll_unsettled_seconds: float = Field(3, gt=0, description="Seconds between two looks at a pod that comes up.")
    poll_settled_seconds: float = Field(15, gt=0, description="The same once all is well; never for phase mock.")
    progress_deadline_seconds: int = Field(
        600, ge=10, description="Time after which a rollout without progress is Stalled."
    )
    events_look_seconds: float = Field(15, gt=0, description="Seconds between two looks at the Events of a sick child.")
    pre_stop_seconds: int = Field(5, ge=0, description="Seconds that a stopping pod still takes new requests.")
    grace_seconds: int = Field(310, ge=1, description="Seconds after which a stopping pod's answers are cut off.")
    rollouts_at_once: int = Field(
        1, ge=1, description="Chatbots that are rolled out at once when only the operator's version changed their pods."
    )
    scrape_namespaces: Words = Field(
        (), description="Namespaces, besides the operator's own, whose pods may read the pods' metrics."
    )
    cpu_monthly: float = Field(54, ge=0, description="Cost of one CPU core for a month, for the estimate in status.")
    memory_monthly: float = Field(8, ge=0, description="Cost of one GiB of memory for a month.")
    storage_monthly: float = Field(0.1, ge=0, description="Cost of one GiB of storage for a month.")
    balancer_monthly: float = Field(18, ge=0, description="Cost of one LoadBalancer address for a month.")
    gpu_monthly: float = Field(400, ge=0, description="Cost of one GPU for a month.")
    currency: str = Field("USD", description="Currency of these rates.")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least level that is logged.")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Raises InvalidSettings with every bad variable's name, and for an unknown one with our prefix."""
        values = {k.removeprefix(PREFIX).lower(): v for k, v in environ.items() if k.startswith(PREFIX)}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InvalidSettings("; ".join(map(_explain, error.errors(include_url=False)))) from None


def _explain(error: Any) -> str:
    name = PREFIX + str(error["loc"][0]).upper()
    if error["type"] == "extra_forbidden":
        return f"{name} is not a setting of this version: remove it"
    return f"{name}: {error['msg']} (it is {str(error['input'])[:40]!r})"


def settings_table() -> str:
    """The settings as a Markdown table, for docs/reference/settings.md."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        rows.append(f"| `{PREFIX}{name.upper()}` | `{default}` | {field.description} |".replace("``", ""))
    return "\n".join(rows) + "\n"
