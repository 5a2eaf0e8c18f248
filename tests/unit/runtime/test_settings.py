"""The mounted settings file."""

from pathlib import Path

import pytest

from chatbot_runtime.config import ConfigError
from chatbot_runtime.contract import RuntimeSettings, settings_hash
from chatbot_runtime.settings import SettingsFile


def write(path: Path, text: str) -> None:
    """As the kubelet does it: a new file takes the old one's place."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "settings.json"
    path.write_text('{"systemPrompt": "one"}')
    return path


def test_without_a_file_the_defaults_are_used() -> None:
    settings = SettingsFile(None)
    assert settings.current == RuntimeSettings()
    assert not settings.poll()


def test_a_changed_file_is_taken_over_with_its_hash(path: Path) -> None:
    settings = SettingsFile(path)
    assert not settings.poll()
    write(path, '{"systemPrompt": "two"}')
    assert settings.poll()
    assert (settings.current.system_prompt, settings.hash) == ("two", settings_hash('{"systemPrompt": "two"}'))


def test_a_file_that_is_written_again_with_the_same_text_is_no_change(path: Path) -> None:
    settings = SettingsFile(path)
    write(path, '{"systemPrompt": "one"}')
    assert not settings.poll()


def test_a_change_through_a_link_on_the_way_is_noticed(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.json").write_text(f'{{"systemPrompt": "{name}"}}')
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "settings.json").symlink_to("data/settings.json")
    settings = SettingsFile(tmp_path / "settings.json")
    (tmp_path / "data.new").symlink_to("v2")
    (tmp_path / "data.new").replace(tmp_path / "data")
    assert settings.poll()
    assert settings.current.system_prompt == "v2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "the whole file"),
        ('{"mock": {"tokensPerSecond": -3}}', "mock.tokensPerSecond"),
        ('{"access": {"mode": "Open"}}', "access.mode"),
    ],
)
def test_a_broken_file_keeps_the_settings_before_it_and_says_why(path: Path, text: str, words: str) -> None:
    settings = SettingsFile(path)
    write(path, text)
    assert not settings.poll()
    assert settings.current.system_prompt == "one"
    assert settings.hash == settings_hash('{"systemPrompt": "one"}')
    assert words in settings.error
    write(path, '{"systemPrompt": "three"}')
    assert settings.poll()
    assert (settings.current.system_prompt, settings.error) == ("three", "")


def test_a_deleted_file_keeps_the_settings_and_says_why(path: Path) -> None:
    settings = SettingsFile(path)
    path.unlink()
    assert not settings.poll()
    assert settings.current.system_prompt == "one"
    assert "cannot be read" in settings.error


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe", b"[" + b" " * 5_000_000])
def test_a_file_that_cannot_be_used_at_the_start_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"settings\.json"):
        SettingsFile(path)


def test_a_message_never_repeats_a_value(path: Path) -> None:
    settings = SettingsFile(path)
    write(path, '{"systemPrompt": ["the secret recipe"]}')
    settings.poll()
    assert "systemPrompt" in settings.error
    assert "secret" not in settings.error


def test_unknown_fields_are_ignored(path: Path) -> None:
    write(path, '{"systemPrompt": "x", "newerField": 1}')
    assert SettingsFile(path).current.system_prompt == "x"
