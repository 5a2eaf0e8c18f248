"""What the pages for people tell to type works on a real API server with the operator; pods only seem to run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from chatbot_operator.api.generated import REPOSITORY
from chatbot_operator.api.reasons import Reason
from chatbot_operator.api.troubleshooting import LOOK
from tests.control_plane.conftest import Operated
from tests.support.chatbot import Bot
from tests.support.documents import Fence, every_fence
from tests.support.operator import wait_for

FENCES = [fence for fence in every_fence() if (fence.mark, fence.said) == ("run", "cluster")]
PAGES = list(dict.fromkeys(fence.page for fence in FENCES))
# What these ask is a pod, or the operator's Deployment, and neither is here: tests/node types them.
ELSEWHERE = ("kubectl logs ", "kubectl exec ", "kubectl describe deployment chatbot-operator ")


def of(page: Path) -> list[Fence]:
    return [fence for fence in FENCES if fence.page == page]


class Shell:
    """A shell in the checkout, whose kubectl leads to a namespace."""

    def __init__(self, operated: Operated, namespace: str, folder: Path) -> None:
        access = operated.access
        kubeconfig = folder / "kubeconfig"
        shutil.copy(access.kubeconfig, kubeconfig)
        path = f"{access.kubectl_path.parent}:{os.environ['PATH']}"
        self._env = {**os.environ, **access.environment, "KUBECONFIG": str(kubeconfig)}
        self._env |= {"PATH": path, "TMPDIR": str(folder)}
        self._access, self._namespace = access, namespace
        self.type(f"kubectl config set-context --current --namespace={namespace}")

    def _others(self) -> set[str]:
        found = self._access.get("chatbots", "--all-namespaces")["items"]
        return {chatbot["metadata"]["namespace"] for chatbot in found} - {self._namespace}

    def type(self, command: str) -> str:
        """One command to its end; what it prints."""
        if "--all-namespaces" in command:  # what other pages have made still goes
            wait_for("there are only this page's chatbots", lambda: not self._others(), 60)
        ended = subprocess.run(
            ["bash", "-c", command],
            cwd=REPOSITORY,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
        return ended.stdout


@pytest.fixture
def shell(operated: Operated, namespace: str, tmp_path: Path) -> Shell:
    return Shell(operated, namespace, tmp_path)


@pytest.fixture
def bot(operated: Operated, namespace: str) -> Bot:
    """The Chatbot that the pages take for granted."""
    made = Bot(operated.access, namespace).create()
    made.wait_ready()
    return made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_can_be_typed_from_top_to_bottom(bot: Bot, shell: Shell, page: Path) -> None:
    for fence in of(page):
        for command in fence.commands:
            shell.type(command)


def test_where_troubleshooting_says_to_look_there_is_something_to_see(bot: Bot, shell: Shell) -> None:
    commands = {command for look in LOOK.values() for command in look.commands if not command.startswith(ELSEWHERE)}
    assert len(commands) > len(Reason) // 4
    seen = {c: shell.type(c.replace("NAMESPACE", bot.namespace).replace("NAME", bot.name)) for c in sorted(commands)}
    # What every chatbot has must be found by the labels that the page names.
    for kind in ("get pods", "describe pods", "describe deployments", "get services", "get chatbot"):
        assert any(bot.name in said for command, said in seen.items() if f"kubectl {kind}" in command), kind
