"""`make up`: a cluster, the operator in it by its chart, a chatbot, one question. The only module here that knows
what the cluster is for."""

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from devcluster import cli, state
from devcluster.build import Programs
from devcluster.engines import Running
from devcluster.errors import DevClusterError
from devcluster.images.description import CHECKOUT
from devcluster.processes import wait_until
from devcluster.progress import Progress, for_this_terminal

RELEASE = "chatbot-operator"
NAMESPACE = "chatbot-system"
EXAMPLE = "examples/mock.yaml"
CHATBOT = "demo"
QUESTION = "Hello! Who are you?"
# Time for the operator and then for the chatbot to become ready, in seconds.
READY_SECONDS = 180
# Time until the Service of a ready chatbot answers, in seconds: the node's proxy learns of its pods with a delay.
ANSWER_SECONDS = 30


def up(arguments: Sequence[str]) -> int:
    """Everything from a bare machine to a chatbot that answers; done again, it updates what is there."""
    began = time.monotonic()
    if code := cli.main(["up", *arguments]):
        return code
    options = cli.parser().parse_args(["up", *arguments])
    folder = (options.state_dir or state.default_state_dir(options.name)).resolve()
    running = Running.read(folder)
    if running is None:
        raise DevClusterError("the cluster's record is missing", "run `make down`, then `make up`")
    progress = for_this_terminal()
    programs = Programs(progress)
    programs.ensure(["kubectl", "helm"])
    env = {**os.environ, "KUBECONFIG": running.kubeconfig}
    env["PATH"] = ":".join([*(str(programs.path(p).parent) for p in ("kubectl", "helm")), env.get("PATH", "")])
    install(env, running.images, progress)
    with progress.step(f"chatbot {CHATBOT} is ready", usual=5):
        call(env, "kubectl", "apply", "-n", "default", "-f", EXAMPLE)
        timeout = f"--timeout={READY_SECONDS}s"
        call(env, "kubectl", "wait", "-n", "default", "--for=condition=Ready", f"chatbot/{CHATBOT}", timeout)
    bring_in(env, running.images, progress)
    with address(env, running) as url:
        await_answer(url)
        show(env, url)
    page = url if running.engine == "embedded" else ""
    print(next_steps(running, options.name, time.monotonic() - began, page))
    return 0


VALUES = {"image": "chatbot-operator", "images.runtime": "chatbot-runtime", "images.web": "chatbot-web"}
"""The chart's values for our images."""


CHART = "charts/chatbot-operator"


def install(
    env: Mapping[str, str],
    images: Mapping[str, str],
    progress: Progress,
    settings: Sequence[str] = (),
    chart: str = CHART,
) -> None:
    """Install the chart, or upgrade it, with the images that the cluster holds. `settings` are further `name=value`."""
    values = []
    for setting in settings:
        values += ["--set-string" if setting.startswith("settings.") else "--set", setting]
    for key, name in VALUES.items():
        if name in images:
            repository, _, tag = images[name].rpartition(":")
            values += ["--set", f"{key}.repository={repository}", "--set-string", f"{key}.tag={tag}"]
    with progress.step("operator is ready", usual=10):
        helm = ("helm", "upgrade", "--install", RELEASE, chart, "--namespace", NAMESPACE)
        call(env, *helm, "--create-namespace", "--wait", f"--timeout={READY_SECONDS}s", *values)


def bring_in(env: Mapping[str, str], images: Mapping[str, str], progress: Progress) -> None:
    """Wait until the chatbot's pods run these images: the operator rolls a change of its own making at its own pace."""
    path, timeout = "jsonpath={.spec.template.spec.containers[0].image}", f"--timeout={READY_SECONDS}s"
    for component, name in (("backend", "chatbot-runtime"), ("web", "chatbot-web")):
        if image := images.get(name, ""):
            deployment = f"deployment/{CHATBOT}-{component}"
            with progress.step(f"its {component} pods run this code"):
                call(env, "kubectl", "wait", "-n", "default", deployment, f"--for={path}={image}", timeout)
                call(env, "kubectl", "rollout", "status", "-n", "default", deployment, timeout)


def call(env: Mapping[str, str], *command: str) -> str:
    """What a program prints. Raises DevClusterError with what it complained about."""
    result = subprocess.run(command, cwd=CHECKOUT, env=dict(env), capture_output=True, text=True, check=False)
    if result.returncode:
        raise DevClusterError(
            f"`{' '.join(command)}` failed: {result.stderr.strip()[-1500:]}",
            "see `kubectl get chatbots -A -o wide` and `kubectl get pods -A`",
        )
    return result.stdout


@contextmanager
def address(env: Mapping[str, str], running: Running) -> Iterator[str]:
    """A URL of the chatbot that works on this machine: the Service's own address, or a port-forward to it."""
    if running.engine == "embedded":
        found = call(env, "kubectl", "get", "service", CHATBOT, "-n", "default", "-o", "jsonpath={.spec.clusterIP}")
        yield f"http://{found}"
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ("kubectl", "port-forward", "-n", "default", f"service/{CHATBOT}", f"{port}:80")
    forward = subprocess.Popen(command, env=dict(env), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        forward.terminate()
        forward.wait(timeout=10)


def await_answer(url: str) -> None:
    """Return once the address answers. Raises DevClusterError after a while."""

    def answers() -> bool:
        with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(f"{url}/v1/status", timeout=2):  # noqa: S310
            return True
        return False

    try:
        wait_until(f"{url} answers", answers, ANSWER_SECONDS, 0.1)
    except TimeoutError:
        raise DevClusterError(f"{url} does not answer", "see `kubectl get endpointslices`") from None


def show(env: Mapping[str, str], url: str) -> None:
    """The chatbot as kubectl lists it, and an answer while it comes."""
    print(f"\n$ kubectl get chatbots\n{call(env, 'kubectl', 'get', 'chatbots', '-n', 'default')}", flush=True)
    print(f'$ python -m chatbot_runtime ask "{QUESTION}" --url {url}', flush=True)
    ask = (sys.executable, "-m", "chatbot_runtime", "ask", QUESTION, "--url", url)
    if subprocess.run(ask, cwd=CHECKOUT, check=False).returncode:
        raise DevClusterError(f"{url} did not answer the question", "see `kubectl logs deployment/demo-backend`")


def next_steps(running: Running, name: str, seconds: float, page: str) -> str:
    """What to do with it now. `page`: the address of the chat page; empty if a port-forward leads to it."""
    flag = "" if name == "dev" else f" --name {name}"
    python = ".venv/bin/python" if (CHECKOUT / ".venv").exists() else "python"
    where = (
        f'eval "$({python} -m devcluster env{flag})"'
        if running.engine == "embedded"
        else f"export KUBECONFIG={running.kubeconfig}"
    )
    forward = f"kubectl port-forward -n default service/{CHATBOT} 8080:80"
    chat = f"Chat at {page}" if page else f"Chat at http://127.0.0.1:8080 after `{forward}`"
    return f"""
Up in {seconds:.0f} s. {chat}

Point kubectl at the cluster:

  {where}

Then try:

  kubectl get chatbots
  kubectl edit chatbot {CHATBOT}          # for example spec.mock.replies; running pods have it within seconds
  kubectl patch chatbot {CHATBOT} --type merge -p '{{"spec":{{"mock":{{"replies":["Good morning!"]}}}}}}'
  kubectl describe chatbot {CHATBOT}

`make up` again brings changed code in; `make down` removes everything.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Arguments are those of `python -m devcluster up`."""
    parser = argparse.ArgumentParser(prog="python -m devcluster.demo", description=main.__doc__)
    _, rest = parser.parse_known_args(arguments)
    try:
        return up(rest)
    except DevClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `make up` goes on, `make down` removes everything", file=sys.stderr)
        return cli.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
