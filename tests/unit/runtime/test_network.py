"""Where the runtime may connect to."""

import asyncio
from pathlib import Path

import pytest
from yarl import URL

from chatbot_runtime.config import ConfigError
from chatbot_runtime.network import Peers, SafeResolver, is_allowed, is_refused, proxy_for, trust
from tests.unit.runtime.test_rate import Names


@pytest.mark.parametrize(
    ("url", "allowed", "expected"),
    [
        ("https://router.huggingface.co/v1", ["router.huggingface.co"], True),
        ("https://ROUTER.huggingface.co./v1", ["router.huggingface.co"], True),
        ("https://router.huggingface.co/v1", ["Router.HuggingFace.co"], True),
        ("https://router.huggingface.co.evil.example/v1", ["router.huggingface.co"], False),
        ("https://evil-router.huggingface.co/v1", ["router.huggingface.co"], False),
        ("https://huggingface.co/v1", ["router.huggingface.co"], False),
        ("https://a.example.com/", ["*.example.com"], True),
        ("https://b.a.example.com/", ["*.example.com"], True),
        ("https://example.com/", ["*.example.com"], False),
        ("https://notexample.com/", ["*.example.com"], False),
        ("https://.example.com/", ["*.example.com"], False),
        ("https://a.example.com/", ["*"], False),
        ("https://a.example.com/", ["*."], False),
        ("https://a.example.com/", [""], False),
        ("https://a.example.com/", [], False),
        ("https://a.example.com/", ["a.example.com:443"], True),
        ("https://a.example.com:8443/", ["a.example.com:443"], False),
        ("https://a.example.com:8443/", ["a.example.com"], True),
        ("http://a.example.com/", ["a.example.com:443"], False),
        ("http://a.example.com:8080/", ["*.example.com:8080"], True),
        ("http://[::1]:8080/", ["[::1]:8080"], True),
        ("http://[::1]:8080/", ["::1"], True),
        ("http://[::1]:8081/", ["[::1]:8080"], False),
        ("http://127.0.0.1:8080/", ["127.0.0.1:8080"], True),
        ("http://allowed.example@evil.example/", ["allowed.example"], False),
        ("http://evil.example/?allowed.example", ["allowed.example"], False),
        ("http://evil.example#allowed.example", ["allowed.example"], False),
        ("http://ｅvil.example/", ["evil.example"], True),  # as the client writes it on the wire
        ("http://еvil.example/", ["evil.example"], False),  # another alphabet
    ],
)
def test_a_host_is_allowed_by_its_name_or_as_a_subdomain_and_by_its_port(
    url: str, allowed: list[str], expected: bool
) -> None:
    assert is_allowed(URL(url), allowed) is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("169.254.169.254", True),
        ("169.254.0.1", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("239.255.255.250", True),
        ("::", True),
        ("fe80::1", True),
        ("fe80::1%eth0", True),
        ("ff02::1", True),
        ("::ffff:169.254.169.254", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("2002:a9fe:a9fe::1", True),
        ("fd00:ec2::254", True),
        ("100.100.100.200", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("8.8.8.8", False),
        ("2001:db8::1", False),
        ("fd00::1", False),
        ("router.huggingface.co", False),
    ],
)
def test_some_addresses_are_never_connected_to(address: str, expected: bool) -> None:
    assert is_refused(address) is expected


async def test_a_name_gives_only_addresses_that_may_be_connected_to() -> None:
    mixed = SafeResolver(Names("169.254.169.254", "10.0.0.1", "fe80::1"))
    assert [found["host"] for found in await mixed.resolve("x")] == ["10.0.0.1"]
    with pytest.raises(OSError, match="never connected to"):
        await SafeResolver(Names("169.254.169.254", "fe80::1")).resolve("x")


@pytest.mark.parametrize(
    ("environ", "url", "expected"),
    [
        ({}, "https://a.example/", None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "https://a.example/", "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://a.example/", None),
        ({"HTTP_PROXY": "proxy:3128"}, "http://a.example/", "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".example"}, "https://a.example/", None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "a.example:443"}, "https://a.example/", None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, "https://a.example/", None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "b.example"}, "https://a.example/", "http://proxy:3128"),
    ],
)
def test_the_proxy_is_that_of_the_environment(
    environ: dict[str, str], url: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(URL(url)) == (URL(expected) if expected else None)


@pytest.mark.parametrize("value", ["socks5://u:secret@proxy:1", "http://", "http://u:secret@proxy:none"])
def test_a_proxy_that_cannot_be_used_is_named_without_its_value(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
        proxy_for(URL("https://a.example/"))
    assert "secret" not in str(caught.value)


def test_authorities_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "ca.crt"
    broken.write_text("no certificate")
    for path in (broken, tmp_path / "missing.crt"):
        with pytest.raises(ConfigError, match=r"CHATBOT_CA_FILE: .*\.crt cannot be used"):
            trust(path)


async def test_nothing_is_counted_without_a_name() -> None:
    await asyncio.wait_for(Peers("", Names("10.0.0.1")).follow(100), 1)
