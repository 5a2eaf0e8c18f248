"""Nothing that an answer says runs or leaves the page: whole, and cut at every byte."""

import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.runtime_process import until
from tests.web import tools
from tests.web.backend import Refusal, Stream, whole
from tests.web.browser import BrowserContext, Chat, expect, visit
from tests.web.conftest import Site
from tests.web.payloads import payloads

FULL = os.environ.get("CHATBOT_WEB") == "full"
"""Every payload cut at every place; else a seeded share of them."""
SHARE = 24

QUICK = "const real = setTimeout; window.setTimeout = (act, ms, ...rest) => real(act, ms === 66 ? 0 : ms, ...rest);"
"""The page draws at once what it would collect for 66 ms."""

DRAW_ALL = """
async texts => {
  // Answers come from a stream of our own making, all in one page. Each is a list of pieces; every one is drawn.
  const real = window.fetch;
  const bytes = text => new TextEncoder().encode(text);
  const chunk = content => JSON.stringify({ model: 'm', choices: [{ delta: { content } }] });
  const turn = () => new Promise(done => setTimeout(done, 0));
  const last = () => [...document.querySelectorAll('article.answer')].at(-1);
  const BAD = 'script, img, iframe, object, embed, video, audio, link, style, form, input, base, meta, ' +
    'svg:not(.icon), [style]:not([style^="text-align"]), [onload], [onerror], [onclick], [srcset], [ping], [autofocus]';
  let draws = 0;
  const drawn = [];
  const check = parts => {
    const bad = last()?.querySelector(BAD);
    if (bad) throw new Error(`${JSON.stringify(parts)} became ${bad.outerHTML}`);
    for (const link of last()?.querySelectorAll('a') ?? []) {
      if (!/^(https?:|mailto:)/.test(link.href) || link.rel !== 'noopener noreferrer nofollow')
        throw new Error(`${JSON.stringify(parts)} became ${link.outerHTML}`);
    }
  };
  new MutationObserver(() => (draws += 1)).observe(document.querySelector('.column'),
    { subtree: true, childList: true, characterData: true });
  for (const parts of texts) {
    draws = 0;
    window.fetch = (path, options) => {
      if (path !== '/v1/chat/completions') return real(path, options);
      const body = new ReadableStream({
        async start(out) {
          for (const part of parts) {
            out.enqueue(typeof part === 'string' ? bytes(`data: ${chunk(part)}\\n\\n`) : Uint8Array.from(part));
            if (parts.length > 1) {
              for (let n = 0; n < 2; n += 1) await turn();
              check(parts);
            }
          }
          if (typeof parts[0] === 'string') out.enqueue(bytes('data: [DONE]\\n\\n'));
          out.close();
        },
      });
      return Promise.resolve(new Response(body, { headers: { 'content-type': 'text/event-stream' } }));
    };
    [...last().querySelectorAll('button')].find(button => button.textContent === 'Retry').click();
    do await turn(); while (last().getAttribute('aria-busy') !== 'false');
    check(parts);
    if (/\\w/.test(parts.join('')) && !last().querySelector('.prose')?.textContent)
      throw new Error(`${JSON.stringify(parts)} is lost`);
    drawn.push(draws);
  }
  window.fetch = real;
  return drawn;
}
"""

CONTROL = list("eachletterchangeswhatisshown")

reached: list[str] = []
"""Requests that left for anywhere else."""


@pytest.fixture
def guarded(site: Site, context: BrowserContext, troubles: list[str]) -> Chat:
    """The page with one answer; every request to anywhere else is noted and ended."""

    def note(route: Any) -> None:
        reached.append(route.request.url)
        route.abort()

    reached.clear()
    context.route(re.compile(r"^(?!http://127\.0\.0\.1)"), note)
    context.add_init_script(QUICK)
    chat = visit(context, site.url, troubles)
    chat.ask("go")
    return chat


def draw(chat: Chat, texts: list[list[str]] | list[list[list[int]]]) -> None:
    """Draws all, and looks whether anything ran or left."""
    chat.page.on("dialog", lambda dialog: dialog.dismiss())
    draws = chat.page.evaluate(DRAW_ALL, [CONTROL, *texts])
    assert len(draws) == len(texts) + 1
    assert draws[0] >= len(CONTROL), "not every piece is drawn"
    state = chat.page.evaluate("[window.ran, location.pathname, document.querySelectorAll('base').length]")
    assert state == [None, "/", 0]
    assert reached == []


def test_there_are_enough_payloads() -> None:
    assert len(payloads()) >= 200


def test_no_payload_runs_or_leaves(guarded: Chat) -> None:
    draw(guarded, [[text] for text in payloads()])


def test_no_payload_runs_or_leaves_while_it_streams(guarded: Chat) -> None:
    """Character by character, each drawn: so every first part of every payload is an unfinished answer once."""
    chosen = payloads() if FULL else random.Random(7).sample(payloads(), SHARE)
    draw(guarded, [list(text) for text in chosen])


def test_no_payload_runs_or_leaves_when_it_is_cut_off(guarded: Chat) -> None:
    """Every first part is a finished answer once."""
    every = list(dict.fromkeys(text[:end] for text in payloads() for end in range(1, len(text))))
    chosen = every if FULL else random.Random(8).sample(every, 30 * SHARE)
    draw(guarded, [[text] for text in chosen])


def test_bytes_of_the_stream_may_be_cut_anywhere(guarded: Chat) -> None:
    """Also inside of a character, an escape, the word `data` and the end of an event."""
    text = payloads()[0] + " – ＜é\U0001f600>"
    event = b'data: {"model":"m","choices":[{"delta":{"content":"%s"}}]}\n\ndata: [DONE]\n\n' % text.encode()
    draw(guarded, [[list(event[:at]), list(event[at:])] for at in range(1, len(event))])
    expect(guarded.text).to_have_text(text)
    expect(guarded.failures).to_have_count(0)


def test_html_that_got_in_would_meet_the_content_policy(guarded: Chat, troubles: list[str]) -> None:
    guarded.page.evaluate(
        """() => document.body.insertAdjacentHTML('beforeend',
            '<img src=https://evil.invalid/leak><img src=/x onerror=window.ran=1><p style="color:red">x</p>')"""
    )
    loaded = "performance.getEntriesByType('resource').some(entry => entry.name.endsWith('/x'))"
    until(lambda: guarded.page.evaluate(loaded), "the image was asked for")
    assert guarded.page.evaluate("window.ran") is None
    assert reached == []
    refused = [trouble for trouble in troubles if "Content Security Policy" in trouble]
    assert len(refused) == 3, troubles
    troubles.clear()


def test_these_tests_would_see_a_script_and_a_request(
    guarded: Chat,
) -> None:
    """The same without the policy, as a page that inserts HTML would be."""
    page = guarded.page.context.new_page()
    page.goto("about:blank")
    page.evaluate("document.body.innerHTML = '<img src=https://evil.invalid/leak onerror=window.ran=1>'")
    until(lambda: page.evaluate("window.ran"), "the script ran")
    assert reached == ["https://evil.invalid/leak"]


@pytest.mark.parametrize("where", ["title", "question", "model", "fallback", "error", "code"])
def test_no_other_text_is_html_either(site: Site, chat: Chat, where: str) -> None:
    evil = "<img src=x onerror=window.ran=1><script>window.ran=1</script>"
    answers: dict[str, Refusal | Stream] = {
        "model": whole("x", model=evil),
        "fallback": whole("x", fallback=evil),
        "error": Refusal(400, "x", evil),
        "code": Refusal(400, evil, "x"),
    }
    site.backend.plan.append(answers.get(where, whole("x")))
    chat.ask(evil if where in ("title", "question") else "hello")
    assert chat.page.locator("main img, main script, nav img").count() == 0
    assert chat.page.evaluate("window.ran") is None


def test_links_say_nothing_of_this_page_and_images_are_links(site: Site, chat: Chat) -> None:
    site.backend.plan.append(whole("[a](https://example.org/a) ![a *cat*](https://example.org/cat.png) [b](/local)"))
    chat.ask("hello")
    links = chat.text.get_by_role("link")
    expect(links).to_have_count(2)
    for link, name in ((links.first, "a"), (links.last, "Image: a cat")):
        expect(link).to_have_text(name)
        expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
        expect(link).to_have_attribute("target", "_blank")


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint(1)",
        "```\n",
        "````\n```\nx",
        "~~~js\nlet a\n```",
        "- a\n  ```js\n  x",
        "> ```\n> x",
        "`" * 3000,
    ],
)
def test_a_broken_fence_is_shown_and_the_chat_goes_on(site: Site, chat: Chat, text: str) -> None:
    site.backend.plan.append(whole(text))
    chat.ask("hello")
    expect(chat.text).to_be_visible()
    chat.ask("more")
    expect(chat.text).to_have_text("You said: more")


@pytest.mark.parametrize(
    "text", [">" * 20_000, "[" * 20_000, "- " * 5_000, "*a" * 20_000, "| " * 20_000 + "\n" + "|-" * 20_000]
)
def test_what_is_made_to_be_slow_does_not_stop_the_page(site: Site, chat: Chat, text: str) -> None:
    site.backend.plan.append(whole(text))
    chat.ask("hello")
    chat.ask("more")
    expect(chat.text).to_have_text("You said: more")


def test_the_code_inserts_no_html() -> None:
    sources = "\n".join(path.read_text() for path in Path(tools.WEB / "src").iterdir())
    for word in ("dangerouslySetInnerHTML", "innerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in sources, word
