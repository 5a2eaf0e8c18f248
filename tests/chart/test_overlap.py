"""Several installs in one cluster, on a real API server."""

import pytest

from tests.chart.conftest import FEW, RELEASE, Make, ready
from tests.support.chatbot import Bot
from tests.support.operator import OperatorProcess, wait_for

pytestmark = pytest.mark.needs("fake nodes")


def test_two_installs_serve_a_namespace_each_and_an_overlap_is_refused_until_it_ends(
    release: Make, namespaces: tuple[str, str]
) -> None:
    shop, bank = namespaces
    # Of two that were made in the same second the name decides.
    first, second = sorted((release(), release()), key=lambda r: r.namespace)
    first.put(f"watchNamespaces={{{shop}}}")
    second.put(f"watchNamespaces={{{bank}}}", "crds.install=false")
    mine, theirs = Bot(first.access, shop), Bot(first.access, bank)
    with first.operator():
        theirs.create(**FEW)
        mine.create(**FEW).wait_ready(30)
        assert theirs.status().get("conditions") is None, "the first install does not serve it"
        with second.operator():
            theirs.wait_ready(30)
        second.put(f"watchNamespaces={{{bank},{shop}}}", "crds.install=false")
        were = mine.state()
        with second.operator() as process:
            wait_for("it is refused", lambda: refusals(process), 20)
            said = refusals(process)[0]
            assert f"Lease {first.namespace}/{RELEASE} serves {shop} already" in said
            assert "watchNamespaces" in said
            assert process.http("/readyz") == (503, said.removeprefix("refused: "))
            theirs.patch(mock={"replies": ["nobody writes this"]})
            mine.patch(mock={"replies": ["the first writes this"]})
            mine.wait_ready(20)
            assert not theirs.condition("Ready"), "a refused install writes no status"
            assert mine.state().keys() == were.keys()
            first.put(f"watchNamespaces={{{shop}}}", "replicas=0")
            assert not theirs.condition("Ready"), "an install that sleeps still has its namespaces"
            first.uninstall()
            ready(process)
            theirs.wait_ready(30)


def refusals(process: OperatorProcess) -> list[str]:
    return [line["message"] for line in process.lines() if str(line.get("message", "")).startswith("refused: ")]
