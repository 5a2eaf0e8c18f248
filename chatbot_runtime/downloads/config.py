"""What a process of `download` is told at its start, by environment variables. It must not know who sets them."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from chatbot_runtime.config import ConfigError, Names, Port, Seconds, base_url_of, variable_of
from chatbot_runtime.references import is_hf, parse_hf

_LIST_HASH = r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$"
"""A file of the volume is called so."""
_REGISTRY = r"^([A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?)?$"
_MAY_HOLD_SECRETS = ("hub_url", "ollama_url", "registry")
"""Fields whose value is never repeated in a message: it may hold a password by mistake."""


class DownloadConfig(BaseModel):
    """The settings of one download; field `x_y` is read from the environment variable `CHATBOT_X_Y`.

    An empty variable counts as not set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("chatbot", min_length=1, max_length=253, description="The chatbot's name; only shown.")
    namespace: str = Field("default", min_length=1, max_length=253, description="Its namespace; only shown in logs.")
    models: Names = Field(
        description="The models to fetch, separated by commas: hf://owner/repo/path/file.gguf[@revision], or names of "
        "Ollama's."
    )
    list_hash: str = Field(pattern=_LIST_HASH, description="Names the list of models; its marker is called so.")
    keep_lists: Names = Field(
        (), description="Other lists that are still served, separated by commas: what they need is not removed."
    )
    models_dir: Path = Field(Path("/models"), description="Folder of all models, writable.")
    hub_url: str = Field(
        "https://huggingface.co",
        max_length=2048,
        description="Address of the Hugging Face Hub or of a mirror; if it is not set, HF_ENDPOINT counts.",
    )
    registry: str = Field("", pattern=_REGISTRY, description="Ollama's registry, host[:port]; empty: Ollama's own.")
    registry_insecure: bool = Field(False, description="`true`: that registry is asked without TLS.")
    ollama_url: str = Field(
        "http://127.0.0.1:11434", max_length=2048, description="Address of the Ollama that fetches Ollama's models."
    )
    token_file: Path | None = Field(
        None, description="File with a token for the Hub; may be missing, and is read again when it changes."
    )
    ca_file: Path | None = Field(
        None, description="File with certificates of authorities that are trusted besides the system's (PEM)."
    )
    termination_file: Path = Field(
        Path("/dev/termination-log"), description="File that the result is written to, as JSON."
    )
    host: str = Field(
        "0.0.0.0",  # noqa: S104 - a pod must be reachable
        min_length=1,
        description="Address that the internal port listens on.",
    )
    internal_port: Port = Field(8001, description="Internal port: `/livez`, `/status`, `/metrics`. 0: any free one.")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`json`: one object a line; `text`: for people; `auto`: text on a terminal, else json."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least weight of what is logged."
    )
    connect_seconds: Seconds = Field(10, description="Time to connect to a server, in seconds.")
    stall_seconds: Seconds = Field(60, description="Longest time in which no byte comes, in seconds.")
    progress_seconds: Seconds = Field(5, description="Time between two lines of progress in the log, in seconds.")
    refused_seconds: Seconds = Field(
        300,
        description="Pause before a source is asked again that has refused the token or the access, in seconds; a "
        "changed token ends it.",
    )
    poll_seconds: Seconds = Field(1, description="How often the token is looked at for a change, in seconds.")
    retries: int = Field(
        3,
        ge=0,
        le=100,
        description="Further tries of this process after a failure that may pass; bytes won count anew.",
    )

    @field_validator("models")
    @classmethod
    def _are_models(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if not models:
            raise ValueError("at least one model must be named")
        for name in filter(is_hf, models):
            try:
                parse_hf(name)
            except ValueError as error:
                raise ValueError(f"{name[:100]}: {error}") from None
        return models

    @field_validator("keep_lists")
    @classmethod
    def _are_list_hashes(cls, lists: tuple[str, ...]) -> tuple[str, ...]:
        if any(re.match(_LIST_HASH, name) is None for name in lists):
            raise ValueError("it must be names of lists, separated by commas")
        return lists

    @field_validator("hub_url", "ollama_url")
    @classmethod
    def _is_base_url(cls, text: str) -> str:
        return base_url_of(text)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """The settings in `environ`; variables without the prefix or of other programs are ignored.

        Raises ConfigError naming every variable with a bad value.
        """
        given = {name: environ[variable] for name in cls.model_fields if environ.get(variable := variable_of(name))}
        names = {name: variable_of(name) for name in cls.model_fields}
        if "hub_url" not in given and (endpoint := environ.get("HF_ENDPOINT")):
            given["hub_url"], names["hub_url"] = endpoint, "HF_ENDPOINT"
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise ConfigError("\n".join(_problem(dict(e), names) for e in error.errors())) from None


def _problem(error: dict[str, Any], names: Mapping[str, str]) -> str:
    name = str(error["loc"][0])
    what = str(error["msg"]).removeprefix("Value error, ")
    field = DownloadConfig.model_fields[name]
    if error["type"] == "missing":
        return f"{names[name]}: it is not set. {field.description}"
    remedy = "Correct it." if field.is_required() else f"Correct it, or unset it for the default ({field.default})."
    value = "" if name in _MAY_HOLD_SECRETS else f" {str(error['input'])[:80]!r}"
    return f"{names[name]}: the value{value} cannot be used: {what}. {remedy}"
