"""Which addresses the administrator's list covers, hostile ones among them."""

import pytest
from yarl import URL

from chatbot_operator.endpoints import Endpoint, allowed, endpoint
from chatbot_runtime.network import is_allowed

LIST = ("router.example.com", "*.team.example.com", "vllm.models.svc:8000", "[2001:db8::1]", "10.0.0.7:443")

COVERED = [
    "https://router.example.com/v1",
    "https://router.example.com",
    "https://ROUTER.example.com/v1",
    "https://router.example.com./v1",
    "http://router.example.com:8080/v1",
    "https://a.team.example.com/v1",
    "https://a.b.team.example.com/v1",
    "http://vllm.models.svc:8000/v1",
    "https://[2001:db8::1]/v1",
    "https://10.0.0.7/v1",
]
NOT_COVERED = [
    "https://router.example.com.evil.example/v1",
    "https://evil.example/router.example.com",
    "https://evil.example/?router.example.com",
    "https://evil.example#router.example.com",
    "https://router.example.com@evil.example/v1",
    "https://router.example.com:pass@evil.example/v1",
    "https://evil-router.example.com/v1",
    "https://xrouter.example.com/v1",
    "https://team.example.com/v1",
    "https://evilteam.example.com/v1",
    "http://vllm.models.svc/v1",
    "http://vllm.models.svc:8001/v1",
    "https://10.0.0.7:8443/v1",
    "https://10.0.0.71/v1",
    "https://[2001:db8::2]/v1",
    "https://[::ffff:10.0.0.7]/v1",
    "https://167772167/v1",
    "https://0x0a000007/v1",
    "https://router.example.com\\@evil.example/v1",
    "https://router\u3002example.com/v1",
    "ftp://router.example.com/v1",
    "file:///router.example.com",
    "//router.example.com/v1",
    "router.example.com/v1",
    "https:///v1",
    "https://:443/v1",
    "https://router.example.com:99999/v1",
    "https://router.example.com:x/v1",
    "https://*.team.example.com.evil.example/v1",
    "",
]


@pytest.mark.parametrize("url", COVERED)
def test_an_address_that_the_list_covers(url: str) -> None:
    assert allowed(url, LIST)


@pytest.mark.parametrize("url", NOT_COVERED)
def test_an_address_that_the_list_does_not_cover(url: str) -> None:
    assert not allowed(url, LIST)


@pytest.mark.parametrize("url", [u for u in (*COVERED, *NOT_COVERED) if endpoint(u) and u.isascii()])
def test_operator_and_runtime_read_the_list_alike(url: str) -> None:
    """The runtime asks again before each request: what one lets through the other must not refuse."""
    try:
        parsed = URL(url)
    except ValueError:
        return  # the runtime does not even start with it
    assert is_allowed(parsed, LIST) == allowed(url, LIST)


def test_an_empty_list_covers_nothing() -> None:
    assert not any(allowed(url, ()) for url in COVERED)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/v1", Endpoint("a.example", 443)),
        ("http://a.example/v1", Endpoint("a.example", 80)),
        ("http://a.example:8000", Endpoint("a.example", 8000)),
        ("https://[2001:DB8::1]:8443/", Endpoint("2001:db8::1", 8443)),
        ("nonsense", None),
    ],
)
def test_host_and_port_of_an_address(url: str, expected: Endpoint | None) -> None:
    assert endpoint(url) == expected
