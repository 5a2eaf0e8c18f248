"""What the chart makes of values, with both versions of Helm, and which values it refuses."""

from decimal import Decimal
from typing import Any

import pytest

from charts.generate.readme import Undocumented, table_of
from chatbot_operator.cost import Rates, rates
from chatbot_operator.installs import SELECTOR, WATCHES, install_of
from chatbot_operator.settings import PREFIX, Settings
from tests.support.helm import CHART, VERSIONS, Helm, Objects, helm

EVERYTHING = (
    "replicas=2",
    "watchNamespaces={shop,bank}",
    "scrapeNamespaces={monitoring}",
    "metrics.serviceMonitor.enabled=true",
    "metrics.podMonitor.enabled=true",
    "metrics.prometheusRule.enabled=true",
    "metrics.dashboard.enabled=true",
    "metrics.prometheusRule.docsURL=https://docs.example.com/",
)


@pytest.fixture(scope="module", params=VERSIONS)
def program(request: pytest.FixtureRequest) -> Helm:
    return helm(request.param)


def one(objects: Objects, kind: str, name: str = "") -> dict[str, Any]:
    """The only object of a kind, or that of a name."""
    (found,) = (o for o in objects if o["kind"] == kind and name in ("", o["metadata"]["name"]))
    return found


def kinds(objects: Objects) -> set[str]:
    return {o["kind"] for o in objects}


def environment(objects: Objects) -> dict[str, str]:
    """The operator's settings as its container has them."""
    (container,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    given = {e["name"]: e.get("value", "from the pod") for e in container["env"]}
    return {name: value for name, value in given.items() if name.startswith(PREFIX)}


def pod_free(given: dict[str, str]) -> dict[str, str]:
    """Without what only a pod knows."""
    return {name: value for name, value in given.items() if value != "from the pod"}


def test_the_linter_finds_nothing(program: Helm) -> None:
    assert "0 chart(s) failed" in program("lint", "--strict", str(CHART))


def test_both_versions_of_helm_make_the_same() -> None:
    rendered = [helm(version).render(*EVERYTHING) for version in VERSIONS]

    def by_name(objects: Objects) -> dict[tuple[str, str, str], Any]:
        return {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o for o in objects}

    assert by_name(rendered[0]) == by_name(rendered[1])
    assert len(rendered[0]) >= 20


def test_prices_are_set_once_and_settings_win(program: Helm) -> None:
    given = environment(program.render("prices.cpu=60.5", "prices.currency=EUR", "settings.MEMORY_MONTHLY=9"))
    settings = Settings.from_env(pod_free(given))
    assert rates(settings) == Rates(
        cpu=Decimal("60.5"),
        memory=Decimal(9),
        storage=Decimal("0.1"),
        balancer=Decimal(18),
        gpu=Decimal(400),
        currency="EUR",
    )
    assert rates(Settings.from_env(pod_free(environment(program.render())))) == rates(Settings())


def test_the_operator_accepts_its_environment(program: Helm) -> None:
    for settings in ((), EVERYTHING, ("image.digest=sha256:" + "a" * 64,)):
        found = Settings.from_env(environment(program.render(*settings)))
        assert found.lease_name == "chatbot-operator"
    numbers = ("settings.WORKERS=4", "settings.DOWNLOAD_KEPT_SECONDS=10000000", "settings.CURRENCY=EUR")
    found = Settings.from_env(environment(program.render(*numbers)))
    assert (found.workers, found.download_kept_seconds, found.currency) == (4, 10_000_000, "EUR")
    full = Settings.from_env(environment(program.render(*EVERYTHING)))
    assert (full.watch_namespaces, full.scrape_namespaces) == (("shop", "bank"), ("monitoring",))


@pytest.mark.parametrize("watched", [(), ("shop",), ("shop", "bank")])
def test_the_lease_says_what_the_operator_serves(program: Helm, watched: tuple[str, ...]) -> None:
    lease = one(program.render(f"watchNamespaces={{{','.join(watched)}}}" if watched else "replicas=1"), "Lease")
    label, _, value = SELECTOR.partition("=")
    assert lease["metadata"]["labels"][label] == value
    lease["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    found = install_of(lease)
    assert found is not None, lease["metadata"]["annotations"][WATCHES]
    assert found.watches == set(watched)


def test_what_is_optional_is_off_and_can_be_turned_on(program: Helm) -> None:
    optional = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "PodDisruptionBudget"}
    assert not optional & kinds(program.render())
    full = program.render(*EVERYTHING)
    assert optional <= kinds(full)
    rules = one(full, "PrometheusRule")["spec"]["groups"][0]["rules"]
    links = {rule["annotations"]["runbook_url"] for rule in rules}
    assert all(link.startswith("https://docs.example.com/troubleshooting.md#") for link in links)
    assert "DOCS_URL" not in str(full)
    without = program.render(*EVERYTHING, "networkPolicy.enabled=false", "podDisruptionBudget.enabled=false")
    assert not {"NetworkPolicy", "PodDisruptionBudget"} & kinds(without)


def test_rights_beyond_the_watched_namespaces_are_to_list_leases_alone(program: Helm) -> None:
    full = program.render(*EVERYTHING)
    bindings = [o for o in full if o["kind"] == "ClusterRoleBinding"]
    (role,) = (
        o for o in full if o["kind"] == "ClusterRole" and o["metadata"]["name"] == bindings[0]["roleRef"]["name"]
    )
    assert len(bindings) == 1
    assert role["rules"] == [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["list"]}]
    bound = {o["metadata"]["namespace"] for o in full if o["kind"] == "RoleBinding"}
    assert bound == {"shop", "bank", "chatbot-system"}


def test_two_releases_of_one_name_share_no_object(program: Helm) -> None:
    def names(objects: Objects) -> set[tuple[str, str, str]]:
        return {(o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]) for o in objects}

    first = program.render("watchNamespaces={a}", namespace="one")
    second = program.render("watchNamespaces={one}", namespace="two")
    assert not names(first) & names(second)


def test_the_test_is_asked_where_the_operator_serves_and_without_any_right(program: Helm) -> None:
    objects = program.render("watchNamespaces={shop,bank}", "fullnameOverride=" + "a" * 50)
    chatbot, pod = one(objects, "Chatbot"), one(objects, "Job")["spec"]["template"]
    name, namespace = chatbot["metadata"]["name"], chatbot["metadata"]["namespace"]
    assert (namespace, len(name) <= 45) == ("shop", True)
    assert f"--url=http://{name}.{namespace}.svc" in pod["spec"]["containers"][0]["args"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    # Neither the operator's Service nor its Deployment may take it for one of its own.
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] != "chatbot-operator"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("replica=2", "replica"),
        ("replicas=-1", "replicas"),
        ("watchNamespaces={Shop}", "watchNamespaces"),
        ("watchNamespaces={a,a}", "watchNamespaces"),
        ("image.digest=abc", "digest"),
        ("image.tag=a b", "tag"),
        ("settings.workers=4", "workers"),
        ("allowedHosts={https://example.com}", "allowedHosts"),
        ("networkPolicy.apiServerPorts={}", "apiServerPorts"),
        ("metrics.serviceMonitor.interval=often", "interval"),
        ("metrics.prometheusRule.docsURL=here", "docsURL"),
        ("crds.kept=true", "kept"),
        ("test.waitSeconds=0", "waitSeconds"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(setting: str, words: str) -> None:
    for version in VERSIONS:
        with pytest.raises(AssertionError) as refused:
            helm(version).render(setting)
        assert words in str(refused.value).partition("values")[2]


def test_a_value_without_a_comment_or_a_place_in_the_schema_is_not_generated() -> None:
    schema = {"additionalProperties": False, "properties": {"a": {"type": "string"}}}
    assert table_of("# What it is for.\na: x\n", schema).endswith('| `a` | string | `"x"` | What it is for. |')
    with pytest.raises(Undocumented, match="a has no comment"):
        table_of("a: x\n", schema)
    with pytest.raises(Undocumented, match=r"b is not in values\.schema\.json"):
        table_of("# B.\nb: x\n", schema)
