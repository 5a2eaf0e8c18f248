"""An estimate of what a Chatbot costs a month: requests times rates. Pure; the rates are settings."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from chatbot_operator import effective
from chatbot_operator.api import ChatbotSpec, Cost, Resources
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
    pods = 0 if spec.suspend else effective.backend_minimum(spec, spec.phase)
    total = pods * _pod(effective.backend_resources(spec, spec.phase), rates)
    if spec.web.enabled:
        total += effective.web_minimum(spec) * _pod(spec.web.resources, rates)
    if effective.downloads(spec):
        total += effective.storage_size(spec) / GIBIBYTE * rates.storage
    if spec.expose.type == "LoadBalancer":
        total += rates.balancer
    return total


def _pod(resources: Resources, rates: Rates) -> Decimal:
    requests = resources.requests
    return quantity(requests.cpu) * rates.cpu + quantity(requests.memory) / GIBIBYTE * rates.memory


def estimate(spec: ChatbotSpec, rates: Rates) -> Cost:
    """The same as `status.cost` shows it: whole units of the currency."""
    amount = monthly(spec, rates).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    return Cost(monthly=str(amount), currency=rates.currency)
