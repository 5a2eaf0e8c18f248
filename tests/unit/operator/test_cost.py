"""The estimate of a month's cost."""

import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from chatbot_operator.api import ChatbotSpec
from chatbot_operator.cost import estimate, monthly, rates
from chatbot_operator.settings import Settings

OUTSIDE = {"expose": {"type": "LoadBalancer"}, "access": {"mode": "Anonymous"}}
RATES = rates(Settings())
PAGE = Path(__file__).resolve().parents[3] / "docs/cost.md"


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


def test_a_gpu_is_counted_in_every_pod_that_has_one() -> None:
    plain = {"phase": "local", "local": {}, "backend": {"autoscaling": {"minReplicas": 3}}}
    with_gpu = {**plain, "local": {"gpu": {"count": 2}}}
    difference = monthly(ChatbotSpec.model_validate(with_gpu), RATES) - monthly(
        ChatbotSpec.model_validate(plain), RATES
    )
    assert difference == 6 * RATES.gpu


ROW = re.compile(r"^\| `(mock|hf|local)` \|.*\*\*([0-9.]+)\*\* \|$", re.MULTILINE)
RATE = re.compile(r"^\| `CHATBOT_OPERATOR_(\w+)` \|[^|]*\| ([0-9.]+) ", re.MULTILINE)


def test_the_page_on_cost_has_the_rates_and_the_sums_of_the_code() -> None:
    text = PAGE.read_text()
    specs = {p: ChatbotSpec.model_validate({"phase": p, **OUTSIDE}) for p in ("mock", "hf", "local")}
    wanted = {p: monthly(spec, RATES).quantize(Decimal("0.01"), rounding=ROUND_HALF_UP) for p, spec in specs.items()}
    assert {phase: Decimal(amount) for phase, amount in ROW.findall(text)} == wanted
    documented = {name.lower(): float(rate) for name, rate in RATE.findall(text)}
    assert documented == {n: getattr(Settings(), n) for n in Settings.model_fields if n.endswith("_monthly")}
