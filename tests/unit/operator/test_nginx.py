"""nginx.conf and config.json as text. What nginx makes of them is tested with the real one in tests/web."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chatbot_operator.desired.deployment import USER
from chatbot_operator.desired.nginx import Page, WebServer, nginx_conf, page_text
from chatbot_operator.desired.service import HTTP_PORT
from chatbot_operator.settings import Settings
from chatbot_runtime.config import Config

SERVER = WebServer(backend_host="demo-backend")
HOSTILE = [
    "a b", "a;", "a}", "a{", "$host", "a\nb", "a\n", "'", '"', "\\", "#", "a/b",
    "", ".a", "a.", "-a", "é", "a\x00", "@x",
    "../etc", "//", "/", "/a/", "/a b", "/a;", "/$a", "/a\n", "/a'", "x" * 300,
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("field", ["backend_host", "listen_host", "page_dir", "config_dir", "scratch_dir"])
def test_no_setting_can_hold_nginxs_own_signs(field: str, text: str) -> None:
    if field == "listen_host" and text == "":
        return
    with pytest.raises(ValidationError):
        WebServer(**({"backend_host": "demo"} | {field: text}))


@pytest.mark.parametrize(
    ("field", "value"),
    [("backend_port", 0), ("listen_port", 70_000), ("max_body_bytes", -1), ("read_seconds", 0), ("max_requests", 0)],
)
def test_numbers_have_bounds(field: str, value: int) -> None:
    with pytest.raises(ValidationError):
        WebServer(**({"backend_host": "demo"} | {field: value}))


def test_the_defaults_fit_the_runtimes() -> None:
    runtime, operator = Config(), Settings()
    assert SERVER.backend_port == HTTP_PORT
    assert SERVER.max_body_bytes == runtime.max_body_bytes
    assert SERVER.read_seconds > runtime.request_seconds
    assert SERVER.reuse_seconds < min(runtime.idle_seconds, operator.pre_stop_seconds)
    assert SERVER.send_seconds >= runtime.write_seconds
    assert Page(chatbot="demo").heartbeat_seconds == runtime.heartbeat_seconds
    assert USER != 10101, "the web pod's user is the image's own, not the runtime's"


def test_every_setting_shows_in_the_configuration() -> None:
    changed: dict[str, Any] = {
        "backend_host": "other", "backend_port": 81, "listen_host": "127.0.0.9", "listen_port": 82, "page_dir": "/p",
        "config_dir": "/c", "scratch_dir": "/s", "max_body_bytes": 4321, "read_seconds": 43, "reuse_seconds": 44,
        "header_seconds": 45, "body_seconds": 46, "send_seconds": 47, "workers": 7, "max_requests": 48,
        "max_requests_per_address": 49, "backend_is_replaced": True,
    }  # fmt: skip
    assert set(changed) == set(WebServer.model_fields)
    for field, value in changed.items():
        assert nginx_conf(SERVER.model_copy(update={field: value})) != nginx_conf(SERVER), field


def test_no_mark_of_the_template_is_left() -> None:
    assert not re.search(r"@\w", nginx_conf(SERVER))
    assert "@" not in nginx_conf(SERVER)


def test_equal_settings_give_equal_text() -> None:
    assert nginx_conf(SERVER) == nginx_conf(WebServer(backend_host="demo-backend"))


def test_headers_stand_at_server_level_only() -> None:
    lines = [line for line in nginx_conf(SERVER).splitlines() if line.strip().startswith("add_header")]
    assert len(lines) == 10
    assert {len(line) - len(line.lstrip()) for line in lines} == {4}


@given(st.text(max_size=200), st.text(max_size=1000), st.lists(st.text(min_size=1, max_size=200), max_size=6))
def test_texts_of_people_come_through_as_they_are(title: str, greeting: str, suggestions: list[str]) -> None:
    page = Page(chatbot="demo", title=title, greeting=greeting, suggestions=tuple(suggestions))
    assert json.loads(page_text(page)) == {
        "chatbot": "demo",
        "title": title,
        "greeting": greeting,
        "suggestions": suggestions,
        "access": "Anonymous",
        "suspended": False,
        "heartbeatSeconds": 10,
    }
