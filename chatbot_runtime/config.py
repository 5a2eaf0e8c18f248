"""What a process of the runtime is told at its start, by environment variables. It must not know who sets them.

Everything here decides what the process is, and so needs a restart to change. What may change while it runs is in the
settings file (`chatbot_runtime.settings`).
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from yarl import URL

from chatbot_runtime.contract import Phase

PREFIX = "CHATBOT_"
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65_535)]
HF_MAX_RUNNING = 256
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_MAY_HOLD_SECRETS = ("base_url",)
"""Fields whose value is never repeated in a message: it may hold a password by mistake."""


def _listed(value: object) -> object:
    """Names separated by commas."""
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(name for part in value.split(",") if (name := part.strip())))


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class ConfigError(Exception):
    """A setting cannot be used; the message names it, says what is wrong and what to do."""


def base_url_of(text: str) -> str:
    """An address without a slash at its end. Raises ValueError if it cannot be one, or holds a secret."""
    try:
        url = URL(text)  # the parser of the client itself, so that both see the same host
    except ValueError:
        raise ValueError("it is not a URL") from None
    if url.scheme not in ("http", "https") or not _HOST.fullmatch(url.raw_host or ""):
        raise ValueError("it must begin with http:// or https:// and a host")
    if url.raw_user is not None or url.raw_password is not None:
        raise ValueError("it must not hold a user or a password: a token comes from CHATBOT_TOKEN_FILE")
    if "?" in text or "#" in text:
        raise ValueError("it must have neither a query nor a fragment")
    return text.rstrip("/")


class Config(BaseModel):
    """The settings of one process; field `x_y` is read from the environment variable `CHATBOT_X_Y`.

    An empty variable counts as not set. Path settings without a value mean that the part they feed is not used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        "chatbot",
        min_length=1,
        max_length=253,
        description="The chatbot's name; also a model's name that a client may ask for.",
    )
    namespace: str = Field(
        "default", min_length=1, max_length=253, description="The chatbot's namespace; only shown in logs."
    )
    phase: Phase = Field(
        "mock", description="Which provider answers: `mock`, `hf`, or `local`: an engine beside this process."
    )
    revision: str = Field(
        "dev",
        pattern=r"^[A-Za-z0-9.-]{1,63}$",
        description="Names the set of settings that decide the provider; `/status` repeats it.",
    )
    settings_file: Path | None = Field(
        None, description="JSON file with everything that may change without a restart; read again when it changes."
    )
    keys_dir: Path | None = Field(
        None,
        description="Directory of API keys: each file is one client, its content the key. "
        "Without it `access.mode: APIKey` refuses everyone.",
    )
    models: Names = Field(
        (),
        description="Models that may be asked for, the default first, separated by commas; phase `mock` has its own.",
    )
    base_url: str = Field(
        "https://router.huggingface.co/v1",
        max_length=2048,
        description="Address of the OpenAI-compatible server that answers in phases `hf` and `local`, with `/v1`.",
    )
    server: Literal["auto", "router", "openai", "ollama", "llama.cpp", "none"] = Field(
        "auto",
        description="What that server is: `router`: the Hugging Face router, `openai`: any other; `auto`: by its host. "
        "In phase `local`: `ollama`, `llama.cpp`, or `none` while the model is still on its way.",
    )
    registry: str = Field(
        "", max_length=253, description="Registry that the Ollama models came from; empty: Ollama's own."
    )
    models_dir: Path | None = Field(
        None, description="Folder of the models in phase `local`, to say what is in it when one is missing."
    )
    model_file: Path | None = Field(None, description="The file that the engine of phase `local` serves, if it is one.")
    answered_file: Path | None = Field(
        None,
        description="File to make once the engine of phase `local` has answered; it is started again by itself then.",
    )
    context_length: int = Field(
        0,
        ge=0,
        description="Context of one conversation in phase `local`, in tokens; longer prompts, which Ollama cuts "
        "without a word, are logged and counted. 0: not looked at.",
    )
    load_seconds: Seconds = Field(
        600,
        description="Time that the engine of phase `local` may take to load its model, in seconds, before its pods "
        "answer by the fallback.",
    )
    token_file: Path | None = Field(
        None, description="File with the token for that server; may be missing, and is read again when it changes."
    )
    allowed_hosts: Names = Field(
        ("router.huggingface.co", "huggingface.co"),
        description="Hosts that may be asked and get the token, separated by commas; `*.example.com`: every "
        "subdomain, `host:port`: only this port.",
    )
    ca_file: Path | None = Field(
        None, description="File with certificates of authorities that are trusted besides the system's (PEM)."
    )
    peers: str = Field(
        "",
        max_length=253,
        description="DNS name with the addresses of all pods of this chatbot, which share "
        "`hf.requestsPerMinute`; empty: this is the only one.",
    )
    host: str = Field(
        "0.0.0.0",  # noqa: S104 - a pod must be reachable
        min_length=1,
        description="Address that both ports listen on; on a terminal the default is 127.0.0.1.",
    )
    port: Port = Field(8000, description="Public port: the OpenAI-compatible API. 0: any free one.")
    internal_port: Port = Field(
        8001, description="Internal port: `/livez`, `/readyz`, `/status`, `/metrics`. 0: any free one."
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`json`: one object a line; `text`: for people; `auto`: text on a terminal, else json."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least weight of what is logged; requests are `info`."
    )
    pre_stop_seconds: float = Field(
        5,
        ge=0,
        le=3600,
        description="After SIGTERM: how long new connections are still accepted, until it is known, in seconds; as "
        "long as some come, up to four times as long. On a terminal the default is 0.",
    )
    grace_seconds: float = Field(
        310,
        ge=0,
        le=86_400,
        description="After SIGTERM: when running answers are ended with an error, in seconds; "
        "not above the pod's terminationGracePeriodSeconds.",
    )
    request_seconds: Seconds = Field(
        300,
        description="Total time of one request, in seconds; an answer that is not complete by then ends with an error.",
    )
    connect_seconds: Seconds = Field(
        10,
        description="Time to connect to the server of phase `hf`, in seconds; to its first byte: "
        "`hf.timeoutSeconds` of the settings file.",
    )
    chunk_seconds: Seconds = Field(60, description="Longest silence of that server within an answer, in seconds.")
    refused_seconds: Seconds = Field(
        300,
        description="Pause before that server is asked again after it has refused the token or the access, in "
        "seconds; a changed token ends it.",
    )
    header_seconds: Seconds = Field(
        10, description="Time a client has to send a request's line and headers, in seconds."
    )
    body_seconds: Seconds = Field(10, description="Time a client has to send a request's body, in seconds.")
    idle_seconds: Seconds = Field(
        20, description="How long a connection is kept open between two requests, in seconds."
    )
    write_seconds: Seconds = Field(
        20, description="How long a client may take nothing of what is sent to it, in seconds."
    )
    heartbeat_seconds: Seconds = Field(
        10,
        description="Longest silence on a stream, in seconds; then the status is sent, if it was not, and a comment.",
    )
    max_body_bytes: int = Field(4_194_304, ge=1024, description="Largest request body, in bytes; above it 413.")
    max_held_bytes: int = Field(
        25_165_824,
        ge=1_048_576,
        description="Most memory that the bodies of all requests may take at once, as far as it can be estimated, "
        "in bytes; further ones get 503, and one that never fits 413.",
    )
    max_messages: int = Field(1000, ge=1, description="Most messages in one request.")
    max_connections: int = Field(
        4096, ge=1, description="Most open connections on the public port; further ones get 503."
    )
    max_running: int = Field(
        512,
        ge=1,
        description="Most answers at once; further requests wait in the queue. "
        f"In phase `hf` the default is {HF_MAX_RUNNING}.",
    )
    max_queue: int = Field(512, ge=0, description="Most requests that wait; further ones get 503 at once.")
    queue_seconds: Seconds = Field(5, description="Longest wait in the queue, in seconds; then 503.")
    max_clients: int = Field(
        10_000,
        ge=1,
        description="Most clients whose request rate is remembered; the one unseen for longest is forgotten first.",
    )
    live_seconds: Seconds = Field(
        10, description="`/livez` fails when the event loop has not moved for so long, in seconds."
    )
    poll_seconds: Seconds = Field(
        1, description="How often settings file, API keys and token are looked at for a change, in seconds."
    )

    @model_validator(mode="before")
    @classmethod
    def _by_phase(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("phase") == "hf":
            return {"max_running": HF_MAX_RUNNING} | given
        return given

    @field_validator("base_url")
    @classmethod
    def _is_base_url(cls, text: str) -> str:
        return base_url_of(text)

    @model_validator(mode="after")
    def _has_models(self) -> Self:
        if self.phase in ("hf", "local") and not self.models:
            text = f"CHATBOT_MODELS: phase {self.phase} needs at least one model: name them, separated by commas"
            raise ValueError(text)
        return self

    @model_validator(mode="after")
    def _has_engine(self) -> Self:
        engines = ("ollama", "llama.cpp", "none")
        if (self.phase == "local") != (self.server in engines):
            raise ValueError(
                f"CHATBOT_SERVER: it is {self.server!r} in phase {self.phase}: phase local takes one of "
                f"{', '.join(engines)}, and no other phase does"
            )
        return self

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """The settings in `environ`; variables without the prefix or of other programs are ignored.

        Raises ConfigError naming every variable with a bad value.
        """
        given = {name: environ[variable] for name in cls.model_fields if environ.get(variable := variable_of(name))}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise ConfigError("\n".join(_problem(dict(e)) for e in error.errors())) from None


def variable_of(field: str) -> str:
    """The environment variable of a field of Config."""
    return PREFIX + field.upper()


def settings_table() -> str:
    """All settings as a Markdown table: variable, default, meaning."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Config.model_fields.items():
        default = field.default
        if isinstance(default, tuple):
            default = ",".join(default)
        default = "" if default in (None, "") else f"`{default}`"
        lines.append(f"| `{variable_of(name)}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def _problem(error: dict[str, Any]) -> str:
    what = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return what
    field = str(error["loc"][0])
    if field == "phase":
        what = f"it must be one of {', '.join(get_args(Phase))}"
    default = Config.model_fields[field].default
    remedy = f"Correct it, or unset it for the default ({default})."
    value = "" if field in _MAY_HOLD_SECRETS else f" {str(error['input'])[:80]!r}"
    return f"{variable_of(field)}: the value{value} cannot be used: {what}. {remedy}"
