"""An estimate of what a Chatbot costs a month: requests times rates. Pure; the rates are settings."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from chatbot_operator import effective
from chatbot_operator.api import ChatbotSpec, Cost, Resources
from chatbot_operator.settings import Settings
from chatbot_operator.units import GIBIBYTE, quantity


@dataclass(frozen=True)
class Rates:
    """Prices of a month: of a core, a GiB of memory, a GiB of storage, a LoadBalancer address and a GPU."""

    cpu: Decimal
    memory: Decimal
    storage: Decimal
    balancer: Decimal
    gpu: Decimal
    currency: str


@dataclass(frozen=True)
class Line:
    """One row of the estimate: how much of what, and what it costs."""

    item: str
    count: int
    each: str
    amount: Decimal


def rates(settings: Settings) -> Rates:
    """The administrator's prices."""

    def price(value: float) -> Decimal:
        return Decimal(str(value))

    return Rates(
        cpu=price(settings.cpu_monthly),
        memory=price(settings.memory_monthly),
        storage=price(settings.storage_monthly),
        balancer=price(settings.balancer_monthly),
        gpu=price(settings.gpu_monthly),
        currency=settings.currency,
    )


def lines(spec: ChatbotSpec, prices: Rates) -> tuple[Line, ...]:
    """The rows of the estimate, at the fewest replicas."""
    pods = 0 if spec.suspend else effective.backend_minimum(spec, spec.phase)
    found = [_pods("backend pods", pods, effective.backend_resources(spec, spec.phase), prices)]
    if spec.phase == "local" and spec.local.gpu:
        gpus = pods * spec.local.gpu.count
        found.append(Line("GPUs", gpus, spec.local.gpu.resource_name, gpus * prices.gpu))
    if spec.web.enabled:
        found.append(_pods("page pods", effective.web_minimum(spec), spec.web.resources, prices))
    if effective.downloads(spec):
        size = effective.storage_size(spec) / GIBIBYTE
        found.append(Line("model storage", 1, spec.local.storage.size, size * prices.storage))
    if spec.expose.type == "LoadBalancer":
        found.append(Line("address", 1, "LoadBalancer", prices.balancer))
    return tuple(found)


def monthly(spec: ChatbotSpec, prices: Rates) -> Decimal:
    """The cost of a month at the fewest replicas, in the rates' currency."""
    return sum((line.amount for line in lines(spec, prices)), Decimal(0))


def _pods(item: str, count: int, resources: Resources, prices: Rates) -> Line:
    requests = resources.requests
    each = quantity(requests.cpu) * prices.cpu + quantity(requests.memory) / GIBIBYTE * prices.memory
    return Line(item, count, f"{requests.cpu} CPU, {requests.memory}", count * each)


def estimate(spec: ChatbotSpec, prices: Rates) -> Cost:
    """The same as `status.cost` shows it: whole units of the currency."""
    amount = monthly(spec, prices).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    return Cost(monthly=str(amount), currency=prices.currency)
