"""Chats stay in the browser: kept, opened, deleted, exported, shared by tabs; also when storage will not."""

import json

from tests.support.runtime_process import until
from tests.web.backend import Stream, whole
from tests.web.browser import BrowserContext, Chat, expect, visit
from tests.web.conftest import Site


def test_chats_are_there_again_after_a_reload(chat: Chat) -> None:
    chat.ask("one")
    chat.button("New chat").click()
    chat.ask("two")
    chat.page.reload()
    expect(chat.text).to_have_text("You said: two")
    chat.page.get_by_role("button", name="one", exact=True).click()
    expect(chat.text).to_have_text("You said: one")
    assert all(key.startswith("chatbot/1/") for key in chat.page.evaluate("Object.keys(localStorage)"))


def test_what_is_not_sent_yet_survives_a_reload_in_each_chat(chat: Chat) -> None:
    chat.ask("one")
    chat.type("draft of one")
    chat.button("New chat").click()
    chat.type("draft of a new one")
    chat.page.reload()
    chat.page.get_by_role("button", name="one", exact=True).click()
    expect(chat.input).to_have_value("draft of one")
    chat.button("New chat").click()
    expect(chat.input).to_have_value("draft of a new one")


def test_an_edit_that_is_not_sent_yet_survives_a_reload(chat: Chat) -> None:
    chat.ask("one")
    chat.questions.first.get_by_role("button", name="Edit").click()
    chat.page.get_by_label("Edit message").fill("changed")
    chat.page.reload()
    chat.questions.first.get_by_role("button", name="Edit").click()
    expect(chat.page.get_by_label("Edit message")).to_have_value("changed")


def test_a_question_is_kept_before_its_answer_comes(site: Site, chat: Chat) -> None:
    stream = site.backend.next(Stream())
    chat.send("precious")
    stream.say("half")
    expect(chat.text).to_have_text("half")
    chat.page.reload()
    expect(chat.questions.first).to_contain_text("precious")
    expect(chat.text).to_have_text("half")
    expect(chat.failures).to_contain_text("closed before the answer was complete.")
    chat.failures.get_by_role("button", name="Retry").click()
    expect(chat.text).to_have_text("You said: precious")


def test_an_answer_goes_on_while_another_chat_is_read(site: Site, chat: Chat) -> None:
    stream = site.backend.next(Stream())
    chat.send("slow")
    stream.say("first ")
    expect(chat.text).to_have_text("first")
    chat.button("New chat").click()
    chat.ask("quick")
    stream.say("second").end()
    chat.page.get_by_role("button", name="slow", exact=True).click()
    expect(chat.text).to_have_text("first second")
    expect(chat.failures).to_have_count(0)


def test_a_chat_is_deleted_and_can_be_had_back(chat: Chat) -> None:
    chat.ask("one")
    chat.button("Delete “one”").click()
    expect(chat.questions).to_have_count(0)
    assert chat.stored() == []
    chat.button("Undo").click()
    expect(chat.text).to_have_text("You said: one")
    chat.button("Delete “one”").click()
    chat.page.reload()
    expect(chat.page.get_by_text("Your chats stay in this browser.")).to_be_visible()


def test_deleting_a_chat_ends_its_answer(site: Site, chat: Chat) -> None:
    stream = site.backend.next(Stream())
    chat.send("one")
    stream.say("half")
    expect(chat.text).to_have_text("half")
    chat.button("Delete “one”").click()
    expect(chat.questions).to_have_count(0)

    def gone() -> bool:
        stream.say("more")
        return stream.gone.is_set()

    until(gone, "the backend learns of it")
    assert chat.stored() == []


def test_a_chat_is_exported_whole(site: Site, chat: Chat) -> None:
    site.backend.plan.append(whole("# An answer\n\nwith `code`", model="owner/model"))
    chat.ask("What is: this / that?")
    chat.button("Export").click()
    with chat.page.expect_download() as markdown:
        chat.button("Markdown").click()
    assert markdown.value.suggested_filename == "What-is-this-that.md"
    text = markdown.value.path().read_text()
    assert text == (
        "# What is: this / that?\n\n## You\n\nWhat is: this / that?\n\n## owner/model\n\n# An answer\n\nwith `code`\n"
    )
    chat.button("Export").click()
    with chat.page.expect_download() as download:
        chat.button("JSON").click()
    exported = json.loads(download.value.path().read_text())
    assert [message["content"] for message in exported["messages"]] == [
        "What is: this / that?",
        "# An answer\n\nwith `code`",
    ]
    assert exported["messages"][1]["model"] == "owner/model"


def test_only_the_newest_hundred_messages_are_sent(site: Site, chat: Chat) -> None:
    chat.ask("0")
    chat.page.evaluate(
        """() => {
            const key = Object.keys(localStorage).find(key => key.includes('/chat/'));
            const chat = JSON.parse(localStorage[key]);
            chat.messages = Array.from({ length: 200 }, (_, n) => ({
                id: `m${n}`, role: n % 2 ? 'assistant' : 'user', content: `number ${n}`, at: n, state: 'complete' }));
            localStorage[key] = JSON.stringify(chat);
        }"""
    )
    chat.page.reload()
    expect(chat.questions).to_have_count(100)
    chat.ask("the last")
    sent = [message["content"] for message in site.backend.asked[-1].body["messages"]]
    assert len(sent) == 100
    assert sent[0] == "number 101"
    assert sent[-1] == "the last"


def test_two_tabs_with_two_chats_keep_both(
    site: Site, context: BrowserContext, chat: Chat, troubles: list[str]
) -> None:
    other = visit(context, site.url, troubles)
    chat.ask("mine")
    other.ask("yours")
    for tab in (chat, other):
        expect(tab.page.locator(".entry")).to_have_count(2)
    chat.page.reload()
    expect(chat.text).to_have_text("You said: mine")


def test_a_tab_shows_what_another_adds_to_the_same_chat(
    site: Site, context: BrowserContext, chat: Chat, troubles: list[str]
) -> None:
    chat.ask("one")
    other = visit(context, site.url, troubles)
    other.page.get_by_role("button", name="one", exact=True).click()
    chat.type("a draft")
    other.ask("two")
    expect(chat.text).to_have_text("You said: two")
    expect(chat.input).to_have_value("a draft")
    chat.ask("three")
    expect(other.text).to_have_text("You said: three")
    expect(chat.page.locator(".entry")).to_have_count(1)


def test_two_tabs_that_answer_in_one_chat_lose_nothing(
    site: Site, context: BrowserContext, chat: Chat, troubles: list[str]
) -> None:
    chat.ask("one")
    other = visit(context, site.url, troubles)
    other.page.get_by_role("button", name="one", exact=True).click()
    expect(other.questions).to_have_count(1)
    stream = site.backend.next(Stream())
    chat.send("in the first tab")
    stream.say("half")
    expect(other.questions).to_have_count(2)
    other.ask("in the second tab")
    stream.say(" whole").end()
    expect(chat.text).to_have_text("half whole")
    expect(chat.notice("This chat was changed in another tab.")).to_be_visible()
    expect(other.text).to_have_text("You said: in the second tab")
    chat.page.reload()
    expect(chat.page.locator(".entry")).to_have_count(2)
    kept = "\n".join(chat.stored())
    for text in ("in the first tab", "half whole", "in the second tab"):
        assert text in kept


def test_a_chat_that_another_tab_deletes_goes_here_too(
    site: Site, context: BrowserContext, chat: Chat, troubles: list[str]
) -> None:
    chat.ask("one")
    other = visit(context, site.url, troubles)
    other.button("Delete “one”").click()
    expect(chat.questions).to_have_count(0)
    expect(chat.page.locator(".entry")).to_have_count(0)


def test_full_storage_is_said_and_the_chat_goes_on(chat: Chat) -> None:
    fill = """() => {
        for (let size = 2 ** 22; size >= 1; size /= 2)
            try { for (let n = 0; ; n += 1) localStorage.setItem(`fill${size}-${n}`, 'x'.repeat(size)); } catch { }
    }"""
    chat.page.evaluate(fill)
    chat.ask("hello")
    expect(chat.text).to_have_text("You said: hello")
    notice = chat.notice("The browser’s storage is full")
    expect(notice).to_be_visible()
    assert chat.stored() == []
    chat.page.evaluate(
        "Object.keys(localStorage).filter(k => k.startsWith('fill')).forEach(k => delete localStorage[k])"
    )
    notice.get_by_role("button", name="Try again").click()
    expect(notice).to_have_count(0)
    chat.page.reload()
    expect(chat.text).to_have_text("You said: hello")


def test_forbidden_storage_is_said_and_the_chat_goes_on(
    site: Site, context: BrowserContext, troubles: list[str]
) -> None:
    forbid = """for (const name of ['localStorage', 'sessionStorage'])
        Object.defineProperty(window, name, { get() { throw new DOMException('no', 'SecurityError'); } });"""
    context.add_init_script(forbid)
    chat = visit(context, site.url, troubles)
    chat.ask("one")
    chat.ask("two")
    expect(chat.text).to_have_text("You said: two")
    expect(chat.notice("This browser does not keep chats")).to_be_visible()
    chat.button("New chat").click()
    chat.page.get_by_role("button", name="one", exact=True).click()
    expect(chat.text).to_have_text("You said: two")


def test_damaged_storage_does_not_break_the_page(site: Site, chat: Chat) -> None:
    chat.ask("one")
    chat.page.evaluate(
        """() => {
            localStorage['chatbot/1/entry/a'] = '{';
            localStorage['chatbot/1/entry/b'] = 'null';
            localStorage['chatbot/1/entry/c'] = '{"id":"c","title":"damaged","updated":9e15}';
            localStorage['chatbot/1/chat/c'] = '{"id":"c","messages":[null,1,{"id":"x"}]}';
        }"""
    )
    chat.page.reload()
    expect(chat.text).to_have_text("You said: one")
    chat.page.get_by_role("button", name="damaged", exact=True).click()
    chat.ask("fine")


def test_a_message_of_256_kib_is_sent_shown_and_kept(site: Site, chat: Chat) -> None:
    large = "0123456789abcde\n" * (256 * 64)
    chat.page.evaluate("text => navigator.clipboard.writeText(text)", large)
    chat.input.press("ControlOrMeta+V")
    chat.input.press("Enter")
    assert site.backend.wait_asked(1).last == large
    expect(chat.answer).to_have_attribute("aria-busy", "false")
    chat.button("Show all").first.click()
    shown = chat.questions.first.locator(".said").evaluate("element => element.textContent.length")
    assert shown == len(large)
    chat.page.reload()
    expect(chat.questions).to_have_count(1)
