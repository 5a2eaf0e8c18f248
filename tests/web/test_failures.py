"""Every refusal and every broken stream is a visible block in the conversation that can be tried again."""

import re
import time
from email.utils import formatdate

import pytest

from chatbot_operator.desired.nginx import Page
from tests.web.backend import Backend, Refusal, Stream, whole
from tests.web.browser import BrowserContext, Chat, expect, visit
from tests.web.conftest import Site
from tests.web.nginx_process import Nginx, free_port

COUNTDOWN_MILLISECONDS = 15_000
"""A wait for the end of the page's countdown, which is 5 s long where nginx itself refuses."""
CLOSED = "The connection closed before the answer was complete."
REFUSALS = [
    (Refusal(400, "invalid_value", "The value is wrong."), "The value is wrong."),
    (Refusal(404, "model_not_found", "There is no such model."), "There is no such model."),
    (Refusal(413, "request_too_large", "The body is larger than 4 bytes: send less."), "send less"),
    (Refusal(500, "internal_error", "It broke."), "It broke."),
    (Refusal(500, body=b"<h1>Bad gateway</h1>"), "The server answered 500 without saying why."),
    (Refusal(418, body=b'{"error": "a text"}'), "The server answered 418 without saying why."),
    (Refusal(200, body=b"<p>Please log in to the hotel's network</p>"), "Something between this page and the chatbot"),
]


@pytest.mark.parametrize(("refusal", "message"), REFUSALS, ids=[f"{r.status}-{i}" for i, (r, _) in enumerate(REFUSALS)])
def test_a_refusal_says_why_with_the_requests_id_and_can_be_retried(
    site: Site, chat: Chat, refusal: Refusal, message: str
) -> None:
    site.backend.plan.append(refusal)
    chat.send("hello")
    expect(chat.failures).to_contain_text(message)
    identity = site.backend.wait_asked(1).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{24}", identity)
    expect(chat.failures.locator("code")).to_have_text(identity)
    chat.failures.get_by_role("button", name="Retry").click()
    expect(chat.text).to_have_text("You said: hello")
    expect(chat.failures).to_have_count(0)
    assert site.backend.asked[1].body["messages"] == [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_refusal_for_a_time_counts_down(site: Site, chat: Chat, status: int, form: str) -> None:
    # A date has whole seconds.
    after = "2" if form == "seconds" else formatdate(time.time() + 3, usegmt=True)
    site.backend.plan.append(Refusal(status, "busy", "Later, please.", {"retry-after": after}))
    chat.send("hello")
    waiting = chat.failures.get_by_role("button")
    expect(waiting).to_have_text(re.compile(r"^Retry in [123] s$"))
    expect(waiting).to_be_disabled()
    expect(waiting).to_have_text("Retry")
    waiting.click()
    expect(chat.text).to_have_text("You said: hello")


def test_a_limit_holds_for_its_message_and_not_for_the_chat(site: Site, chat: Chat) -> None:
    site.backend.plan.append(Refusal(429, "rate_limited", "Too fast.", {"retry-after": "3600"}))
    chat.send("one")
    expect(chat.failures.get_by_role("button")).to_be_disabled()
    chat.ask("two")
    expect(chat.text).to_have_text("You said: two")
    expect(chat.failures).to_have_count(1)
    expect(chat.failures.get_by_role("button")).to_be_disabled()
    chat.button("New chat").click()
    chat.ask("three")
    expect(chat.text).to_have_text("You said: three")


def test_a_stream_without_its_end_keeps_what_it_said(site: Site, chat: Chat) -> None:
    site.backend.plan.append(Stream().say("half an answer").close())
    chat.send("hello")
    expect(chat.failures).to_contain_text(CLOSED)
    expect(chat.text).to_have_text("half an answer")
    expect(chat.failures.locator("code")).to_have_text(re.compile("[0-9a-f]{24}"))
    chat.failures.get_by_role("button", name="Retry").click()
    expect(chat.text).to_have_text("You said: hello")


def test_an_error_in_the_middle_is_told_and_keeps_what_was_said(site: Site, chat: Chat) -> None:
    site.backend.plan.append(Stream().say("half").fail("The provider went away.", "provider_unavailable"))
    chat.send("hello")
    expect(chat.failures).to_contain_text("The provider went away.")
    expect(chat.text).to_have_text("half")


@pytest.mark.parametrize("data", [b"data: {broken\n\n", b"data: [1\n\n"])
def test_an_event_that_cannot_be_read_ends_the_answer(site: Site, chat: Chat, data: bytes) -> None:
    site.backend.next(Stream()).say("half").raw(data).close()
    chat.send("hello")
    expect(chat.failures).to_contain_text("could not be read")
    expect(chat.text).to_have_text("half")


@pytest.mark.parametrize(
    "data", [b"data: null\n\n", b"data: {}\n\n", b'data: {"choices":[]}\n\n', b": ping\n\n", b"\n"]
)
def test_events_that_say_nothing_are_passed_over(site: Site, chat: Chat, data: bytes) -> None:
    site.backend.next(Stream()).say("one").raw(data).say(" two").end()
    chat.ask("hello")
    expect(chat.text).to_have_text("one two")
    expect(chat.failures).to_have_count(0)


def test_a_stream_that_falls_silent_is_given_up_after_three_heartbeats(
    site: Site, context: BrowserContext, troubles: list[str]
) -> None:
    site.nginx.tell(Page(chatbot="demo", title="Told", heartbeat_seconds=0.2))
    chat = visit(context, site.url, troubles)
    expect(chat.page).to_have_title("Told")
    stream = site.backend.next(Stream())
    chat.send("hello")
    stream.say("half")
    expect(chat.failures).to_contain_text(CLOSED)
    expect(chat.text).to_have_text("half")


def test_heartbeats_keep_a_silent_stream_alive(site: Site, context: BrowserContext, troubles: list[str]) -> None:
    site.nginx.tell(Page(chatbot="demo", title="Told", heartbeat_seconds=0.5))
    chat = visit(context, site.url, troubles)
    expect(chat.page).to_have_title("Told")
    stream = site.backend.next(Stream())
    chat.send("hello")
    began = time.monotonic()
    while time.monotonic() < began + 2.5:
        stream.raw(b": ping\n\n")
        chat.page.evaluate("new Promise(done => setTimeout(done, 300))")
    stream.say("at last").end()
    expect(chat.text).to_have_text("at last")
    expect(chat.failures).to_have_count(0)


def test_a_backend_that_is_away_is_a_block_too(context: BrowserContext, troubles: list[str]) -> None:
    port = free_port()
    with Nginx(port) as nginx:
        chat = visit(context, nginx.url, troubles)
        expect(chat.notice("The chatbot is starting or cannot be reached.")).to_be_visible()
        chat.send("hello")
        expect(chat.failures).to_contain_text("The chatbot is not available at the moment.")
        expect(chat.failures.get_by_role("button")).to_have_text(re.compile("Retry in"))
        with Backend(port):
            expect(chat.notice("The chatbot is starting")).to_have_count(0)
            expect(chat.failures.get_by_role("button")).to_have_text("Retry", timeout=COUNTDOWN_MILLISECONDS)
            chat.failures.get_by_role("button").click()
            expect(chat.text).to_have_text("You said: hello")


def test_a_server_that_is_away_is_a_block_too(context: BrowserContext, troubles: list[str]) -> None:
    with Backend() as backend, Nginx(backend.port) as nginx:
        chat = visit(context, nginx.url, troubles)
        chat.ask("one")
    chat.send("two")
    expect(chat.failures).to_contain_text("The chatbot could not be reached.")
    expect(chat.failures.get_by_role("button", name="Retry")).to_be_enabled()
    expect(chat.questions.last).to_contain_text("two")


def test_an_answer_that_fails_before_its_first_word_is_left_out_of_the_next_question(site: Site, chat: Chat) -> None:
    site.backend.plan.append(Refusal(500))
    chat.send("one")
    expect(chat.failures).to_be_visible()
    site.backend.plan.append(whole("fine"))
    chat.ask("two")
    assert [m["role"] for m in site.backend.asked[1].body["messages"]] == ["user", "user"]
