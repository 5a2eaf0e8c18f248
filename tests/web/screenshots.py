"""Takes the pictures in docs/images anew, of the page as it is: `python -m tests.web.screenshots`."""

from pathlib import Path
from typing import Any

from chatbot_operator.desired.nginx import Page
from tests.support.runtime_process import until
from tests.web import tools

tools.need_playwright()

from tests.web.backend import READY, Backend, Refusal, whole  # noqa: E402
from tests.web.browser import Browser, Chat, chromium, expect  # noqa: E402
from tests.web.nginx_process import Nginx  # noqa: E402

FOLDER = tools.ROOT / "docs" / "images"
MOST_BYTES = 150_000
MODEL = "Qwen/Qwen3-4B-Instruct-2507"
QUESTION = "Write a Python function that merges two sorted lists"
ANSWER = '''Merge them with two cursors: compare the heads, take the smaller, move on. \
Every element is looked at once, so it takes **O(n + m)**.

```python
def merge(a: list[int], b: list[int]) -> list[int]:
    """Both are sorted; so is the result."""
    merged, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if a[i] <= b[j]:
            merged.append(a[i]); i += 1
        else:
            merged.append(b[j]); j += 1
    return merged + a[i:] + b[j:]
```

Two things worth knowing:

1. `<=` keeps equal elements in their order, so the merge is *stable*.
2. For iterators, `heapq.merge` does the same and holds one element of each.
'''
CANNED = "This is a canned answer: the hosted model cannot be reached at the moment. Please ask again later."
PAGE = Page(
    chatbot="atlas",
    title="Atlas",
    greeting="Good afternoon.\nWhat are we working on?",
    suggestions=("What can you do?", QUESTION, "Compare three ways to store time series"),
)


def open_chat(browser: Browser, url: str, **options: Any) -> Chat:
    """A page of its own."""
    page = browser.new_context(**options).new_page()
    page.goto(url)
    expect(page.get_by_label("Model")).to_be_visible()
    return Chat(page)


def take(chat: Chat, name: str) -> None:
    """Writes one picture."""
    chat.page.mouse.move(700, 5)
    path = FOLDER / f"{name}.png"
    chat.page.screenshot(path=path)
    assert path.stat().st_size < MOST_BYTES, f"{path} has {path.stat().st_size} bytes"
    print(f"{path.relative_to(Path.cwd())} {path.stat().st_size}")


def earlier(chat: Chat, backend: Backend, *questions: str) -> None:
    """Chats of before."""
    for question in questions:
        backend.plan.append(whole("Gladly.", model=MODEL))
        chat.ask(question)
        chat.button("New chat").click()


def main() -> None:
    """All of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with Backend() as backend, Nginx(backend.port, PAGE) as nginx, chromium() as browser:
        backend.models = [MODEL, "meta-llama/Llama-3.3-70B-Instruct"]
        wide = {"width": 1180, "height": 760}
        chat = open_chat(browser, nginx.url, viewport=wide, color_scheme="light")
        earlier(chat, backend, "A short note to my team about Friday", "Compare three ways to store time series")
        backend.plan.append(whole(ANSWER, model=MODEL))
        chat.ask(QUESTION)
        expect(chat.page.locator("pre .hljs-keyword").first).to_be_visible()
        chat.scroll(0)
        take(chat, "chat")

        chat = open_chat(browser, nginx.url, viewport=wide, color_scheme="dark")
        earlier(chat, backend, "A short note to my team about Friday")
        backend.plan.append(whole(CANNED, model="mock", fallback="RateLimited"))
        chat.ask("What changed in the last release?")
        numbers = {"completedBytes": 1_840_000_000, "totalBytes": 4_300_000_000, "bytesPerSecond": 31_000_000}
        backend.status = READY | {"phase": "local", "download": {"percent": 42.8, "secondsLeft": 79, **numbers}}
        refusal = Refusal(503, "model_not_ready", "The model is not ready yet.", {"retry-after": "20"})
        backend.plan.append(refusal)
        chat.send("And who works on the next one?")
        expect(chat.failures).to_be_visible()
        expect(chat.notice("downloaded")).to_be_visible()
        take(chat, "states-dark")

        backend.status = dict(READY)
        chat = open_chat(browser, nginx.url, viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True)
        until(lambda: chat.button(QUESTION).is_visible(), "the suggestions are there")
        take(chat, "mobile")


if __name__ == "__main__":
    main()
