"""Chromium, and a chat page as a person uses it. The only module that imports Playwright; it must not test anything."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import (  # type: ignore[import-not-found,unused-ignore]  # installed by the tests themselves
    Browser,
    BrowserContext,
    Locator,
    Page,
    ViewportSize,
    expect,
    sync_playwright,
)

from tests.web import tools

__all__ = ["Browser", "BrowserContext", "Chat", "Locator", "Page", "ViewportSize", "chromium", "expect", "visit"]

FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=tools.program("chromium"), args=FLAGS)
        yield browser
        browser.close()


class Chat:
    """A page of the chatbot."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.input = page.get_by_label("Message", exact=True)
        self.answers = page.locator("article.answer")
        self.questions = page.locator("article.question")
        self.failures = page.locator(".failure")
        self.said = page.get_by_role("status")
        self.scroller = page.locator(".scroller")

    @property
    def answer(self) -> Locator:
        """The last answer."""
        return self.answers.last

    @property
    def text(self) -> Locator:
        """What the last answer says."""
        return self.answer.locator(".prose")

    def button(self, name: str, exact: bool = True) -> Locator:
        """A button by its name."""
        return self.page.get_by_role("button", name=name, exact=exact)

    def notice(self, text: str) -> Locator:
        """A notice above the composer."""
        return self.page.locator(".notice", has_text=re.compile(re.escape(text)))

    def type(self, text: str) -> None:
        """Writes without sending."""
        self.input.fill(text)

    def send(self, text: str) -> None:
        """Writes and presses Enter."""
        self.type(text)
        self.input.press("Enter")

    def ask(self, text: str) -> None:
        """Sends, and waits until the answer is complete."""
        before = self.answers.count()
        self.send(text)
        expect(self.answers).to_have_count(before + 1)
        expect(self.answer).to_have_attribute("aria-busy", "false")

    def top(self) -> float:
        """How far the conversation is scrolled."""
        value: float = self.scroller.evaluate("box => box.scrollTop")
        return value

    def rest(self) -> float:
        """How far it is from its end."""
        value: float = self.scroller.evaluate("box => box.scrollHeight - box.clientHeight - box.scrollTop")
        return value

    def scroll(self, top: float) -> None:
        """Scrolls, and waits until the page has seen it."""
        self.scroller.evaluate(
            """(box, top) => new Promise(done => {
                box.scrollTop = top;
                requestAnimationFrame(() => requestAnimationFrame(done));
            })""",
            top,
        )

    def stored(self, part: str = "chat/") -> list[str]:
        """What the browser keeps under keys with this in their name."""
        script = "part => Object.entries(localStorage).filter(([key]) => key.includes(part)).map(([, value]) => value)"
        found: list[str] = self.page.evaluate(script, part)
        return found


def visit(context: BrowserContext, url: str, troubles: list[str]) -> Chat:
    """Opens the page; what must never happen there is added to `troubles`."""
    page = context.new_page()
    watch(page, url, troubles)
    page.goto(url)
    return Chat(page)


def watch(page: Page, url: str, troubles: list[str]) -> None:
    """Notes script errors, refusals of the content policy and requests to anywhere else."""

    def console(message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            troubles.append(f"console: {message.text}")

    def request(asked: Any) -> None:
        if not asked.url.startswith((f"{url}/", "blob:", "data:image/")):
            troubles.append(f"request to {asked.url}")

    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.on("console", console)
    page.on("request", request)
