"""The operator as a process of its own, with the rights that the chart grants and nothing more, against any cluster;
and pods of fake nodes that answer /status as the runtime would. No test logic here."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from chatbot_operator import names
from chatbot_operator.cluster import NotFound
from chatbot_operator.kinds import CONFIG_MAP, POD, Ref
from chatbot_operator.kube import Kube
from chatbot_runtime.contract import PodStatus, settings_hash
from devcluster.build import Programs
from devcluster.processes import wait_until
from devcluster.progress import Plain
from tests.support.cluster import ClusterAccess, await_definition
from tests.support.loop_thread import LoopThread

CHART = Path("charts/chatbot-operator")
NAMESPACE = "chatbot-system"
RELEASE = "chatbot-operator"
CLUSTER_ROLE = f"{NAMESPACE}:{RELEASE}"
_PROCESS_KINDS = ("Deployment", "Service", "PodDisruptionBudget")


def install(access: ClusterAccess) -> None:
    """Everything of the chart but the process: definition, account, rights, Lease."""
    helm = Programs(Plain()).ensure(["helm"])["helm"]
    rendered = subprocess.run(
        [str(helm), "template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--no-hooks"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    objects = [o for o in yaml.safe_load_all(rendered) if o and o["kind"] not in _PROCESS_KINDS]
    access.kubectl("create", "namespace", NAMESPACE, check=False)
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    access.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=listed)
    await_definition(access, "chatbots.chatbot-operator.dev")


def account_kubeconfig(
    access: ClusterAccess, folder: Path, *, account: str = RELEASE, namespace: str = NAMESPACE
) -> Path:
    """A kubeconfig with a token of an account, the operator's own unless said otherwise."""
    token = access.kubectl("create", "token", account, "-n", namespace, "--duration=4h").stdout.strip()
    raw = json.loads(access.kubectl("config", "view", "--raw", "--flatten", "-o", "json").stdout)
    context = next(c for c in raw["contexts"] if c["name"] == raw["current-context"])
    raw["users"] = [{"name": "operator", "user": {"token": token}}]
    raw["contexts"] = [{"name": "operator", "context": {**context["context"], "user": "operator"}}]
    raw["current-context"] = "operator"
    path = folder / "operator.kubeconfig"
    path.write_text(json.dumps(raw))
    path.chmod(0o600)
    return path


@dataclass
class OperatorProcess:
    """One operator. Its log is JSON lines in `log_path`."""

    kubeconfig: Path
    log_path: Path
    settings: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = field(default=None)
    _began: int = 0
    """Where in the log this start begins."""

    def start(self) -> None:
        """Start it; returns at once."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("CHATBOT_OPERATOR_")}
        env |= {"KUBECONFIG": str(self.kubeconfig)} | {f"CHATBOT_OPERATOR_{k}": v for k, v in self.settings.items()}
        with self.log_path.open("ab") as log:
            self._began = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "chatbot_operator"], env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, as a kubelet would."""
        self._end(signal.SIGTERM)

    def _end(self, sig: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(sig)
            self.process.wait(timeout=30)
            self.process = None

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def exit_code(self) -> int | None:
        """Of a process that has ended by itself."""
        return self.process.poll() if self.process else None

    def lines(self, *, since: int = 0) -> list[dict[str, Any]]:
        """The log from a byte on, parsed; a line that is not JSON is an entry of level RAW."""
        entries = []
        for line in self.log_path.read_bytes()[since:].decode().splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:
                entries.append({"level": "RAW", "message": line})
        return entries

    def port(self) -> int:
        """The port of its probes and metrics, once it listens."""

        def found() -> int | None:
            ports = [
                e["message"].rsplit(" ", 1)[1]
                for e in self.lines(since=self._began)
                if "listens on port" in e["message"]
            ]
            return int(ports[-1]) if ports else None

        port: int = wait_for("the operator listens", found, 20)
        return port

    def http(self, path: str) -> tuple[int, str]:
        """Status and text of one of its own pages."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port()}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def rss_mib(self) -> float:
        """Resident memory now, in MiB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


DEAR_SECONDS = 0.3
"""The longest pause after a probe that itself takes long."""


def wait_for(what: str, probe: Any, timeout: float, interval: float = 0.1) -> Any:
    """The first truthy value of `probe()`; AssertionError with the last value after `timeout` seconds.

    A dear probe, such as kubectl, is asked less often: it would slow down what is waited for.
    """
    end = time.monotonic() + timeout
    while True:
        asked = time.monotonic()
        value = probe()
        now = time.monotonic()
        if value:
            return value
        assert now < end, f"not within {timeout} s: {what} (last: {value!r})"
        time.sleep(max(interval, min(3 * (now - asked), DEAR_SECONDS)))


class FakePods(LoopThread):
    """Answers /status for pods of fake nodes: what the runtime would say that reads the pod's ConfigMap.

    `overrides` by pod name replace fields of the answer, or the whole HTTP status by {"http": 500}; those under
    "<namespace>/*" hold for every pod of the namespace, one that is made later included.
    """

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__()
        self._kubeconfig = kubeconfig
        self.overrides: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{{namespace}}/{{name}}"

    async def _close(self) -> None:
        await self._kube.close()
        await self._runner.cleanup()

    async def _serve(self) -> None:
        configuration = Configuration()
        load = config.load_kube_config
        await load(config_file=str(self._kubeconfig), client_configuration=configuration)  # type: ignore[no-untyped-call]
        self._kube = Kube(ApiClient(configuration))
        app = web.Application()
        app.add_routes([web.get("/{namespace}/{name}", self._status)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _status(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        self.asked += 1
        override = self.overrides.get(f"{namespace}/*", {}) | self.overrides.get(name, {})
        if "http" in override:
            return web.Response(status=override["http"])
        try:
            pod = await self._kube.get(Ref(POD, namespace, name))
            labels = pod["metadata"]["labels"]
            chatbot = labels[names.CHATBOT_LABEL]
            settings = await self._kube.get(Ref(CONFIG_MAP, namespace, names.backend(chatbot)))
        except NotFound:
            return web.Response(status=503)
        status = PodStatus(
            chatbot=chatbot,
            phase=labels[names.PHASE_LABEL],
            revision=labels[names.REVISION_LABEL],
            ready=True,
            settings_hash=settings_hash(settings["data"][names.SETTINGS_KEY]),
        )
        return web.json_response(status.model_dump(mode="json", by_alias=True) | override)


@contextmanager
def operator_on(
    access: ClusterAccess, folder: Path, settings: Mapping[str, str] | None = None, *, installed: bool = True
) -> Iterator[tuple[OperatorProcess, FakePods]]:
    """The chart's objects, fake pods' states and a running operator; ended at the end of the block.

    With `installed` false the definition is taken away again before the operator starts.
    """
    install(access)
    if not installed:
        access.kubectl("delete", "crd", "chatbots.chatbot-operator.dev")
    pods = FakePods(access.kubeconfig)
    pods.start()
    defaults = {
        "NAMESPACE": NAMESPACE,
        "IDENTITY": "test",
        "LEASE_NAME": RELEASE,
        "HOST": "127.0.0.1",
        "PORT": "0",
        "POD_STATUS_URL": pods.url,
        "RUNTIME_IMAGE": "localhost/chatbot-runtime:test",
        "WEB_IMAGE": "localhost/chatbot-web:test",
    }
    operator = OperatorProcess(
        account_kubeconfig(access, folder), folder / "operator.log", {**defaults, **(settings or {})}
    )
    operator.start()
    try:
        if installed:
            wait_until("the operator is ready", lambda: operator.http("/readyz")[0] == 200, 30.0, 0.1)
        yield operator, pods
    finally:
        operator.kill()
        pods.stop()
