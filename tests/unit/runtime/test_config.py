"""The settings of a process, from its environment."""

from pathlib import Path

import pytest

from chatbot_runtime.config import Config, ConfigError, settings_table, variable_of


def test_an_empty_environment_gives_the_defaults() -> None:
    config = Config.from_env({})
    assert (config.phase, config.port, config.internal_port, config.grace_seconds) == ("mock", 8000, 8001, 310)


def test_values_are_read_from_variables_with_the_prefix() -> None:
    environ = {"CHATBOT_PORT": "9000", "CHATBOT_SETTINGS_FILE": "/x/settings.json", "CHATBOT_REQUEST_SECONDS": "0.5"}
    config = Config.from_env(environ | {"PORT": "1", "CHATBOT_SERVICE_HOST": "10.0.0.1"})
    assert (config.port, config.settings_file, config.request_seconds) == (9000, Path("/x/settings.json"), 0.5)


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Config.from_env({"CHATBOT_KEYS_DIR": "", "CHATBOT_PORT": ""}) == Config()


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("CHATBOT_PORT", "http", "valid integer"),
        ("CHATBOT_PORT", "70000", "65535"),
        ("CHATBOT_REQUEST_SECONDS", "inf", "finite"),
        ("CHATBOT_REQUEST_SECONDS", "-1", "greater than 0"),
        ("CHATBOT_PHASE", "gpt", "one of mock, hf, local"),
        ("CHATBOT_LOG_FORMAT", "xml", "'auto', 'json' or 'text'"),
    ],
)
def test_a_bad_value_is_named_with_its_problem_and_the_remedy(variable: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_env({variable: value})
    message = str(caught.value)
    assert message.startswith(f"{variable}: the value {value!r} cannot be used")
    assert words in message
    assert "Correct it, or unset it for the default" in message


@pytest.mark.parametrize(
    "url",
    [
        "ftp://model.example/v1",
        "model.example/v1",
        "http://",
        "http:///v1",
        "http://user:secret@model.example/v1",
        "http://secret@model.example/v1",
        "http://model.example/v1?key=secret",
        "http://model.example/v1#secret",
        "http://model.example:secret/v1",
        "http://[secret/v1",
        "http://mod el.example/v1",
    ],
)
def test_a_base_url_that_cannot_be_used_is_named_without_its_value(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_env({"CHATBOT_BASE_URL": url})
    assert str(caught.value).startswith("CHATBOT_BASE_URL: the value cannot be used: it ")
    assert "secret" not in str(caught.value)


def test_phase_hf_has_models_and_its_own_default_of_answers_at_once() -> None:
    environ = {"CHATBOT_PHASE": "hf", "CHATBOT_MODELS": " a/b:fastest , c/d,a/b:fastest,,"}
    config = Config.from_env(environ)
    assert (config.models, config.max_running) == (("a/b:fastest", "c/d"), 256)
    assert config.base_url == "https://router.huggingface.co/v1"
    assert Config.from_env(environ | {"CHATBOT_MAX_RUNNING": "7"}).max_running == 7
    assert Config.from_env({}).max_running == 512
    with pytest.raises(ConfigError, match="CHATBOT_MODELS: phase hf needs at least one model"):
        Config.from_env({"CHATBOT_PHASE": "hf"})


def test_every_bad_value_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_env({"CHATBOT_PORT": "x", "CHATBOT_MAX_RUNNING": "0"})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["CHATBOT_PORT", "CHATBOT_MAX_RUNNING"]


def test_the_table_has_every_setting_with_a_default_and_a_meaning() -> None:
    rows = settings_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == [variable_of(name) for name in Config.model_fields]
    assert all(len(row.split("|")[3].strip()) > 10 for row in rows)
    assert all("econds" not in row.split("|")[1].lower() or "in seconds" in row for row in rows)
