"""API keys, and who a client without one is."""

from pathlib import Path

import pytest

from chatbot_runtime.access import KeyRing, client_address
from chatbot_runtime.errors import ApiError


def refused(keys: KeyRing, header: str | None) -> str:
    with pytest.raises(ApiError) as caught:
        keys.client_of(header)
    assert caught.value.status == 401
    assert caught.value.headers()["WWW-Authenticate"] == "Bearer"
    return caught.value.body.code


def test_a_file_is_a_client_and_its_content_the_key(tmp_path: Path) -> None:
    (tmp_path / "alice").write_text("key-a\n")
    (tmp_path / "bob").write_text("key-b")
    keys = KeyRing(tmp_path)
    assert keys.client_of("Bearer key-a") == "alice"
    assert keys.client_of("bearer  key-b ") == "bob"
    assert refused(keys, "Bearer key-c") == "invalid_api_key"
    assert refused(keys, "Bearer key-a2") == "invalid_api_key"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer  ", "Basic key-a", "key-a"])
def test_a_request_without_a_key_is_refused(tmp_path: Path, header: str | None) -> None:
    (tmp_path / "alice").write_text("key-a")
    assert refused(KeyRing(tmp_path), header) == "missing_api_key"


@pytest.mark.parametrize("content", ["", " \n", "x" * 5000])
def test_an_empty_or_huge_key_lets_nobody_in(tmp_path: Path, content: str) -> None:
    (tmp_path / "alice").write_text(content)
    keys = KeyRing(tmp_path)
    assert len(keys) == 0
    refused(keys, f"Bearer {content}")


def test_without_a_directory_or_keys_everyone_is_refused(tmp_path: Path) -> None:
    for keys in (KeyRing(None), KeyRing(tmp_path), KeyRing(tmp_path / "missing")):
        refused(keys, "Bearer x")


def test_keys_come_change_and_go_with_their_files(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    keys = KeyRing(directory)
    directory.mkdir()
    (directory / "alice").write_text("one")
    keys.poll()
    assert keys.client_of("Bearer one") == "alice"
    (tmp_path / "new").write_text("two")
    (tmp_path / "new").replace(directory / "alice")
    keys.poll()
    assert keys.client_of("Bearer two") == "alice"
    refused(keys, "Bearer one")
    (directory / "alice").unlink()
    keys.poll()
    refused(keys, "Bearer two")


def test_a_secret_as_the_kubelet_mounts_it_is_read_and_its_own_links_are_no_keys(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "alice").write_text("key-a")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "alice").symlink_to("..data/alice")
    keys = KeyRing(tmp_path)
    assert len(keys) == 1
    assert keys.client_of("Bearer key-a") == "alice"


def test_the_state_of_the_keys_says_why_there_are_none(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    keys = KeyRing(directory)
    assert (KeyRing(None).state, keys.state) == ("missing", "missing")

    def state() -> str:
        keys.poll()
        return keys.state

    directory.mkdir()
    assert state() == "missing"  # as a Secret that does not exist is mounted
    (directory / "alice").write_text(" \n")
    assert state() == "empty"
    (directory / "bob").mkdir()  # for root no file is unreadable, but a folder is
    assert state() == "unreadable"
    (directory / "carol").write_text("key-c")
    assert state() == "ok"
    assert KeyRing(directory / "carol").state == "unreadable"


def test_a_directory_among_the_keys_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "alice").write_text("key-a")
    assert KeyRing(tmp_path).client_of("Bearer key-a") == "alice"


def test_a_key_may_hold_any_bytes(tmp_path: Path) -> None:
    (tmp_path / "alice").write_bytes("schlüssel".encode())
    assert KeyRing(tmp_path).client_of("Bearer schlüssel") == "alice"
    refused(KeyRing(tmp_path), "Bearer schl\udcffssel")


@pytest.mark.parametrize(
    ("forwarded", "hops", "address"),
    [
        ([], 0, "10.0.0.9"),
        (["1.1.1.1"], 0, "10.0.0.9"),
        (["6.6.6.6, 1.1.1.1"], 1, "1.1.1.1"),
        (["6.6.6.6, 1.1.1.1, 10.1.1.1"], 2, "1.1.1.1"),
        (["6.6.6.6", "1.1.1.1, 10.1.1.1"], 2, "1.1.1.1"),
        (["1.1.1.1"], 2, "10.0.0.9"),
        (["garbage"], 1, "10.0.0.9"),
        (["2001:db8:1:2:3:4:5:6"], 1, "2001:db8:1:2::/64"),
        (["::ffff:1.2.3.4"], 1, "1.2.3.4"),
    ],
)
def test_only_what_trusted_proxies_appended_is_believed(forwarded: list[str], hops: int, address: str) -> None:
    assert client_address("10.0.0.9", forwarded, hops) == address


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    assert client_address("2001:db8::1%eth0", [], 0) == client_address("2001:db8::2", [], 0)
    assert client_address(None, [], 0) == "unknown"
