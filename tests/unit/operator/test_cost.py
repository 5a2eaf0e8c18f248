"""The estimate of a month's cost."""

from decimal import Decimal

import pytest

from chatbot_operator.api import ChatbotSpec
from chatbot_operator.conditions import rates
from chatbot_operator.cost import estimate, monthly
from chatbot_operator.settings import Settings

OUTSIDE = {"expose": {"type": "LoadBalancer"}, "access": {"mode": "Anonymous"}}
RATES = rates(Settings())


@pytest.mark.parametrize(("phase", "dollars"), [("mock", 30), ("hf", 50), ("local", 150)])
def test_the_default_shapes_cost_what_the_documentation_says(phase: str, dollars: int) -> None:
    spec = ChatbotSpec.model_validate({"phase": phase, **OUTSIDE})
    assert float(estimate(spec, RATES).monthly) == pytest.approx(dollars, rel=0.15)


def test_the_cost_follows_requests_replicas_and_rates() -> None:
    alone = {"phase": "mock", "web": {"enabled": False}}
    spec = ChatbotSpec.model_validate(alone)
    double = ChatbotSpec.model_validate({**alone, "backend": {"autoscaling": {"enabled": False}, "replicas": 4}})
    assert monthly(double, RATES) == 2 * monthly(spec, RATES)
    dear = rates(Settings(cpu_monthly=108, memory_monthly=16))
    assert monthly(spec, dear) == 2 * monthly(spec, RATES)


def test_a_suspended_chatbot_costs_its_storage_its_address_and_one_pod_of_its_page() -> None:
    spec = ChatbotSpec.model_validate({"phase": "local", "suspend": True, "web": {"enabled": False}, **OUTSIDE})
    assert monthly(spec, RATES) == 20 * RATES.storage + RATES.balancer
    page = monthly(ChatbotSpec.model_validate({"phase": "local", "suspend": True, **OUTSIDE}), RATES)
    assert page - monthly(spec, RATES) == Decimal("0.02") * RATES.cpu + RATES.memory / 32


def test_the_currency_is_a_setting() -> None:
    assert estimate(ChatbotSpec(phase="mock"), rates(Settings(currency="EUR"))).currency == "EUR"
