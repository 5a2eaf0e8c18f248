"""`kubectl chatbot` on a real API server with the operator at work.

Behind the fake nodes a stand-in speaks the kubelet's side of logs and port-forward; what answers is the real runtime.
"""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubectl_chatbot import cli
from tests.control_plane.conftest import Operated
from tests.support.chatbot import Bot, audit
from tests.support.kubelet import Kubelet, kubelet_on
from tests.support.operator import account_kubeconfig, wait_for
from tests.support.runtime_process import FAST, RuntimeProcess

CANARY = "hf_canary0123456789"
OUTSIDE = {"expose": {"type": "LoadBalancer"}, "access": {"mode": "Anonymous"}}


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Tool = Callable[..., Ended]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    settings = tmp_path_factory.mktemp("runtime") / "settings.json"
    settings.write_text(json.dumps(FAST))
    with RuntimeProcess(phase="mock", settings_file=settings) as process:
        yield process


@pytest.fixture(scope="module")
def kubelet(operated: Operated, runtime: RuntimeProcess) -> Iterator[Kubelet]:
    """Every pod's port leads to the real runtime, unless a test says otherwise."""
    with kubelet_on(operated.access) as stand_in:
        stand_in.targets["*"] = ("127.0.0.1", runtime.port)
        yield stand_in


@pytest.fixture
def bot(operated: Operated, namespace: str) -> Bot:
    return Bot(operated.access, namespace)


@pytest.fixture
def tool(
    operated: Operated, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Tool:
    """The tool in this process, in the test's namespace."""
    monkeypatch.setenv("KUBECONFIG", str(operated.access.kubeconfig))

    def call(*arguments: str) -> Ended:
        capsys.readouterr()
        code = cli.run([arguments[0], "-n", namespace, *arguments[1:]])
        return Ended(code, *capsys.readouterr())

    return call


def process(operated: Operated, *arguments: str, **how: Any) -> subprocess.Popen[str]:
    """The tool as a process of its own."""
    env = os.environ | {"KUBECONFIG": str(operated.access.kubeconfig)}
    command = [sys.executable, "-m", "kubectl_chatbot", *arguments]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)


def token(bot: Bot, value: str = CANARY) -> None:
    bot.kubectl("create", "secret", "generic", "hf-token", f"--from-literal=token={value}")


def backend_pods(bot: Bot) -> list[str]:
    found = bot.get("pods", "-l", "app.kubernetes.io/component=backend")["items"]
    return sorted(p["metadata"]["name"] for p in found if "deletionTimestamp" not in p["metadata"])


def test_status_on_one_screen_as_a_list_and_for_scripts(bot: Bot, tool: Tool) -> None:
    bot.create(**OUTSIDE).wait_ready()
    Bot(bot.access, bot.namespace, "other").create().wait_ready()
    screen = tool("status", "demo")
    assert screen.code == 0
    assert re.search(r"^Phase +mock, serving: mock$", screen.out, re.MULTILINE)
    assert re.search(r"^Cost +31 USD a month$", screen.out, re.MULTILINE)
    assert re.search(r"^Ready +True +Serving +\d+s +", screen.out, re.MULTILINE)
    assert re.search(r"^\d+s +Normal +AddressAssigned +Reachable at", screen.out, re.MULTILINE)
    assert len(screen.out.splitlines()) <= 24
    listed = tool("status")
    assert [line.split()[:4] for line in listed.out.splitlines()[1:]] == [
        ["demo", "mock", "mock", "True"],
        ["other", "mock", "mock", "True"],
    ]
    said = tool("status", "demo", "-o", "json").json
    stored = bot.status()
    assert (said["ready"], said["conditions"], said["cost"]) == (True, stored["conditions"], stored["cost"])
    assert {item["name"] for item in tool("status", "-o", "json").json["items"]} == {"demo", "other"}


def test_a_chatbot_that_is_not_there_and_one_that_is_not_named(bot: Bot, tool: Tool) -> None:
    assert tool("ask").err == f"error: which Chatbot? In namespace {bot.namespace} there is none\n"
    bot.create()
    missing = tool("status", "nope")
    assert missing.code == 1
    assert missing.err == f"error: no Chatbot nope in namespace {bot.namespace}; there are: demo\n"


def test_a_question_goes_through_the_api_server_to_a_pod(bot: Bot, tool: Tool, kubelet: Kubelet) -> None:
    bot.create().wait_ready()
    kubelet.forwarded.clear()
    answer = tool("ask", "demo", "hello")
    assert (answer.code, answer.err) == (0, "")
    assert "demo" in answer.out
    assert kubelet.forwarded == backend_pods(bot)[:1]
    said = tool("ask", "demo", "hello", "-o", "json").json
    assert (said["phase"], said["model"], said["answer"]) == ("mock", "mock", answer.out.strip())


def test_a_conversation_is_kept_and_outlives_the_pod_that_answered_first(
    bot: Bot, tool: Tool, kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot.create().wait_ready()
    first = backend_pods(bot)[0]
    questions = iter(["hello", "hello"])

    def typed(_: str = "") -> str:
        for question in questions:
            if kubelet.forwarded:
                bot.kubectl("delete", "pod", first, "--wait=false")
                wait_for("it goes", lambda: first not in backend_pods(bot), 10)
            return question
        raise EOFError

    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    kubelet.forwarded.clear()
    said = tool("ask", "demo", "-o", "json")
    assert said.code == 0
    one, two = map(json.loads, said.out.splitlines())
    assert two["usage"]["prompt_tokens"] > one["usage"]["prompt_tokens"] + one["usage"]["completion_tokens"]
    assert kubelet.forwarded[0] == first
    assert kubelet.forwarded[1] != first


def test_an_api_key_comes_from_the_environment_or_a_file_and_is_never_shown(
    bot: Bot, tool: Tool, kubelet: Kubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot.create().wait_ready()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/alice").write_text(CANARY)
    (tmp_path / "key").write_text(f"{CANARY}\n")
    (tmp_path / "settings.json").write_text(json.dumps({"mock": FAST["mock"], "access": {"mode": "APIKey"}}))
    keys, settings = tmp_path / "keys", tmp_path / "settings.json"
    with RuntimeProcess(phase="mock", settings_file=settings, keys_dir=keys) as guarded:
        for pod in backend_pods(bot):
            kubelet.targets[pod] = ("127.0.0.1", guarded.port)
        without = tool("ask", "demo", "hello")
        assert without.code == 1
        assert "CHATBOT_API_KEY" in without.err
        by_file = tool("ask", "demo", "hello", "--api-key-file", str(tmp_path / "key"))
        monkeypatch.setenv("CHATBOT_API_KEY", CANARY)
        by_variable = tool("ask", "demo", "hello")
        monkeypatch.setenv("CHATBOT_API_KEY", f"{CANARY}x")
        wrong = tool("ask", "demo", "hello")
    assert (by_file.code, by_variable.code, wrong.code) == (0, 0, 1)
    assert by_file.out == by_variable.out != ""
    assert not any(CANARY in e.out + e.err for e in (without, by_file, by_variable, wrong))


def test_a_pod_whose_port_is_closed_and_no_pod_at_all(bot: Bot, tool: Tool, kubelet: Kubelet) -> None:
    bot.create().wait_ready()
    for pod in backend_pods(bot):
        kubelet.targets[pod] = ("127.0.0.1", 1)
    closed = tool("ask", "demo", "hello")
    assert closed.code == 3
    assert "kubectl chatbot status" in closed.err
    bot.patch(suspend=True)
    wait_for("no pods", lambda: not backend_pods(bot), 20)
    gone = tool("ask", "demo", "hello")
    assert gone.code == 3
    assert "no backend pod of demo is ready" in gone.err


class Terminal:
    """The tool on a terminal of its own."""

    def __init__(self, operated: Operated, *arguments: str) -> None:
        self.shown, self._read = "", ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            env = os.environ | {"KUBECONFIG": str(operated.access.kubeconfig), "TERM": "xterm"}
            os.execve(sys.executable, [sys.executable, "-m", "kubectl_chatbot", *arguments], env)  # noqa: S606

    def until(self, text: str, seconds: float = 20) -> None:
        """Read until it shows this, after what was waited for before."""
        end = time.monotonic() + seconds
        while text not in self._read:
            assert time.monotonic() < end, f"{text!r} is not shown: {self._read!r}"
            if select.select([self._fd], [], [], 0.1)[0]:
                self._read += os.read(self._fd, 65_536).decode()
        seen, found, self._read = self._read.partition(text)
        self.shown += seen + found

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def end(self) -> int:
        """Its exit code."""
        try:
            while data := os.read(self._fd, 65_536):
                self.shown += data.decode()
        except OSError:  # the other side is closed
            pass
        self.shown += self._read
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_ctrl_c_stops_an_answer_and_ctrl_d_ends(operated: Operated, bot: Bot, kubelet: Kubelet) -> None:
    bot.create().wait_ready()
    with RuntimeProcess(phase="mock") as slow:
        for pod in backend_pods(bot):
            kubelet.targets[pod] = ("127.0.0.1", slow.port)
        terminal = Terminal(operated, "ask", "demo", "-n", bot.namespace)
        terminal.until("> ")
        terminal.type("hello\n")
        terminal.until("I am a")
        terminal.type("\x03")
        terminal.until("(stopped)")
        terminal.until("> ")
        terminal.type("what now?\n")
        terminal.until("phase mock")
        terminal.until("> ")
        terminal.type("\x03")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.end() == 0
    assert "Traceback" not in terminal.shown
    assert "\x1b[2m(mock, phase mock, " in terminal.shown  # in colour, on a terminal


def test_the_logs_of_all_pods_are_one_by_time(bot: Bot, tool: Tool, kubelet: Kubelet) -> None:
    bot.create().wait_ready()
    one, two = backend_pods(bot)
    for second, pod, text in ((1, one, "first"), (2, two, "second"), (4, two, "fourth"), (3, one, "third")):
        kubelet.log(pod, "runtime", text, f"2030-01-01T00:00:0{second}.000000000Z")
    lines = tool("logs", "demo").out.splitlines()
    assert lines == [f"{one} first", f"{two} second", f"{one} third", f"{two} fourth"]
    assert tool("logs", "demo", "--tail", "1", "--timestamps").out.splitlines() == [
        f"{one} 2030-01-01T00:00:03.000000000Z third",
        f"{two} 2030-01-01T00:00:04.000000000Z fourth",
    ]
    entry = json.loads(tool("logs", "demo", "-o", "json").out.splitlines()[0])
    assert entry == {"time": "2030-01-01T00:00:01.000000000Z", "pod": one, "container": "runtime", "line": "first"}
    assert tool("logs", "demo", "--component", "web").out == ""


def test_following_goes_on_with_new_pods_until_ctrl_c(operated: Operated, bot: Bot, kubelet: Kubelet) -> None:
    bot.create().wait_ready()
    old = backend_pods(bot)
    follower = process(operated, "logs", "demo", "-f", "-n", bot.namespace)
    lines: list[str] = []
    assert follower.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(follower.stdout or ()), daemon=True)
    reader.start()
    kubelet.log(old[0], "runtime", "from an old pod")
    wait_for("the old pod's line", lambda: f"{old[0]} from an old pod\n" in lines, 15)
    bot.kubectl("delete", "pod", old[1], "--wait=false")
    wait_for("another pod", lambda: set(backend_pods(bot)) - set(old), 15)
    (new,) = set(backend_pods(bot)) - set(old)
    kubelet.log(new, "runtime", "from a new pod")
    wait_for("the new pod's line", lambda: f"{new} from a new pod\n" in lines, 15)
    follower.send_signal(signal.SIGINT)
    assert follower.wait(10) == 130
    reader.join(5)
    assert lines == [f"{old[0]} from an old pod\n", f"{new} from a new pod\n"]
    assert follower.stderr is not None
    assert "Traceback" not in follower.stderr.read()


def test_a_dry_run_foretells_what_happens_and_changes_nothing(bot: Bot, tool: Tool) -> None:
    bot.create().wait_ready()
    before = bot.get("chatbot/demo")["metadata"]["resourceVersion"]
    ahead = tool("switch", "local", "demo", "--dry-run", "-o", "json")
    assert ahead.code == 0, ahead.err
    assert bot.get("chatbot/demo")["metadata"]["resourceVersion"] == before
    mine = [e for e in audit(bot.access) if "kubectl-chatbot" in e["requestURI"] and bot.namespace in e["requestURI"]]
    assert {"dryRun=All" in e["requestURI"] for e in mine} == {True}
    foretold = {(c["kind"], c["name"]) for c in ahead.json["changes"] if c["verb"] == "create" and not c["later"]}
    assert tool("switch", "local", "demo", "--no-wait").code == 0
    wait_for("the claim", lambda: foretold <= _objects(bot), 15)
    job = next((c["kind"], c["name"]) for c in ahead.json["changes"] if c["later"] and c["kind"] == "Job")
    wait_for("the Job", lambda: job in _objects(bot), 15)
    assert foretold == {
        ("PersistentVolumeClaim", name) for kind, name in _objects(bot) if kind == "PersistentVolumeClaim"
    }


def _objects(bot: Bot) -> set[tuple[str, str]]:
    items = bot.get("pvc,jobs,deployments,services,configmaps")["items"]
    return {(o["kind"], o["metadata"]["name"]) for o in items}


def test_a_switch_says_what_is_missing_then_waits_until_the_phase_serves(bot: Bot, tool: Tool) -> None:
    bot.create(**OUTSIDE).wait_ready()
    refused = tool("switch", "hf", "demo")
    assert refused.code == 1
    assert re.search(r"^failed +secret hf-token +There is no such Secret", refused.out, re.MULTILINE)
    assert re.search(r"^Cost a month +31 USD +44 USD$", refused.out, re.MULTILINE)
    assert re.search(r"^change +Deployment/demo-backend +at once +", refused.out, re.MULTILINE)
    assert bot.get("chatbot/demo")["spec"]["phase"] == "mock"
    token(bot)
    done = tool("switch", "hf", "demo")
    assert (done.code, done.out.splitlines()[-1]) == (0, "demo serves phase hf.")
    assert bot.status()["servingPhase"] == "hf"
    assert CANARY not in done.out + done.err
    again = tool("switch", "hf", "demo", "--dry-run")
    assert (again.code, again.out) == (0, "demo is in phase hf already: nothing would change.\n")


def test_what_the_api_server_refuses_is_told_before_anything_changes(bot: Bot, tool: Tool) -> None:
    bot.create(privacy={"externalInference": "Forbidden"}).wait_ready()
    token(bot)
    refused = tool("switch", "hf", "demo", "--dry-run")
    assert refused.code == 1
    assert "privacy.externalInference" in refused.out
    forced = tool("switch", "hf", "demo", "--force")
    assert forced.code == 1
    assert "privacy.externalInference" in forced.err
    assert bot.get("chatbot/demo")["spec"]["phase"] == "mock"


def test_a_switch_that_does_not_get_there_ends_with_the_reason(operated: Operated, bot: Bot, tool: Tool) -> None:
    bot.create(hf={"resources": {"requests": {"cpu": "1000"}}}).wait_ready()
    token(bot)
    assert "No node is large enough" in tool("switch", "hf", "demo").out
    late = tool("switch", "hf", "demo", "--force", "--timeout", "2")
    assert late.code == 1
    assert "not within 2 s" in late.err
    assert "mock serves meanwhile" in late.err
    assert bot.status()["servingPhase"] == "mock"
    waiting = process(operated, "switch", "hf", "demo", "-n", bot.namespace)
    wait_for("it waits", lambda: waiting.stderr is not None and waiting.stderr.readline(), 20)
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(10) == 130
    assert waiting.stderr is not None
    assert "The switch goes on" in waiting.stderr.read()


def test_the_doctor_finds_what_is_missing_and_shows_no_secret(bot: Bot, tool: Tool) -> None:
    token(bot)
    bot.create(phase="hf").wait_ready()
    well = tool("doctor", "demo")
    assert well.code == 0, well.out
    assert re.search(r"^ok +secret hf-token +Has key token", well.out, re.MULTILINE)
    assert re.search(r"^ok +storage class +standard is the default", well.out, re.MULTILINE)
    bot.kubectl("create", "quota", "team", "--hard=pods=2")
    wait_for("it counts", lambda: bot.get("quota/team").get("status", {}).get("used", {}).get("pods") == "2", 15)
    bot.kubectl("delete", "secret", "hf-token")
    ill = tool("doctor", "-o", "json")
    assert ill.code == 1
    failed = {f["check"] for f in ill.json["chatbots"]["demo"] if f["result"] == "failed"}
    assert failed == {"secret hf-token", "quota"}
    assert CANARY not in well.out + well.err + ill.out + ill.err


def test_who_may_read_little_is_told_what_is_not_known(
    operated: Operated, bot: Bot, tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot.create(phase="hf").wait_ready()
    bot.kubectl("create", "role", "looks", "--verb=get,list", "--resource=chatbots.chatbot-operator.dev,pods")
    bot.kubectl("create", "rolebinding", "looks", "--role=looks", f"--serviceaccount={bot.namespace}:default")
    kubeconfig = account_kubeconfig(operated.access, tmp_path, account="default", namespace=bot.namespace)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    assert tool("status", "demo").code == 0
    little = tool("doctor", "demo", "-o", "json")
    assert little.code == 0, little.out
    found = {f["check"]: f["result"] for f in (*little.json["cluster"], *little.json["chatbots"]["demo"])}
    assert {name for name, result in found.items() if result == "unknown"} >= {
        *("operator", "storage class", "metrics API", "load balancer"),
        *("objects", "secret hf-token", "node", "quota"),
    }
    seen = {name: found[name] for name in ("API server", "definition", "ready")}
    assert seen == dict.fromkeys(seen, "ok"), little.out
    refused = tool("switch", "local", "demo")
    assert refused.code == 1
    assert "cannot list resource" in refused.err
    silent = tool("ask", "demo", "hello")
    assert silent.code == 3
    assert 'cannot get resource "pods/portforward"' in silent.err


def test_the_cost_is_that_of_the_status_and_by_the_operators_prices(bot: Bot, tool: Tool, tmp_path: Path) -> None:
    bot.create(**OUTSIDE).wait_ready()
    by_default = tool("cost", "demo", "-o", "json").json
    assert str(round(float(by_default["monthly"]))) == bot.status()["cost"]["monthly"]
    rows = {r["item"]: r["monthly"] for r in by_default["items"]}
    assert rows == {"backend pods": "12.80", "address": "18.00"}
    assert tool("cost", "demo", "--phase", "hf", "-o", "json").json["monthly"] == "43.60"
    (tmp_path / "prices.yaml").write_text("prices: {loadBalancer: 20, currency: EUR}\n")
    tried = tool("cost", "demo", "--prices", str(tmp_path / "prices.yaml"))
    assert re.search(r"^sum +32\.80$", tried.out, re.MULTILINE)
    assert "EUR A MONTH" in tried.out
    bot.access.apply(_operator(CPU_MONTHLY="108", WATCH_NAMESPACES=bot.namespace), namespace="chatbot-system")
    try:
        assert tool("cost", "demo", "-o", "json").json["monthly"] == "41.60"
    finally:
        bot.access.kubectl("delete", "deployment", "priced", "-n", "chatbot-system", "--wait=false")


def _operator(**settings: str) -> dict[str, Any]:
    """A Deployment as the chart makes it, of no pods."""
    labels = {"app.kubernetes.io/name": "chatbot-operator", "app.kubernetes.io/instance": "priced"}
    env = [{"name": f"CHATBOT_OPERATOR_{name}", "value": value} for name, value in settings.items()]
    container = {"name": "operator", "image": "localhost/chatbot-operator:test", "env": env}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "priced", "labels": labels},
        "spec": spec,
    }


def test_kubectl_finds_the_plugin_and_completes_its_lines(bot: Bot) -> None:
    bot.create()
    scripts = Path(sys.executable).parent
    env = os.environ | bot.access.environment | {"PATH": f"{scripts}:{os.environ['PATH']}"}

    def kubectl(*arguments: str) -> str:
        command = [str(bot.access.kubectl_path), *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60).stdout

    assert "demo" in kubectl("chatbot", "status", "-n", bot.namespace)
    assert kubectl("__complete", "chatbot", "switch", "").splitlines()[:3] == ["mock", "hf", "local"]
    offered = kubectl("__complete", "chatbot", "status", "-n", bot.namespace, "")
    assert offered.splitlines()[0] == "demo"
