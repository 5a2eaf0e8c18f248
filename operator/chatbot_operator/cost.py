"""An estimate of what a Chatbot costs a month: requests times rates. Pure; the rates are settings."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from chatbot_operator import effective
from chatbot_operator.api import ChatbotSpec, Cost
from chatbot_operator.units import GIBIBYTE, quantity


@dataclass(frozen=True)
class Rates:
    """Prices of a month: of a core, a GiB of memory, a GiB of storage and a LoadBalancer address."""

    cpu: Decimal
    memory: Decimal
    storage: Decimal
    balancer: Decimal
    currency: str


def monthly(spec: ChatbotSpec, rates: Rates) -> Decimal:
    """The cost of a month at the fewest replicas, in the rates' currency."""
    requests = effective.backend_resources(spec, spec.phase).requests
    pod = quantity(requests.cpu) * rates.cpu + quantity(requests.memory) / GIBIBYTE * rates.memory
    total = pod * (0 if spec.suspend else effective.backend_minimum(spec, spec.phase))
    if spec.web.enabled:
        page = spec.web.resources.requests
        total += (
            quantity(page.cpu) * rates.cpu + quantity(page.memory) / GIBIBYTE * rates.memory
        ) * effective.web_minimum(spec)
    if effective.downloads(spec):
        total += effective.storage_size(spec) / GIBIBYTE * rates.storage
    if spec.expose.type == "LoadBalancer":
        total += rates.balancer
    return total


def estimate(spec: ChatbotSpec, rates: Rates) -> Cost:
    """The same as `status.cost` shows it: whole units of the currency."""
    amount = monthly(spec, rates).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    return Cost(monthly=str(amount), currency=rates.currency)
