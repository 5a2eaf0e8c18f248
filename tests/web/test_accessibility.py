"""For everyone: axe finds nothing, screen readers are told, nothing needs a mouse, a wide screen or motion."""

from functools import cache
from typing import Any

import pytest

from chatbot_operator.desired.nginx import Page
from tests.web import tools
from tests.web.backend import READY, Refusal, Stream, whole
from tests.web.browser import Browser, Chat, ViewportSize, expect, visit
from tests.web.conftest import Site
from tests.web.test_conversation import MARKDOWN

MODES: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 800}},
    "mobile": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}, "has_touch": True},
}
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@cache
def axe() -> str:
    return (tools.packages() / "node_modules" / "axe-core" / "axe.min.js").read_text()


def violations(chat: Chat) -> list[str]:
    """What axe finds on the page as it is."""
    # Colours are compared when they have arrived, not on their way.
    chat.page.evaluate(
        "Promise.all(document.getAnimations().filter(a => a instanceof CSSTransition).map(a => a.finished))"
    )
    chat.page.evaluate(axe())
    found = chat.page.evaluate(
        "tags => axe.run(document, { runOnly: tags }).then(r => [r.passes.length, r.violations])", TAGS
    )
    assert found[0] > 10, "axe looked at nothing"
    return [f"{v['id']}: {node['html'][:200]} {node['failureSummary']}" for v in found[1] for node in v["nodes"]]


@pytest.mark.parametrize("mode", MODES)
def test_axe_finds_nothing(site: Site, browser: Browser, troubles: list[str], mode: str) -> None:
    site.backend.models = ["large", "small"]
    site.nginx.tell(Page(chatbot="demo", greeting="Hello", suggestions=("One", "Two")))
    with browser.new_context(**MODES[mode]) as context:
        chat = visit(context, site.url, troubles)
        expect(chat.page.get_by_label("Model")).to_be_visible()
        assert violations(chat) == [], "an empty chat"
        site.backend.plan.append(whole(MARKDOWN, model="mock", fallback="RateLimited"))
        chat.ask("show me")
        expect(chat.text.locator("pre .hljs-keyword").first).to_be_visible()
        assert violations(chat) == [], "an answer"
        chat.questions.first.get_by_role("button", name="Edit").click()
        site.backend.status = READY | {"fallback": "EngineDown", "download": {"percent": 5}}
        site.backend.plan.append(Refusal(429, "busy", "Too fast.", {"retry-after": "600"}))
        chat.send("one")
        expect(chat.failures).to_be_visible()
        expect(chat.notice("downloaded")).to_be_visible()
        chat.button("Export").click()
        assert violations(chat) == [], "an editor, a failure, notices, a menu"
        chat.page.keyboard.press("Escape")
        stream = site.backend.next(Stream())
        chat.send("two")
        stream.say("half")
        expect(chat.text).to_have_text("half")
        if mode == "mobile":
            chat.button("Show chats").click()
            expect(chat.button("Hide chats")).to_be_visible()
        assert violations(chat) == [], "an answer that streams"
        stream.end()


@pytest.mark.parametrize("mode", MODES)
def test_axe_finds_nothing_where_a_key_is_asked_for(
    site: Site, browser: Browser, troubles: list[str], mode: str
) -> None:
    site.backend.key = "sk"
    site.nginx.tell(Page(chatbot="demo", access="APIKey"))
    with browser.new_context(**MODES[mode]) as context:
        chat = visit(context, site.url, troubles)
        chat.page.get_by_label("API key").fill("wrong")
        chat.button("Continue").click()
        expect(chat.page.get_by_role("alert")).to_be_visible()
        assert violations(chat) == []


def test_axe_would_find_something(chat: Chat) -> None:
    chat.page.evaluate("document.querySelector('textarea').removeAttribute('aria-label')")
    chat.page.evaluate("document.querySelector('textarea').removeAttribute('placeholder')")
    assert [found for found in violations(chat) if found.startswith("label:")]


def test_a_screen_reader_is_told_once_and_politely(site: Site, chat: Chat) -> None:
    expect(chat.said).to_have_count(1)
    expect(chat.said).to_have_text("")
    stream = site.backend.next(Stream())
    chat.send("hello")
    stream.say("one")
    expect(chat.said).to_have_text("Answering…")
    expect(chat.answer).to_have_attribute("aria-busy", "true")
    stream.end()
    expect(chat.said).to_have_text("Answer ready")
    expect(chat.answer).to_have_attribute("aria-busy", "false")
    site.backend.plan.append(Refusal(500))
    chat.send("again")
    expect(chat.said).to_have_text("The answer failed")


def test_without_a_mouse(site: Site, chat: Chat) -> None:
    chat.ask("one")
    chat.page.get_by_role("button", name="Export").focus()
    chat.page.keyboard.press("Enter")
    expect(chat.button("Markdown")).to_be_visible()
    chat.page.keyboard.press("Escape")
    expect(chat.button("Markdown")).to_have_count(0)
    chat.questions.first.get_by_role("button", name="Edit").focus()
    expect(chat.questions.first.locator(".actions")).to_have_css("opacity", "1")
    chat.page.keyboard.press("Enter")
    chat.page.keyboard.type("!")
    chat.page.keyboard.press("Enter")
    assert site.backend.wait_asked(2).last == "one!"
    expect(chat.input).to_be_focused()


@pytest.mark.parametrize(
    ("width", "height", "zoom"), [(320, 640, 1), (1280, 800, 2), (1280, 800, 4)], ids=["320 px", "200 %", "400 %"]
)
def test_nothing_is_cut_off(
    site: Site, browser: Browser, troubles: list[str], width: int, height: int, zoom: int
) -> None:
    site.backend.models = ["an-owner/a-model-with-a-very-long-name-indeed", "small"]
    wide: ViewportSize = {"width": width // zoom, "height": height // zoom}
    with browser.new_context(viewport=wide, device_scale_factor=zoom) as context:
        chat = visit(context, site.url, troubles)
        word = "unbreakable" * 20
        site.backend.plan.append(
            whole(f"{MARKDOWN}\n\n{word}\n\n`{word}`\n\n```\n{word}\n```\n\n| {word} |\n|--|\n", model=word)
        )
        chat.ask(word)
        over = chat.page.evaluate(
            """() => [...document.querySelectorAll('html, main, .top, .scroller, .column, .bottom')]
                .filter(e => e.scrollWidth > e.clientWidth).map(e => e.className || e.tagName)"""
        )
        assert over == []
        expect(chat.button("Send")).to_be_in_viewport()
        chat.button("Show chats").click()
        expect(chat.button("New chat")).to_be_in_viewport()
        chat.page.keyboard.press("Escape")
        expect(chat.button("New chat")).to_be_hidden()


def test_nothing_moves_where_motion_is_not_wanted(site: Site, browser: Browser, troubles: list[str]) -> None:
    with browser.new_context(reduced_motion="reduce") as context:
        chat = visit(context, site.url, troubles)
        stream = site.backend.next(Stream())
        chat.send("hello")
        expect(chat.answer.locator(".waiting")).to_be_visible()
        assert chat.page.evaluate("document.getAnimations().length") == 0
        stream.end()


def test_the_theme_is_the_systems_until_one_is_chosen(site: Site, browser: Browser, troubles: list[str]) -> None:
    with browser.new_context(color_scheme="dark") as context:
        chat = visit(context, site.url, troubles)
        body = chat.page.locator("body")
        expect(body).to_have_css("background-color", "rgb(26, 25, 23)")
        chat.button("Theme: as the system").click()
        expect(body).to_have_css("background-color", "rgb(252, 251, 248)")
        chat.page.reload()
        expect(body).to_have_css("background-color", "rgb(252, 251, 248)")
        chat.button("Theme: light").click()
        expect(body).to_have_css("background-color", "rgb(26, 25, 23)")
