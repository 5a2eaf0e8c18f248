"""The command line without a cluster: exit codes, messages, completion, output that is no terminal's."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubectl_chatbot import cli, screen
from kubectl_chatbot.__main__ import complete
from kubectl_chatbot.findings import failed, ok

NOWHERE = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "here",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {}}],
    "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
}


Ended = tuple[int, str]


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The tool in this process: its exit code, and all that it has printed."""

    def call(*arguments: str) -> Ended:
        code = cli.run(list(arguments))
        return code, "".join(capsys.readouterr())

    return call


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The tool in a process of its own, without any cluster unless KUBECONFIG names one."""
    clean = {k: v for k, v in os.environ.items() if k not in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST")}
    return subprocess.run(
        [sys.executable, "-m", "kubectl_chatbot", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        env={**clean, "HOME": "/nonexistent", **env},
        check=False,
    )


@pytest.fixture
def nowhere(tmp_path: Path) -> str:
    """A kubeconfig of a cluster that nobody runs."""
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(NOWHERE))
    return str(file)


def test_no_cluster_is_known() -> None:
    ended = run("status")
    assert ended.returncode == 3
    assert ended.stderr.startswith("error: ")
    assert "Set KUBECONFIG" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "command", [["status"], ["ask", "demo", "hi"], ["switch", "hf"], ["logs"], ["doctor"], ["cost"]]
)
def test_a_cluster_that_does_not_answer(inside: Callable[..., Ended], nowhere: str, command: list[str]) -> None:
    code, said = inside(*command, "--kubeconfig", nowhere)
    assert code == 3, said
    assert said.startswith("error: no answer from http://127.0.0.1:1")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["switch"], ["switch", "cloud"], ["status", "--nope"], ["cost", "--prices", "/nonexistent"]],
)
def test_wrong_arguments(inside: Callable[..., Ended], arguments: list[str]) -> None:
    code, said = inside(*arguments)
    assert code == 2
    assert "Error: " in said


def test_an_api_key_is_never_an_argument() -> None:
    assert not [o for o in cli.cli.commands["ask"].params if "--api-key" in o.opts]


def test_every_exit_code_is_in_the_help_and_in_the_page(inside: Callable[..., Ended]) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs/kubectl.md").read_text()
    _, told = inside("--help")
    for code in ("0", "1", "2", "3", "4", "130"):
        assert f"\n    {code} " in told
        assert f"\n| {code} |" in page


@pytest.mark.parametrize(
    ("words", "offered"),
    [(["sw"], ["switch"]), (["switch", ""], ["mock", "hf", "local"]), (["logs", "--component", "w"], ["web"])],
)
def test_kubectl_is_told_what_completes_a_line(
    words: list[str], offered: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-chatbot", *words])
    complete()
    told = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in told[:-1]] == offered
    assert told[-1] == ":4"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(inside: Callable[..., Ended], shell: str) -> None:
    assert "kubectl-chatbot" in inside("completion", shell)[1]


def test_elsewhere_than_on_a_terminal_nothing_is_coloured_broken_or_padded(capsys: pytest.CaptureFixture[str]) -> None:
    screen.findings([failed("secret", "long " * 100 + "end"), ok("node", "[not markup] :smile:")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["RESULT", "failed", "ok"]
    assert lines[1].endswith(" end")
    assert lines[2].endswith("[not markup] :smile:")
    assert not any("\x1b" in line or line != line.rstrip() for line in lines)


def test_without_its_libraries_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('no click', name='click')\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    ended: Any = run("status", PYTHONPATH=path)
    assert ended.returncode == 2
    assert ended.stderr == "error: click is missing: pip install 'chatbot-operator[cli]'\n"
