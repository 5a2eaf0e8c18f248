"""What a spec comes to once its defaults are filled in."""

from typing import Any

import pytest

from chatbot_operator import effective
from chatbot_operator.desired.config import settings_text
from chatbot_operator.settings import Settings
from chatbot_runtime.contract import RuntimeSettings
from tests.support.scenes import Scene

BALANCED = {"expose": {"type": "LoadBalancer"}}
SPREAD = {"expose": {"type": "NodePort", "externalTrafficPolicy": "Cluster"}}
INGRESS = {"expose": {"host": "chat.example.com", "ingressClassName": "nginx"}}


@pytest.mark.parametrize(
    ("spec", "hops", "shared"),
    [
        ({}, 0, False),
        ({"expose": {"externalTrafficPolicy": "Cluster"}}, 0, False),
        (BALANCED, 0, False),
        (SPREAD, 0, True),
        (SPREAD, 1, False),
        (INGRESS, 0, True),
        (INGRESS, 2, False),
    ],
)
def test_pods_are_told_when_an_address_stands_for_many_clients(spec: dict[str, Any], hops: int, shared: bool) -> None:
    access = {"mode": "Anonymous", "trustedHops": hops}
    chatbot = Scene({"phase": "mock", "access": access, **spec}).chatbot
    assert effective.shared_addresses(chatbot.spec) is shared
    told = RuntimeSettings.model_validate_json(settings_text(chatbot, (), Settings())).access
    assert (told.shared_addresses, told.trusted_hops) == (shared, hops)
