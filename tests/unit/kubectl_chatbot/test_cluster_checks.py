"""What the doctor says of a cluster, and what is read from the operator's Deployment."""

from decimal import Decimal
from typing import Any

import pytest

from chatbot_operator.cost import rates
from chatbot_operator.settings import Settings
from kubectl_chatbot.cluster_checks import cluster_findings
from kubectl_chatbot.findings import Unknown
from kubectl_chatbot.settings import InvalidPrices, known_settings, operator_of, read_prices, settings_of
from tests.unit.kubectl_chatbot.clusters import STANDARD, facts


def operator(name: str = "chatbot-operator", *, ready: int = 1, at: str = "2026-01-01", **env: str) -> dict[str, Any]:
    """A Deployment as the chart makes it, with these settings."""
    given: list[dict[str, Any]] = [{"name": f"CHATBOT_OPERATOR_{k}", "value": v} for k, v in env.items()]
    given += [{"name": "CHATBOT_OPERATOR_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}]
    container = {"name": "operator", "env": given}
    metadata = {"name": name, "namespace": "chatbot-system", "creationTimestamp": at}
    spec = {"template": {"spec": {"containers": [container]}}}
    return {"metadata": metadata, "spec": spec, "status": {"availableReplicas": ready}}


def balancer(address: str) -> dict[str, Any]:
    ingress = [{"ip": address}] if address else []
    return {"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": ingress}}}


def checks(**changed: Any) -> dict[str, str]:
    return {f.check: f.verdict for f in cluster_findings(facts(operators=[operator()], **changed), "shop")}


def test_a_cluster_in_which_all_is_well() -> None:
    assert set(checks(services=[balancer("192.0.2.1")]).values()) == {"ok"}


@pytest.mark.parametrize(
    ("changed", "check", "verdict"),
    [
        ({"definition": False}, "definition", "failed"),
        ({"storage_classes": []}, "storage class", "warning"),
        ({"storage_classes": [STANDARD]}, "storage class", "ok"),
        ({"metrics": False}, "metrics API", "warning"),
        ({"services": []}, "load balancer", "unknown"),
        ({"services": [balancer("")]}, "load balancer", "warning"),
        ({"services": [balancer(""), balancer("192.0.2.1")]}, "load balancer", "ok"),
    ],
)
def test_what_is_missing(changed: Any, check: str, verdict: str) -> None:
    assert checks(**changed)[check] == verdict


@pytest.mark.parametrize("name", ["version", "definition", "operators", "storage_classes", "metrics", "services"])
def test_what_may_not_be_read_is_not_known(name: str) -> None:
    found = cluster_findings(facts(**{name: Unknown("You may not read that.")}), "shop")
    assert "You may not read that." in {f.message for f in found if f.verdict == "unknown"}


@pytest.mark.parametrize(
    ("operators", "verdict"),
    [
        ([], "warning"),
        ([operator(ready=0)], "failed"),
        ([operator(WATCH_NAMESPACES="bank")], "failed"),
        ([operator(WATCH_NAMESPACES="bank"), operator("other", WATCH_NAMESPACES="shop,zoo")], "ok"),
    ],
)
def test_the_operator_that_serves_the_namespace(operators: Any, verdict: str) -> None:
    found = {f.check: f.verdict for f in cluster_findings(facts(operators=operators), "shop")}
    assert found["operator"] == verdict


def test_of_two_operators_the_older_serves() -> None:
    found = operator_of([operator("new", at="2026-02-01"), operator("old", at="2026-01-01")], "shop")
    assert found is not None
    assert found["metadata"]["name"] == "old"


def test_the_operators_settings_are_those_of_its_environment() -> None:
    settings = settings_of(operator(CPU_MONTHLY="60", CURRENCY="EUR", NEW_IN_A_LATER_VERSION="1"))
    assert (settings.cpu_monthly, settings.currency) == (60, "EUR")
    elsewhere = operator(CURRENCY="EUR")
    (container,) = elsewhere["spec"]["template"]["spec"]["containers"]
    reference = {"configMapKeyRef": {"name": "prices", "key": "cpu"}}
    container["env"].append({"name": "CHATBOT_OPERATOR_CPU_MONTHLY", "valueFrom": reference})
    assert settings_of(elsewhere).currency == "EUR"
    assert settings_of(operator(CPU_MONTHLY="many")) == Settings()
    assert known_settings(Unknown("no"), "shop") == Settings()
    assert known_settings([operator(CURRENCY="EUR")], "shop").currency == "EUR"


def test_a_file_of_prices_is_that_of_the_chart() -> None:
    found = rates(read_prices("prices: {cpu: 1, loadBalancer: 2, currency: EUR}").over(Settings()))
    assert (found.cpu, found.balancer, found.memory, found.currency) == (Decimal(1), Decimal(2), Decimal(8), "EUR")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prices: {cpu: -1}", "prices.cpu"),
        ("prices: {disk: 1}", "prices.disk"),
        ("cpu: 1", "must hold `prices:`"),
        ("- 1", "must hold `prices:`"),
        ("a: b: c", "not YAML"),
    ],
)
def test_a_file_of_prices_that_is_not_usable(text: str, said: str) -> None:
    with pytest.raises(InvalidPrices, match=said):
        read_prices(text)
