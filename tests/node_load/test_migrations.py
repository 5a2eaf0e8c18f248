"""From a mock to a hosted model and back, again and again under load: nobody notices, and every answer says truly who
gave it.

CHATBOT_LOAD=long moves 20 times in place of 4.
"""

import os

import pytest

from tests.support.chatbot import Bot
from tests.support.load import OPEN_DOOR, load
from tests.support.provider import MODEL, STREAM, provider

pytestmark = pytest.mark.needs("pods run")

MOVES = 20 if os.environ.get("CHATBOT_LOAD") == "long" else 4
LONGEST_SECONDS = 60 + 60 * MOVES
TOKEN = "hf_good"
# About 9 s, longer than a pod goes on taking requests once it is told to stop.
REPLY = "This sentence is streamed word by word, so that it takes a while. " * 12 + "The end."


@pytest.mark.timeout(LONGEST_SECONDS + 240)
def test_moving_between_phases_under_load_loses_nothing_and_says_truly_who_answers(bot: Bot) -> None:
    with provider(bot.access, TOKEN) as router:
        token = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hf-token"}, "stringData": {"token": TOKEN}}
        bot.access.apply(token, namespace=bot.namespace)
        fixed = {"replicas": 2, "autoscaling": {"enabled": False}}
        mock = {"replies": [REPLY], "tokensPerSecond": 20}
        bot.create(mock=mock, hf=router.hf(), access=OPEN_DOOR, backend=fixed).wait_ready(60)
        answers = {"mock": [REPLY], MODEL: [STREAM]}
        with load(bot, answers, short=4, streams=6, pause=0.05, longest_seconds=LONGEST_SECONDS) as running:
            running.wait_more(1, 1)
            for number in range(MOVES):
                phase = ("hf", "mock")[number % 2]
                bot.patch(phase=phase)
                bot.wait_ready(90)
                assert bot.status()["servingPhase"] == phase
                running.wait_more(20, 1)
            tally = running.result()
        print(f"{MOVES} moves: {tally.short} short answers, {tally.streams} streams")
        assert tally.problems == []
        asked = [request["path"] for request in router.asked()]
        assert asked.count("/v1/chat/completions") > MOVES
