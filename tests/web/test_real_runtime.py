"""Page, nginx and the real runtime together: what the driven backend says elsewhere is what the runtime says."""

from collections.abc import Callable

import pytest

from tests.support.runtime_process import RuntimeProcess, until
from tests.web.browser import BrowserContext, Chat, expect, visit
from tests.web.nginx_process import Nginx


@pytest.fixture
def mock(serve: Callable[..., Nginx], runtime: RuntimeProcess, context: BrowserContext, troubles: list[str]) -> Chat:
    """The page before the runtime in phase mock."""
    return visit(context, serve(runtime.port).url, troubles)


@pytest.fixture
def script(serve: Callable[..., Nginx], scripted: RuntimeProcess, context: BrowserContext, troubles: list[str]) -> Chat:
    """The page before the runtime that does what it is told."""
    return visit(context, serve(scripted.port).url, troubles)


def test_a_conversation_with_the_mock(mock: Chat) -> None:
    mock.ask("Hello! Who are you?")
    expect(mock.answer.locator(".model")).to_have_text("mock")
    expect(mock.text.locator(".plain")).to_have_count(0)
    first = mock.text.inner_text()
    assert len(first) > 20
    mock.answer.get_by_role("button", name="Retry").click()
    expect(mock.text).to_have_text(first)
    mock.ask("And now?")
    expect(mock.answers).to_have_count(2)
    expect(mock.failures).to_have_count(0)


def test_what_the_runtime_refuses_is_said_in_its_words(mock: Chat) -> None:
    mock.page.evaluate("text => navigator.clipboard.writeText(text)", "x" * 4_300_000)
    mock.input.press("ControlOrMeta+V")
    mock.input.press("Enter")
    expect(mock.failures).to_contain_text("The body is larger than 4194304 bytes: send less.")
    expect(mock.questions.first.get_by_role("button", name="Show all")).to_be_visible()


def test_several_models_and_what_each_says(script: Chat) -> None:
    script.page.get_by_label("Model").select_option("second")
    script.ask("say one; say  two")
    expect(script.text).to_have_text("one two")
    expect(script.answer.locator(".model")).to_have_text("second")


def test_a_stand_in_of_the_runtime(script: Chat) -> None:
    script.ask("fallback RateLimited; say canned")
    expect(script.answer.locator(".badge")).to_have_text("Stand-in answer: the provider’s limit is reached")
    expect(script.answer.locator(".model")).to_have_text("mock")


def test_a_stand_in_that_is_known_only_after_the_headers(script: Chat) -> None:
    script.ask("wait 0.5; fallback EngineDown; say canned")
    expect(script.answer.locator(".badge")).to_have_text("Stand-in answer: the engine is down")


def test_a_failure_before_the_first_word(script: Chat) -> None:
    script.send("fail ModelNotReady")
    expect(script.failures).to_contain_text("the provider is away")
    expect(script.failures.get_by_role("button")).to_contain_text("Retry in")


@pytest.mark.parametrize(
    ("steps", "message"),
    [("fail ProviderUnavailable", "the provider is away"), ("end", "broke off before its end"), ("crash", "")],
)
def test_a_failure_in_the_middle(script: Chat, steps: str, message: str) -> None:
    script.send(f"say half; {steps}")
    expect(script.failures).to_contain_text(message)
    expect(script.text).to_have_text("half")
    expect(script.failures.locator("code")).to_be_visible()
    expect(script.failures).not_to_contain_text("secret detail")


def test_a_stop_reaches_the_provider(script: Chat, scripted: RuntimeProcess) -> None:
    before = len(scripted.logged("aborted"))
    script.send("say half; wait 60; say never")
    expect(script.text).to_have_text("half")
    script.button("Stop").click()
    expect(script.answer.locator(".note")).to_have_text("Stopped")
    until(lambda: len(scripted.logged("aborted")) > before, "the provider was stopped")


def test_the_id_on_a_failure_is_the_one_in_the_runtimes_log(script: Chat, scripted: RuntimeProcess) -> None:
    script.send("fail AccessDenied")
    identity = script.failures.locator("code").inner_text()
    assert scripted.request_log(identity)["error"] == "access_denied"
