"""A load on a chatbot from a pod beside it: started, watched and ended. No test logic here.

What is asked, and what counts as an answer, is in load_client.py, which runs in that pod."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.chatbot import Bot
from tests.support.load_client import PROGRESS, REPORT, STARTED, STOP, Answers, Job, Tally
from tests.support.operator import wait_for

SCRIPT = Path(__file__).with_name("load_client.py")
POD_LABEL = "chatbot-test/load"
OPEN_DOOR = {"requestsPerMinute": 100_000, "concurrentRequests": 1000}
"""`spec.access` of a chatbot under load: it comes from one address, and limits per client are not what is tested."""


@dataclass(frozen=True)
class Load:
    """A running load."""

    bot: Bot
    name: str

    def _last(self, mark: str, tail: int) -> str:
        lines = self.bot.kubectl("logs", self.name, f"--tail={tail}", check=False).splitlines()
        return next((line.removeprefix(mark) for line in reversed(lines) if line.startswith(mark)), "")

    def progress(self) -> tuple[int, int, int]:
        """Short answers, streams and problems so far."""
        short, streams, problems = json.loads(self._last(PROGRESS, 2) or "[0, 0, 0]")
        return short, streams, problems

    def wait_more(self, short: int, streams: int, timeout: float = 60) -> None:
        """Return once so many more have come."""
        before = self.progress()
        wait_for(
            f"{short} more answers and {streams} more streams",
            lambda: self.progress()[0] >= before[0] + short and self.progress()[1] >= before[1] + streams,
            timeout,
            0.5,
        )

    def result(self) -> Tally:
        """Stop it, wait for its running answers, and count."""
        self.bot.kubectl("exec", self.name, "--", "touch", str(STOP))
        found = json.loads(wait_for("the load has reported", lambda: self._last(REPORT, -1), 90, 0.5))
        return Tally(**found)


def service_url(bot: Bot, service: str = "") -> str:
    """The URL of a Service's own address, the chatbot's public one unless named."""
    spec = bot.get(f"service/{service or bot.name}")["spec"]
    return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"


@contextmanager
def load(
    bot: Bot,
    answers: Answers,
    *,
    service: str = "",
    short: int = 4,
    streams: int = 4,
    pause: float = 0.02,
    longest_seconds: float = 240,
    client: Path | None = None,
) -> Iterator[Load]:
    """Clients in a pod that ask one after the other, half of the short ones on connections that they keep.

    Every answer must be one of `answers`. It starts once the first answer has come; it ends by itself.
    `client`: a script that runs in place of load_client.py, which it may import as `load`.
    """
    name = f"load-{service or bot.name}"
    job = Job(service_url(bot, service), answers, short, streams, pause, longest_seconds)
    data = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"load.py": SCRIPT.read_text()} | ({"client.py": client.read_text()} if client else {}),
    }
    script = "client.py" if client else "load.py"
    container = {
        "name": "load",
        "image": bot.access.images["chatbot-runtime"],
        "command": ["python", f"/load/{script}", json.dumps(asdict(job))],
        "volumeMounts": [{"name": "load", "mountPath": "/load"}],
        # On a busy node a client without any would be so slow that a server must take it for a stalled one.
        "resources": {"requests": {"cpu": "300m"}},
    }
    spec = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "load", "configMap": {"name": name}}],
        "terminationGracePeriodSeconds": 1,
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {POD_LABEL: "true"}}, "spec": spec}
    bot.access.apply(data, pod, namespace=bot.namespace)
    wait_for("the load runs", lambda: STARTED in bot.kubectl("logs", name, check=False), 90, 0.5)
    try:
        yield Load(bot, name)
    finally:
        bot.kubectl("delete", f"pod/{name}", f"configmap/{name}", "--wait=false")
