"""The token in its mounted file."""

from pathlib import Path

import pytest

from chatbot_runtime.token_file import TokenFile


@pytest.mark.parametrize(
    ("content", "state", "value", "words"),
    [
        (None, "missing", "", "does not exist: create the Secret"),
        (b"", "empty", "", "is empty"),
        (b" \n", "empty", "", "is empty"),
        (b"hf_abc", "ok", "hf_abc", ""),
        (b"  hf_abc\r\n\n", "ok", "hf_abc", ""),
        (b'"hf_abc"', "unreadable", "", "in quotes"),
        (b"'hf_abc'\n", "unreadable", "", "in quotes"),
        (b"hf_abc\nhf_def", "unreadable", "", "as one word"),
        (b"hf_a\r\nX-Evil: 1", "unreadable", "", "as one word"),
        (b"hf_\xc3\xa4bc", "unreadable", "", "not ASCII"),
        (b"hf_\0abc", "unreadable", "", "as one word"),
        (b"hf_" + b"a" * 10_000, "unreadable", "", "more than 4096 bytes"),
    ],
)
def test_the_token_is_trimmed_or_refused_with_a_message_that_does_not_show_it(
    tmp_path: Path, content: bytes | None, state: str, value: str, words: str
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    token = TokenFile(path)
    assert (token.state, token.value) == (state, value)
    assert words in token.problem
    assert "hf_a" not in token.problem
    assert "hf_a" not in repr(token)


def test_without_a_path_there_is_none() -> None:
    token = TokenFile(None)
    assert (token.state, token.poll()) == ("missing", False)


def test_what_cannot_be_opened_is_unreadable(tmp_path: Path) -> None:
    assert TokenFile(tmp_path).state == "unreadable"


def test_a_token_that_comes_changes_and_goes_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = TokenFile(path)
    for content, state in (("hf_one", "ok"), ("hf_two", "ok"), ("", "empty")):
        path.write_text(content)
        assert token.poll()
        assert (token.value, token.state) == (content, state)
        assert not token.poll()
    path.unlink()
    assert token.poll()
    assert token.state == "missing"


def test_a_file_that_is_written_again_with_the_same_token_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("hf_one")
    token = TokenFile(path)
    path.write_text("hf_one\n")
    assert not token.poll()
    assert token.value == "hf_one"


def test_a_change_through_a_link_on_the_way_is_noticed(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(f"hf_{name}")
    (tmp_path / "data").symlink_to("v1")
    token = TokenFile(tmp_path / "data/token")
    (tmp_path / "new").symlink_to("v2")
    (tmp_path / "new").replace(tmp_path / "data")
    assert token.poll()
    assert token.value == "hf_v2"
