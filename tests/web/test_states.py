"""What the page says of its chatbot: starting, switching, downloading, a stand-in, paused, offline. It never waits."""

import json
import threading
from collections import Counter

import pytest

from chatbot_operator.desired.nginx import Page
from tests.web.backend import READY, Backend, Refusal, Stream, whole
from tests.web.browser import BrowserContext, Chat, expect, visit
from tests.web.conftest import Site
from tests.web.nginx_process import Nginx, free_port


def test_the_page_is_there_before_models_and_status_answer(
    site: Site, context: BrowserContext, troubles: list[str]
) -> None:
    site.backend.hold = threading.Event()
    chat = visit(context, site.url, troubles)
    expect(chat.input).to_be_focused()
    chat.ask("hello")
    expect(chat.text).to_have_text("You said: hello")
    assert "GET /v1/models" not in site.backend.lines, "nothing was held"
    site.backend.hold.set()


def test_the_page_is_there_before_its_own_config(context: BrowserContext, site: Site, troubles: list[str]) -> None:
    page = context.new_page()
    page.route("**/config.json", lambda _: None)
    with page.expect_request("**/config.json"):
        page.goto(site.url)
    chat = Chat(page)
    chat.ask("hello")
    expect(chat.text).to_have_text("You said: hello")


@pytest.mark.parametrize(
    ("replaced", "text"),
    [(True, "The chatbot is switching to another model."), (False, "The chatbot is starting or cannot be reached.")],
)
def test_a_backend_that_comes_is_waited_for(
    context: BrowserContext, troubles: list[str], replaced: bool, text: str
) -> None:
    port = free_port()
    with Nginx(port, backend_is_replaced=replaced) as nginx:
        chat = visit(context, nginx.url, troubles)
        expect(chat.notice(text)).to_be_visible()
        with Backend(port):
            expect(chat.notice(text)).to_have_count(0)
            chat.ask("hello")


def test_a_download_is_shown_with_its_progress_until_it_is_over(
    site: Site, context: BrowserContext, troubles: list[str]
) -> None:
    numbers = {"completedBytes": 840_000_000, "totalBytes": 2_000_000_000, "bytesPerSecond": 12_340_000}
    site.backend.status = READY | {"phase": "local", "download": {"percent": 42.7, "secondsLeft": 95, **numbers}}
    chat = visit(context, site.url, troubles)
    notice = chat.notice("The model is being downloaded")
    expect(notice).to_contain_text("42 % · 840 MB of 2.0 GB · 12.3 MB/s · 2 min left")
    expect(notice.get_by_role("progressbar")).to_have_js_property("value", 42.7)
    site.backend.status = READY | {"download": {"percent": None}}
    expect(notice).to_have_text("The model is being downloaded")
    site.backend.status = dict(READY)
    expect(notice).to_have_count(0)


def test_a_failed_answer_makes_the_page_look_at_the_state(site: Site, chat: Chat) -> None:
    chat.ask("hello")
    site.backend.status = Refusal(503, "model_switching", headers={"retry-after": "1"})
    site.backend.plan.append(Refusal(503, "model_switching", "Switching.", {"retry-after": "1"}))
    chat.send("now?")
    expect(chat.notice("The chatbot is switching to another model.")).to_be_visible()


@pytest.mark.parametrize("header", [True, False], ids=["header", "first chunk"])
def test_a_stand_in_is_a_badge_that_stays_in_history_and_exports(site: Site, chat: Chat, header: bool) -> None:
    site.backend.plan.append(whole("canned", model="mock", fallback="RateLimited", header=header))
    chat.ask("hello")
    badge = chat.answers.first.locator(".badge")
    expect(badge).to_have_text("Stand-in answer: the provider’s limit is reached")
    expect(chat.answer.locator(".model")).to_have_text("mock")
    chat.ask("again")
    expect(chat.page.locator(".badge")).to_have_count(1)
    chat.page.reload()
    expect(badge).to_be_visible()
    chat.button("Export").click()
    with chat.page.expect_download() as markdown:
        chat.button("Markdown").click()
    assert "> Stand-in answer: the provider’s limit is reached" in markdown.value.path().read_text()
    chat.button("Export").click()
    with chat.page.expect_download() as download:
        chat.button("JSON").click()
    assert json.loads(download.value.path().read_text())["messages"][1]["fallback"] == "RateLimited"


def test_a_badge_is_there_while_the_answer_still_streams(site: Site, chat: Chat) -> None:
    stream = site.backend.next(Stream("mock", "EngineDown"))
    chat.send("hello")
    stream.say("one")
    expect(chat.answer.locator(".badge")).to_have_text("Stand-in answer: the engine is down")
    stream.end()


def test_the_chatbots_stand_in_is_said_before_one_asks(
    site: Site, context: BrowserContext, troubles: list[str]
) -> None:
    site.backend.status = READY | {"fallback": "TokenRejected"}
    chat = visit(context, site.url, troubles)
    expect(chat.notice("A stand-in answers for now: the provider refuses the token.")).to_be_visible()


def test_an_unknown_reason_is_shown_as_it_is(site: Site, chat: Chat) -> None:
    site.backend.plan.append(whole("canned", fallback="SomethingNew"))
    chat.ask("hello")
    expect(chat.answer.locator(".badge")).to_have_text("Stand-in answer: SomethingNew")


def test_a_paused_chatbot_says_so_and_comes_back(context: BrowserContext, troubles: list[str]) -> None:
    port = free_port()
    with Nginx(port, Page(chatbot="demo", suspended=True)) as nginx:
        chat = visit(context, nginx.url, troubles)
        expect(chat.notice("This chatbot is paused by its owner.")).to_be_visible()
        expect(chat.page.locator(".notice")).to_have_count(1)
        nginx.tell(Page(chatbot="demo"))
        with Backend(port):
            expect(chat.page.locator(".notice")).to_have_count(0)


def test_offline_is_said_and_nothing_is_lost(site: Site, context: BrowserContext, chat: Chat) -> None:
    chat.ask("one")
    context.set_offline(True)
    expect(chat.notice("You are offline.")).to_be_visible()
    chat.send("two")
    expect(chat.failures).to_contain_text("This device is offline.")
    context.set_offline(False)
    expect(chat.notice("You are offline.")).to_have_count(0)
    chat.failures.get_by_role("button", name="Retry").click()
    expect(chat.text).to_have_text("You said: two")


def test_a_chatbot_without_status_is_not_said_to_be_away(
    site: Site, context: BrowserContext, troubles: list[str]
) -> None:
    site.backend.status = Refusal(404, "not_found")
    site.backend.models = ["large", "small"]
    chat = visit(context, site.url, troubles)
    chat.ask("hello")
    expect(chat.page.locator(".notice")).to_have_count(0)
    expect(chat.page.get_by_label("Model")).to_be_visible()


def test_the_page_does_not_ask_more_than_it_must(site: Site, chat: Chat) -> None:
    for _ in range(5):
        chat.ask("hello")
    asked = Counter(site.backend.lines)
    assert asked.pop("POST /v1/chat/completions") == 5
    assert asked == {"GET /v1/status": 1, "GET /v1/models": 1}


def test_models_are_looked_at_again_in_another_phase(site: Site, context: BrowserContext, troubles: list[str]) -> None:
    site.backend.status = READY | {"download": {"percent": 1}}
    chat = visit(context, site.url, troubles)
    expect(chat.notice("downloaded")).to_be_visible()
    site.backend.models = ["large", "small"]
    site.backend.status = READY | {"phase": "local"}
    expect(chat.page.get_by_label("Model")).to_be_visible()
