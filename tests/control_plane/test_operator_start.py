"""The operator at its start: without the definition of Chatbot, with settings that cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support import gateway
from tests.support.chatbot import Bot
from tests.support.cluster import ClusterAccess, make_namespace
from tests.support.operator import install, operator_on, wait_for


def test_a_definition_that_comes_after_the_operator_is_waited_for_and_watched(
    control_plane: ClusterAccess, tmp_path: Path
) -> None:
    # A full list every ten minutes, so that only a watch can be what sees the second Chatbot.
    settings = {"RESYNC_SECONDS": "600"}
    with operator_on(control_plane, tmp_path, settings, installed=False) as (operator, _):
        wait_for("it says what is missing", lambda: "list of chatbots" in operator.log_path.read_text(), 20)
        assert operator.http("/readyz")[0] == 503
        install(control_plane)
        wait_for("it is ready", lambda: operator.http("/readyz")[0] == 200, 30)
        with make_namespace(control_plane) as namespace:
            Bot(control_plane, namespace, "first").create().wait_ready(30)
            Bot(control_plane, namespace, "second").create().wait_ready(30)


def test_a_setting_that_cannot_be_used_ends_it_at_once_with_its_name() -> None:
    environment = {**os.environ, "CHATBOT_OPERATOR_WORKERS": "many"}
    ended = subprocess.run(
        [sys.executable, "-m", "chatbot_operator"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "CHATBOT_OPERATOR_WORKERS" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_http_routes_that_come_later_are_found_made_and_judged_by_the_gateway(
    control_plane: ClusterAccess, tmp_path: Path
) -> None:
    settings = {"RESYNC_SECONDS": "2"}
    with operator_on(control_plane, tmp_path, settings) as (operator, _), make_namespace(control_plane) as namespace:
        bot = Bot(control_plane, namespace)
        expose = {"host": "chat.example.com", "gatewayRef": {"name": "public"}}
        bot.create(access={"mode": "Anonymous"}, expose=expose)
        condition = bot.wait_reason("RouteNotAccepted", 40)
        assert "Install the Gateway API" in condition["message"]
        gateway.install(control_plane)
        wait_for("the operator ends, to be started anew", lambda: not operator.alive(), 20)
        assert operator.exit_code() == 0
        operator.start()
        bot.wait_reason("AddressPending", 40)
        gateway.say(control_plane, namespace, "demo", accepted=False, message="The listener is not for you.")
        condition = bot.wait_reason("RouteNotAccepted", 20)
        assert "The listener is not for you." in condition["message"]
        gateway.say(control_plane, namespace, "demo", accepted=True)
        bot.wait_ready(20)
        assert bot.status()["url"] == "http://chat.example.com"
        bot.kubectl("delete", "httproute/demo")
        wait_for("it is made again", lambda: bot.kubectl("get", "httproute/demo", "--ignore-not-found"), 20)
