"""What troubleshooting tells to look at, typed where pods really run and the chart is installed."""

import pytest

from chatbot_operator.api.troubleshooting import CHECK, LAST_WORDS, LOOK, OPERATOR, OPERATOR_LOG
from tests.support.chatbot import Bot

pytestmark = pytest.mark.needs("pods run")


def test_where_troubleshooting_says_to_look_there_is_something_to_see(bot: Bot) -> None:
    bot.create().wait_ready(60)
    bot.patch(phase="hf")  # the operator has something to say
    bot.wait_reason("TokenSecretMissing", 30)
    # `check` asks a provider, which this chatbot has not: test_chatbots_hosted.py has it asked.
    commands = {command for look in LOOK.values() for command in look.commands} - {CHECK}
    said = {}
    for command in sorted(commands):
        words = command.replace("NAMESPACE", bot.namespace).replace("NAME", bot.name).split()
        said[command] = bot.access.kubectl(*words[1:]).stdout
    assert bot.name in said[LAST_WORDS]
    assert bot.namespace in said[OPERATOR_LOG]
    assert "Running" in said[OPERATOR]
