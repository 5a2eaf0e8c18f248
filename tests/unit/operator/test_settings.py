"""The operator's settings."""

import pytest

from chatbot_operator.settings import PREFIX, InvalidSettings, Settings, settings_table


def test_each_variable_sets_its_field() -> None:
    settings = Settings.from_env({f"{PREFIX}WORKERS": "7", f"{PREFIX}WATCH_NAMESPACES": "a, b,", "HOME": "/x"})
    assert settings.workers == 7
    assert settings.watch_namespaces == ("a", "b")


def test_without_variables_the_defaults_hold() -> None:
    assert Settings.from_env({}) == Settings()


def test_every_bad_variable_is_named_with_what_is_wrong() -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings.from_env({f"{PREFIX}WORKERS": "0", f"{PREFIX}PORT": "many"})
    assert f"{PREFIX}WORKERS" in str(caught.value)
    assert f"{PREFIX}PORT" in str(caught.value)
    assert "'many'" in str(caught.value)


def test_an_unknown_variable_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidSettings, match=f"{PREFIX}WORKER is not a setting of this version: remove it"):
        Settings.from_env({f"{PREFIX}WORKER": "1"})


def test_the_table_has_a_row_with_a_meaning_for_every_setting() -> None:
    rows = settings_table().splitlines()[2:]
    assert len(rows) == len(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())
