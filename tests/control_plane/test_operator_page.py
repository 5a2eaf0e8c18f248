"""The chat page's objects and the ways in from outside, as a real API server takes them."""

import json

import pytest

from tests.control_plane.conftest import Operated
from tests.support.chatbot import PAGE, Bot
from tests.support.operator import wait_for

OPEN = {"mode": "Anonymous"}
SELECTED = ("-o", "jsonpath={.spec.selector.app\\.kubernetes\\.io/component}")
HOST = {"host": "chat.example.com"}


@pytest.fixture
def bot(operated: Operated, namespace: str) -> Bot:
    """A Chatbot of the test's own, not made yet."""
    return Bot(operated.access, namespace)


def selected(bot: Bot) -> str:
    return bot.kubectl("get", f"service/{bot.name}", *SELECTED)


def test_a_chatbot_has_its_page_and_every_object_of_it(bot: Bot) -> None:
    bot.create(web=PAGE).wait_ready(40)
    for child in bot.children(page=True):
        bot.get(child)
    assert selected(bot) == "web"
    endpoints = bot.status()["endpoints"]
    assert endpoints["web"] == bot.status()["url"]
    assert bot.get("hpa/demo-web")["spec"]["minReplicas"] == 2
    assert bot.get("deployment/demo-web")["spec"]["replicas"] == 2


def test_the_page_is_switched_off_and_on_and_the_address_is_the_same_service(bot: Bot) -> None:
    bot.create(web=PAGE).wait_ready(40)
    before = bot.get("service/demo")
    bot.patch(web={"enabled": False})
    bot.wait_ready(40)
    assert selected(bot) == "backend"
    gone = [c.format("demo") for c in bot.children(page=True) if c.endswith("-web")]
    wait_for("nothing of it is left", lambda: not bot.kubectl("get", *gone, "--ignore-not-found").strip(), 30)
    bot.patch(web={"enabled": True})
    bot.wait_ready(40)
    assert selected(bot) == "web"
    after = bot.get("service/demo")
    for field in ("uid", "name"):
        assert after["metadata"][field] == before["metadata"][field]
    assert after["spec"]["clusterIP"] == before["spec"]["clusterIP"]


def test_another_title_reaches_the_page_without_new_pods(bot: Bot) -> None:
    bot.create(web=PAGE).wait_ready(40)
    before = bot.get("deployment/demo-web")["metadata"]["generation"]
    bot.patch(web={"title": "Support", "greeting": "Hello!\n</script>"})
    bot.wait_ready(40)
    told = json.loads(bot.get("configmap/demo-web")["data"]["config.json"])
    assert (told["title"], told["greeting"]) == ("Support", "Hello!\n</script>")
    assert bot.get("deployment/demo-web")["metadata"]["generation"] == before


def test_a_suspended_chatbot_keeps_one_pod_of_its_page_and_comes_back_with_both(bot: Bot) -> None:
    bot.create(web=PAGE).wait_ready(40)
    bot.patch(suspend=True)
    bot.wait_reason("Suspended", 20)

    def pods(deployment: str) -> int:
        return int(bot.get(f"deployment/{deployment}").get("status", {}).get("replicas", 0))

    wait_for("one page pod, no backend pod", lambda: (pods("demo-web"), pods("demo-backend")) == (1, 0), 20)
    assert json.loads(bot.get("configmap/demo-web")["data"]["config.json"])["suspended"] is True
    bot.patch(suspend=False)
    bot.wait_ready(40)
    assert (pods("demo-web"), pods("demo-backend")) == (2, 2)


def test_a_backend_service_that_is_made_again_has_its_new_address_told_to_the_page(bot: Bot) -> None:
    bot.create(web=PAGE).wait_ready(40)
    bot.kubectl("delete", "service/demo-backend")

    def told() -> bool:
        found = bot.kubectl("get", "service/demo-backend", "-o", "jsonpath={.spec.clusterIP}", check=False)
        conf = bot.get("configmap/demo-web")["data"]["nginx.conf"]
        return bool(found) and f"server {found}:8000" in conf

    wait_for("the page knows the address", told, 30)
    bot.wait_ready(40)


def test_an_ingress_waits_for_its_controller_and_goes_with_its_host(bot: Bot) -> None:
    bot.create(access=OPEN, expose={**HOST, "ingressClassName": "some", "tlsSecretName": "chat-tls"})
    bot.wait_reason("AddressPending", 40)
    address = {"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}}}
    bot.kubectl("patch", "ingress/demo", "--subresource=status", "--type=merge", "-p", json.dumps(address))
    bot.wait_ready(20)
    assert bot.status()["url"] == "https://chat.example.com"
    assert bot.condition("Exposed")["reason"] == "AddressAssigned"
    bot.patch(expose={"host": None, "ingressClassName": None, "tlsSecretName": None})
    wait_for("it is gone", lambda: not bot.kubectl("get", "ingress/demo", "--ignore-not-found"), 20)


KINDS = ("deployment", "service", "configmap", "hpa", "pdb", "networkpolicy", "serviceaccount")


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_of_the_page_that_is_deleted_comes_back(bot: Bot, kind: str) -> None:
    bot.create(web=PAGE).wait_ready(40)
    uid = bot.get(f"{kind}/demo-web")["metadata"]["uid"]
    bot.kubectl("delete", f"{kind}/demo-web", "--wait=false")
    again = ("get", f"{kind}/demo-web", "--ignore-not-found", "-o", "jsonpath={.metadata.uid}")
    wait_for("it is back", lambda: bot.kubectl(*again) not in ("", uid), 30)
    bot.wait_ready(40)
