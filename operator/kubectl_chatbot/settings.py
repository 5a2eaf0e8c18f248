"""What this tool knows of the operator's own settings: its Deployment's environment, and files of prices. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chatbot_operator.kinds import RawObject
from chatbot_operator.settings import PREFIX, InvalidSettings, Settings
from kubectl_chatbot.findings import Unknown

SELECTOR = "app.kubernetes.io/name=chatbot-operator"
"""Label selector of the operator's Deployments, as the chart makes them."""


class InvalidPrices(ValueError):
    """A file of prices is not usable; the message names the field."""


class Prices(BaseModel):
    """The `prices` of the chart's values, and so of a file that `helm upgrade -f` takes."""

    model_config = ConfigDict(extra="forbid")

    currency: str | None = Field(None, min_length=1, max_length=10)
    cpu: float | None = Field(None, ge=0)
    memory: float | None = Field(None, ge=0)
    storage: float | None = Field(None, ge=0)
    loadBalancer: float | None = Field(None, ge=0)  # noqa: N815 - as in the chart's values
    gpu: float | None = Field(None, ge=0)

    def over(self, settings: Settings) -> Settings:
        """The settings with these prices where they are given."""
        names = {"loadBalancer": "balancer_monthly", "currency": "currency"}
        given = {names.get(n, f"{n}_monthly"): v for n, v in self.model_dump(exclude_none=True).items()}
        return settings.model_copy(update=given)


def read_prices(text: str) -> Prices:
    """Raises InvalidPrices."""
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InvalidPrices("it is not YAML") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("prices"), dict):
        raise InvalidPrices("it must hold `prices:` with cpu, memory, storage, loadBalancer, gpu and currency")
    try:
        return Prices.model_validate(parsed["prices"])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidPrices(f"prices.{first['loc'][0]}: {first['msg']}") from None


def operator_of(deployments: Iterable[RawObject], namespace: str) -> RawObject | None:
    """The Deployment of the operator that serves a namespace; the older one where several do."""
    serving = [d for d in deployments if namespace in (settings_of(d).watch_namespaces or (namespace,))]
    return min(serving, key=lambda d: d["metadata"].get("creationTimestamp", ""), default=None)


def settings_of(deployment: RawObject) -> Settings:
    """The settings that a Deployment of the operator gives it. Those that this version does not know are left out, and
    what cannot be read counts as the default."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    entries: Iterable[Mapping[str, Any]] = (e for c in containers for e in c.get("env", ()))
    given = {e["name"]: e.get("value", "") for e in entries if e["name"] in known and "valueFrom" not in e}
    try:
        return Settings.from_env(given)
    except InvalidSettings:
        return Settings()


def known_settings(deployments: Sequence[RawObject] | Unknown, namespace: str) -> Settings:
    """The settings of the operator that serves a namespace; the defaults where they are not known."""
    found = None if isinstance(deployments, Unknown) else operator_of(deployments, namespace)
    return settings_of(found) if found else Settings()
