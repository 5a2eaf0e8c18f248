"""Fixtures of the page's and nginx's tests: the built page, nginx, a backend to drive, Chromium."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.runtime_process import FAST, RuntimeProcess
from tests.web import tools

tools.need_playwright()

from chatbot_operator.desired.nginx import Page as PageConfig  # noqa: E402
from tests.web.backend import Backend  # noqa: E402
from tests.web.browser import Browser, BrowserContext, Chat, ViewportSize, chromium, visit  # noqa: E402
from tests.web.nginx_process import Nginx  # noqa: E402

WIDE: ViewportSize = {"width": 1200, "height": 800}


@dataclass
class Site:
    """nginx with the page, before a backend that a test drives."""

    nginx: Nginx
    backend: Backend

    @property
    def url(self) -> str:
        """Where the page is."""
        return self.nginx.url


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def site() -> Iterator[Site]:
    """A site of the test's own."""
    with Backend() as backend, Nginx(backend.port) as nginx:
        yield Site(nginx, backend)


@pytest.fixture
def troubles() -> Iterator[list[str]]:
    """What no page may do; the test fails if one did."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def context(browser: Browser, troubles: list[str]) -> Iterator[BrowserContext]:
    """A browser without memory."""
    context = browser.new_context(viewport=WIDE, permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def chat(site: Site, context: BrowserContext, troubles: list[str]) -> Chat:
    """The page of the driven site."""
    return visit(context, site.url, troubles)


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """The real runtime in phase mock."""
    settings = tmp_path_factory.mktemp("runtime") / "settings.json"
    settings.write_text(json.dumps(FAST))
    with RuntimeProcess(settings_file=settings) as process:
        yield process


@pytest.fixture(scope="session")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """The real runtime with a provider that does what the question says."""
    settings = tmp_path_factory.mktemp("scripted") / "settings.json"
    settings.write_text(json.dumps(FAST))
    with RuntimeProcess("tests.support.runtime_scripted", settings_file=settings, heartbeat_seconds=0.3) as process:
        yield process


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Nginx]]:
    """Starts nginx before a port; further arguments are its settings."""
    started: list[Nginx] = []

    def start(port: int, page: PageConfig | None = None, **settings: Any) -> Nginx:
        nginx = Nginx(port, page, **settings).__enter__()
        started.append(nginx)
        return nginx

    yield start
    for nginx in started:
        nginx.__exit__(None, None, None)
