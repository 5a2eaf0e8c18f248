"""A conversation: asking, streaming, stopping, asking again, editing, copying, the keyboard."""

import pytest

from chatbot_operator.desired.nginx import Page
from tests.web.backend import Stream, whole
from tests.web.browser import BrowserContext, Chat, expect, visit
from tests.web.conftest import Site

MARKDOWN = """# Title

A *word*, a **bold** one, ~~gone~~ and `code`.

| a | b |
|---|--:|
| 1 | 2 |

- [x] done
- [ ] open

1. one

2. two

```python
def add(a, b):
    return a + b
```

https://example.org/path
"""


def test_an_answer_appears_piece_by_piece_and_names_who_gave_it(site: Site, chat: Chat) -> None:
    stream = site.backend.next(Stream("who/answered"))
    chat.send("hello")
    expect(chat.answer.locator(".waiting")).to_be_visible()
    stream.say("one ")
    expect(chat.text).to_have_text("one")
    expect(chat.answer.locator(".model")).to_have_text("who/answered")
    stream.say("two").end()
    expect(chat.text).to_have_text("one two")
    expect(chat.answer).to_have_attribute("aria-busy", "false")
    asked = site.backend.asked[0]
    assert asked.body["messages"] == [{"role": "user", "content": "hello"}]
    assert asked.body["stream"] is True


def test_what_was_said_before_is_sent_along(site: Site, chat: Chat) -> None:
    site.backend.plan.append(whole("first answer"))
    chat.ask("one")
    chat.ask("two")
    assert site.backend.asked[1].body["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "first answer"},
        {"role": "user", "content": "two"},
    ]


@pytest.mark.parametrize("how", ["button", "escape"])
def test_an_answer_can_be_stopped_and_keeps_what_it_said(site: Site, chat: Chat, how: str) -> None:
    chat.type("text")
    send_at = chat.button("Send").bounding_box()
    stream = site.backend.next(Stream())
    chat.send("hello")
    stream.say("so far")
    expect(chat.text).to_have_text("so far")
    stop = chat.button("Stop")
    assert stop.bounding_box() == send_at
    if how == "button":
        stop.click()
    else:
        chat.input.press("Escape")
    expect(chat.answer.locator(".note")).to_have_text("Stopped")
    expect(chat.text).to_have_text("so far")
    expect(chat.button("Send")).to_be_visible()
    expect(chat.failures).to_have_count(0)
    stream.say_until_gone("more")


def test_what_is_typed_during_an_answer_stays(site: Site, chat: Chat) -> None:
    stream = site.backend.next(Stream())
    chat.send("hello")
    chat.send("the next question")
    expect(chat.input).to_have_value("the next question")
    stream.say("done").end()
    expect(chat.answer).to_have_attribute("aria-busy", "false")
    chat.input.press("Enter")
    expect(chat.text).to_have_text("You said: the next question")


def test_an_answer_can_be_asked_for_again(site: Site, chat: Chat) -> None:
    site.backend.plan.append(whole("first try"))
    site.backend.plan.append(whole("second try"))
    chat.ask("hello")
    chat.answer.get_by_role("button", name="Retry").click()
    expect(chat.text).to_have_text("second try")
    expect(chat.answers).to_have_count(1)
    assert site.backend.asked[1].body["messages"] == site.backend.asked[0].body["messages"]


def test_editing_a_question_removes_all_that_came_after_it(site: Site, chat: Chat) -> None:
    for question in ("one", "two", "three"):
        chat.ask(question)
    chat.questions.nth(1).get_by_role("button", name="Edit").click()
    editor = chat.page.get_by_label("Edit message")
    expect(editor).to_have_value("two")
    editor.fill("TWO")
    editor.press("Enter")
    expect(chat.text).to_have_text("You said: TWO")
    expect(chat.questions).to_have_count(2)
    expect(chat.answers).to_have_count(2)
    assert [m["content"] for m in site.backend.asked[-1].body["messages"]] == ["one", "You said: one", "TWO"]


def test_an_edit_can_be_given_up(chat: Chat) -> None:
    chat.ask("one")
    chat.questions.first.get_by_role("button", name="Edit").click()
    editor = chat.page.get_by_label("Edit message")
    editor.fill("changed")
    editor.press("Escape")
    expect(chat.questions.first.locator(".said")).to_have_text("one")
    expect(chat.answers).to_have_count(1)


def test_markdown_is_drawn_and_code_is_coloured(site: Site, chat: Chat) -> None:
    site.backend.plan.append(whole(MARKDOWN))
    chat.ask("show me")
    for selector in ("h1", "em", "strong", "del", "table td", "ol li", ".task"):
        expect(chat.text.locator(selector).first).to_be_visible()
    expect(chat.text.locator("ol")).to_have_count(1)
    expect(chat.text.locator("figcaption span").first).to_have_text("python")
    expect(chat.text.locator("pre .hljs-keyword").first).to_have_text("def")
    expect(chat.text.get_by_role("link", name="https://example.org/path")).to_be_visible()


def test_markdown_that_streams_never_shows_its_marks(site: Site, chat: Chat) -> None:
    stream = site.backend.next(Stream())
    chat.send("hello")
    stream.say("a **bold")
    expect(chat.text.locator("strong")).to_have_text("bold")
    stream.say("** word\n\n```js\nlet a")
    expect(chat.text.locator("pre")).to_have_text("let a")
    stream.say(" = 1;\n```\n\nthe end").end()
    expect(chat.text.locator("pre")).to_have_text("let a = 1;")
    expect(chat.text.locator("p").last).to_have_text("the end")


def test_message_and_code_are_copied(site: Site, chat: Chat) -> None:
    site.backend.plan.append(whole("see\n\n```sh\nls -l\n```"))
    chat.ask("how?")
    chat.answer.get_by_role("button", name="Copy code").click()
    expect(chat.answer.get_by_role("button", name="Copied")).to_be_visible()
    assert chat.page.evaluate("navigator.clipboard.readText()") == "ls -l"
    chat.answer.get_by_role("button", name="Copy", exact=True).click()
    expect(chat.answer.get_by_role("button", name="Copied")).to_have_count(2)
    assert chat.page.evaluate("navigator.clipboard.readText()") == "see\n\n```sh\nls -l\n```"


def test_copying_works_on_a_page_without_tls(chat: Chat) -> None:
    chat.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    chat.ask("plain")
    chat.answer.get_by_role("button", name="Copy").click()
    expect(chat.answer.get_by_role("button", name="Copied")).to_be_visible()
    chat.input.focus()
    chat.page.keyboard.press("ControlOrMeta+V")
    expect(chat.input).to_have_value("You said: plain")


def test_the_page_shows_title_greeting_and_suggestions(
    site: Site, context: BrowserContext, troubles: list[str]
) -> None:
    site.nginx.tell(Page(chatbot="demo", title="Ask <us>", greeting="Hello & welcome", suggestions=("What now?", "B")))
    chat = visit(context, site.url, troubles)
    expect(chat.page.get_by_text("Hello & welcome")).to_be_visible()
    expect(chat.page).to_have_title("Ask <us>")
    chat.button("What now?").click()
    expect(chat.text).to_have_text("You said: What now?")


def test_enter_sends_and_shift_enter_does_not(site: Site, chat: Chat) -> None:
    chat.type("one")
    chat.input.press("Shift+Enter")
    chat.page.keyboard.type("two")
    expect(chat.input).to_have_value("one\ntwo")
    chat.input.press("Enter")
    assert site.backend.wait_asked(1).last == "one\ntwo"
    expect(chat.input).to_have_value("")


def test_blank_text_is_not_sent(site: Site, chat: Chat) -> None:
    chat.send("  \n ")
    expect(chat.button("Send")).to_be_disabled()
    chat.ask("real")
    assert len(site.backend.asked) == 1


@pytest.mark.parametrize("event", ["isComposing: true", "keyCode: 229"])
def test_enter_that_ends_a_composition_does_not_send(site: Site, chat: Chat, event: str) -> None:
    chat.type("かな")
    chat.input.evaluate(
        f"""area => area.dispatchEvent(
            new KeyboardEvent('keydown', {{ key: 'Enter', bubbles: true, cancelable: true, {event} }}))"""
    )
    expect(chat.input).to_have_value("かな")
    chat.input.press("Enter")
    assert site.backend.wait_asked(1).last == "かな"
    assert len(site.backend.asked) == 1


def test_up_recalls_what_was_sent_and_down_comes_back(chat: Chat) -> None:
    for question in ("one", "two"):
        chat.ask(question)
    for key, value in (("ArrowUp", "two"), ("ArrowUp", "one"), ("ArrowDown", "two"), ("ArrowDown", "")):
        chat.input.press(key)
        expect(chat.input).to_have_value(value)


def test_up_never_replaces_what_is_being_written(chat: Chat) -> None:
    chat.ask("one")
    chat.type("new text")
    chat.input.press("ArrowUp")
    expect(chat.input).to_have_value("new text")


def test_slash_focuses_the_message_field_and_is_a_slash_in_it(chat: Chat) -> None:
    expect(chat.input).to_be_focused()
    chat.input.blur()
    chat.page.keyboard.press("/")
    expect(chat.input).to_be_focused()
    expect(chat.input).to_have_value("")
    chat.page.keyboard.type("a/b")
    expect(chat.input).to_have_value("a/b")


@pytest.mark.parametrize("modifier", ["Control", "Meta"])
def test_a_shortcut_opens_a_new_chat(chat: Chat, modifier: str) -> None:
    chat.ask("one")
    chat.page.keyboard.press(f"{modifier}+Shift+O")
    expect(chat.questions).to_have_count(0)
    expect(chat.input).to_be_focused()
    expect(chat.page.get_by_role("button", name="one", exact=True)).to_be_visible()


def test_alt_does_nothing(chat: Chat) -> None:
    chat.ask("one")
    chat.page.keyboard.press("Alt+Shift+O")
    chat.page.keyboard.press("Alt+/")
    expect(chat.questions).to_have_count(1)


def test_an_answer_that_reached_its_greatest_length_says_so(site: Site, chat: Chat) -> None:
    site.backend.plan.append(Stream().say("half a").end("length"))
    chat.ask("tell me all")
    expect(chat.answer.locator(".note")).to_have_text("The answer reached its greatest length.")


def test_an_empty_answer_is_said_to_be_empty(site: Site, chat: Chat) -> None:
    site.backend.plan.append(Stream().end())
    chat.ask("say nothing")
    expect(chat.answer.locator(".note")).to_have_text("The answer is empty.")
