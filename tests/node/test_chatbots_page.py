"""The chat page on a real node: nginx from the image, in front of the real runtime, through the public Service."""

import json
import urllib.error
import urllib.request
from contextlib import suppress
from email.message import Message

import openai
import pytest

from tests.support.chatbot import PAGE, Bot
from tests.support.load import OPEN_DOOR, load, service_url
from tests.support.operator import wait_for

pytestmark = pytest.mark.needs("pods run")

REPLY = "This sentence is streamed word by word, so that it takes a while. " * 6 + "The end."


def fetch(bot: Bot, path: str) -> tuple[int, Message, str]:
    """Status, headers and text of a page at the public address; 0 while nothing answers."""
    try:
        with urllib.request.urlopen(service_url(bot) + path, timeout=10) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()
    except OSError:
        return 0, Message(), ""


def test_a_chatbot_is_a_page_and_an_api_at_one_address(bot: Bot) -> None:
    bot.create(web={**PAGE, "title": "Support"}, mock={"replies": ["Good morning."]}).wait_ready(90)
    wait_for("the page is there", lambda: fetch(bot, "/")[0] == 200, 20)
    _, headers, html = fetch(bot, "/")
    assert '<div id="root">' in html
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert json.loads(fetch(bot, "/config.json")[2])["title"] == "Support"
    client = openai.OpenAI(base_url=f"{service_url(bot)}/v1", api_key="unused", max_retries=0, timeout=30)
    chunks = client.chat.completions.create(model="", messages=[{"role": "user", "content": "hi"}], stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Good morning."
    status, headers, text = fetch(bot, "/no/such/path")
    assert (status, json.loads(text)["error"]["code"]) == (404, "not_found")
    assert json.loads(fetch(bot, "/v1/status")[2])["phase"] == "mock"
    assert bot.status()["endpoints"]["web"] == bot.status()["url"]


@pytest.mark.needs("load balancer")
def test_a_page_is_reached_from_outside_by_a_load_balancer_and_the_service_keeps_its_cluster_address(bot: Bot) -> None:
    bot.create(web=PAGE).wait_ready(90)
    before = bot.get("service/demo")["spec"]["clusterIP"]
    bot.patch(expose={"type": "LoadBalancer"}, access={"mode": "Anonymous"})
    bot.wait_ready(60)
    url = bot.status()["url"]
    assert url != service_url(bot)

    def reached() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{url}/config.json", timeout=5) as answer:
            return bool(json.loads(answer.read())["chatbot"] == "demo")
        return False

    wait_for("the page is reached", reached, 20)
    assert bot.get("service/demo")["spec"]["clusterIP"] == before
    assert bot.condition("Exposed")["reason"] == "AddressAssigned"


def test_a_suspended_chatbot_still_has_its_page_and_the_api_says_when_to_come_back(bot: Bot) -> None:
    bot.create(web=PAGE).wait_ready(90)
    bot.patch(suspend=True)
    bot.wait_reason("Suspended", 30)
    wait_for("the API says so", lambda: fetch(bot, "/v1/status")[0] == 503, 90)
    _, headers, text = fetch(bot, "/v1/status")
    assert headers.get_all("Retry-After") == ["5"]
    assert json.loads(text)["error"]["code"] == "backend_unavailable"
    assert fetch(bot, "/")[0] == 200


@pytest.mark.timeout(420)
def test_the_page_goes_and_comes_and_its_pods_are_replaced_and_nobody_notices(bot: Bot) -> None:
    fixed = {"replicas": 2, "autoscaling": {"enabled": False}}
    bot.create(web=PAGE, mock={"replies": [REPLY], "tokensPerSecond": 25}, access=OPEN_DOOR, backend=fixed)
    bot.wait_ready(90)
    with load(bot, {"mock": [REPLY]}, short=3, streams=4, pause=0.05, longest_seconds=300) as running:
        running.wait_more(1, 1)
        for change in ({"enabled": False}, {"enabled": True}, {"resources": {"requests": {"cpu": "21m"}}}):
            bot.patch(web=change)
            bot.wait_ready(90)
            running.wait_more(10, 2)
        bot.patch(mock={"resources": {"requests": {"cpu": "101m"}}})
        bot.wait_ready(90)
        running.wait_more(10, 2)
        tally = running.result()
    assert tally.problems == []
