"""The conversation follows its end while the reader is there, and never otherwise."""

from collections.abc import Callable

import pytest

from tests.support.runtime_process import until
from tests.web.backend import Stream
from tests.web.browser import Chat, expect
from tests.web.conftest import Site

LINES = "".join(f"line {number}\n\n" for number in range(60))


@pytest.fixture
def long(site: Site, chat: Chat) -> Stream:
    """An answer that is longer than the screen, and goes on."""
    stream = site.backend.next(Stream())
    chat.send("a long one")
    stream.say(LINES)
    # Drawn as Markdown: what draws it comes after the page.
    expect(chat.text.locator("p")).to_have_count(60)
    until(lambda: chat.rest() < 1, "the end is shown")
    return stream


def grow(chat: Chat, stream: Stream, word: str) -> None:
    """More of the answer, and drawn."""
    stream.say(f"{LINES}{word}\n\n")
    expect(chat.text).to_contain_text(word)


def test_the_end_is_followed(chat: Chat, long: Stream) -> None:
    grow(chat, long, "first")
    until(lambda: chat.rest() < 1, "the new end is shown")
    expect(chat.button("Jump to latest")).to_have_count(0)


@pytest.mark.parametrize("pixels", [10, 47, 500])
def test_any_scroll_up_detaches(chat: Chat, long: Stream, pixels: int) -> None:
    chat.scroll(chat.top() - pixels)
    before = chat.top()
    expect(chat.button("Jump to latest")).to_be_visible()
    grow(chat, long, "second")
    assert chat.top() == before


def test_a_wheel_up_detaches_before_anything_has_moved(chat: Chat, long: Stream) -> None:
    """Else an answer that grows at the same moment would pull the reader back."""
    chat.scroller.evaluate("box => box.dispatchEvent(new WheelEvent('wheel', { deltaY: -30 }))")
    expect(chat.button("Jump to latest")).to_be_visible()
    grow(chat, long, "second")
    assert chat.rest() > 1000


@pytest.mark.parametrize("how", ["button", "scroll"])
def test_the_end_is_followed_again(chat: Chat, long: Stream, how: str) -> None:
    back: dict[str, Callable[[], object]] = {
        "button": chat.button("Jump to latest").click,
        "scroll": lambda: chat.scroll(chat.top() + chat.rest() - 40),
    }
    chat.scroll(chat.top() - 400)
    back[how]()
    expect(chat.button("Jump to latest")).to_have_count(0)
    grow(chat, long, "third")
    until(lambda: chat.rest() < 1, "the new end is shown")


def test_49_pixels_from_the_end_is_not_the_end(chat: Chat, long: Stream) -> None:
    chat.scroll(chat.top() - 400)
    chat.scroll(chat.top() + chat.rest() - 60)
    expect(chat.button("Jump to latest")).to_be_visible()


def test_a_new_question_goes_to_the_end(chat: Chat, long: Stream) -> None:
    long.end()
    expect(chat.answer).to_have_attribute("aria-busy", "false")
    chat.scroll(0)
    chat.ask("next")
    until(lambda: chat.rest() < 1, "the end is shown")
