"""Several models, and chatbots that ask for an API key."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from chatbot_operator.desired.nginx import Page
from tests.support.runtime_process import FAST, RuntimeProcess
from tests.web.browser import BrowserContext, Chat, expect, visit
from tests.web.conftest import Site
from tests.web.nginx_process import Nginx

KEY = "sk-test-0123456789"


@pytest.fixture
def locked(site: Site, context: BrowserContext, troubles: list[str]) -> Chat:
    """The page of a chatbot that asks for a key."""
    site.backend.key = KEY
    site.nginx.tell(Page(chatbot="demo", access="APIKey", suggestions=("Suggested",)))
    return visit(context, site.url, troubles)


def give(chat: Chat, key: str) -> None:
    """Types a key."""
    chat.page.get_by_label("API key").fill(key)
    chat.button("Continue").click()


def test_one_model_makes_no_menu(site: Site, chat: Chat) -> None:
    chat.ask("hello")
    expect(chat.page.get_by_label("Model")).to_have_count(0)
    assert site.backend.asked[0].body["model"] == ""


def test_several_models_make_a_menu_and_the_choice_stays_with_the_chat(
    site: Site, context: BrowserContext, troubles: list[str]
) -> None:
    site.backend.models = ["large", "small"]
    chat = visit(context, site.url, troubles)
    menu = chat.page.get_by_label("Model")
    expect(menu).to_have_value("large")
    menu.select_option("small")
    chat.ask("one")
    assert site.backend.asked[0].body["model"] == "small"
    chat.page.reload()
    expect(menu).to_have_value("small")
    chat.ask("two")
    assert site.backend.asked[1].body["model"] == "small"
    chat.button("New chat").click()
    menu.select_option("large")
    chat.ask("three")
    chat.page.get_by_role("button", name="one", exact=True).click()
    expect(menu).to_have_value("small")


def test_a_model_that_is_gone_gives_way_to_the_default(
    site: Site, context: BrowserContext, troubles: list[str]
) -> None:
    site.backend.models = ["large", "small"]
    chat = visit(context, site.url, troubles)
    chat.page.get_by_label("Model").select_option("small")
    chat.ask("one")
    site.backend.models = ["large", "other"]
    chat.page.reload()
    expect(chat.page.get_by_label("Model")).to_have_value("large")
    chat.ask("two")
    assert site.backend.asked[1].body["model"] == ""


def test_the_key_is_asked_for_once_and_kept_for_the_tab_only(site: Site, locked: Chat) -> None:
    expect(locked.page.get_by_role("heading", name="This chatbot asks for an API key")).to_be_visible()
    expect(locked.input).to_be_hidden()
    give(locked, f" {KEY} ")
    expect(locked.input).to_be_visible()
    locked.ask("hello")
    assert site.backend.asked[0].headers["authorization"] == f"Bearer {KEY}"
    locked.page.reload()
    locked.ask("again")
    expect(locked.page.get_by_label("API key")).to_have_count(0)
    kept = locked.page.evaluate("[JSON.stringify(localStorage), JSON.stringify(sessionStorage), location.href]")
    assert KEY not in kept[0]
    assert KEY in kept[1]
    assert KEY not in kept[2]
    assert not [line for line in site.backend.lines if KEY in line], "the key was in an address"
    assert KEY not in site.nginx.log.read_text()


def test_another_tab_asks_for_the_key_again(
    site: Site, locked: Chat, context: BrowserContext, troubles: list[str]
) -> None:
    give(locked, KEY)
    expect(locked.input).to_be_visible()
    other = visit(context, site.url, troubles)
    expect(other.page.get_by_label("API key")).to_be_visible()


def test_a_wrong_key_is_said_to_be_wrong_and_the_right_one_goes_on(locked: Chat) -> None:
    give(locked, "sk-wrong")
    expect(locked.page.get_by_role("alert")).to_have_text("This key was not accepted. Check it and try again.")
    expect(locked.input).to_be_hidden()
    give(locked, KEY)
    locked.ask("hello")


def test_suggestions_wait_for_the_key(locked: Chat) -> None:
    expect(locked.button("Suggested")).to_be_disabled()
    give(locked, KEY)
    locked.button("Suggested").click()
    expect(locked.text).to_have_text("You said: Suggested")


def test_a_key_that_is_revoked_is_asked_for_again_and_nothing_is_lost(site: Site, locked: Chat) -> None:
    give(locked, KEY)
    locked.ask("one")
    site.backend.key = "sk-other"
    locked.send("two")
    expect(locked.failures).to_contain_text("The API key is missing or wrong.")
    expect(locked.page.get_by_role("alert")).to_contain_text("not accepted")
    give(locked, "sk-other")
    locked.failures.get_by_role("button", name="Retry").click()
    expect(locked.text).to_have_text("You said: two")


def test_a_key_can_be_forgotten(locked: Chat) -> None:
    give(locked, KEY)
    locked.ask("one")
    locked.button("Forget API key").click()
    expect(locked.page.get_by_label("API key")).to_be_visible()
    assert KEY not in locked.page.evaluate("JSON.stringify(sessionStorage)")


def test_a_page_that_was_not_told_of_the_key_asks_all_the_same(
    site: Site, context: BrowserContext, troubles: list[str]
) -> None:
    site.backend.key = KEY
    chat = visit(context, site.url, troubles)
    give(chat, KEY)
    chat.ask("hello")


def test_the_real_runtime_with_keys(
    serve: Callable[..., Nginx], context: BrowserContext, troubles: list[str], tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "someone").write_text(KEY)
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({**FAST, "access": {"mode": "APIKey"}}))
    with RuntimeProcess(settings_file=settings, keys_dir=keys) as runtime:
        nginx = serve(runtime.port, Page(chatbot="demo", access="APIKey"))
        chat = visit(context, nginx.url, troubles)
        give(chat, "sk-wrong")
        expect(chat.page.get_by_role("alert")).to_contain_text("not accepted")
        give(chat, KEY)
        chat.ask("hello")
        expect(chat.answer.locator(".model")).to_have_text("mock")
