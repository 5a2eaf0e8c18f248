"""The workflow that people copy, step by step on a real API server with Helm and the operator at work; then what the
pages tell to do with Helm.

Pods only seem to run there; what answers the question is a real backend on this machine."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from chatbot_operator.api.generated import REPOSITORY
from tests.chart.conftest import Release
from tests.support.chatbot import Bot
from tests.support.cluster import ClusterAccess
from tests.support.documents import every_fence
from tests.support.helm import CHART, helm
from tests.support.operator import FakePods, wait_for
from tests.support.workflow import Job, load

NAMESPACE = "chatbot-system"


@pytest.fixture(scope="module")
def programs(control_plane: ClusterAccess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a runner has on its PATH. Its port-forward leads to a mock backend on this machine."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "helm").symlink_to(helm("helm").program)
    kubectl = folder / "kubectl"
    serve = f"env CHATBOT_PRE_STOP_SECONDS=0 {sys.executable} -m chatbot_runtime serve --phase mock --internal-port 0"
    kubectl.write_text(
        "#!/bin/bash\n"
        'if [ "$1" != port-forward ]; then\n'
        f'  exec {control_plane.kubectl_path} "$@"\n'
        "fi\n"
        f'ports=${{@: -1}}; cd {REPOSITORY} && exec {serve} --port "${{ports%%:*}}"\n'
    )
    kubectl.chmod(0o755)
    return folder


@pytest.fixture
def job(control_plane: ClusterAccess, programs: Path, tmp_path: Path) -> Job:
    inputs = load("deploy-demo")["on"]["workflow_dispatch"]["inputs"]
    values = {f"inputs.{name}": str(given["default"]) for name, given in inputs.items()}
    values["secrets.KUBECONFIG"] = control_plane.kubeconfig.read_text()
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "CHART": str(CHART)}
    return Job(load("deploy-demo")["jobs"]["deploy"], tmp_path, values, environment)


@pytest.fixture
def installed(control_plane: ClusterAccess, pods: FakePods, job: Job, tmp_path: Path) -> Iterator[Release]:
    """The first two steps, and the operator that they install at work."""
    for step in ("Reach the cluster", "Install the operator"):
        ended = job.run(step)
        assert ended.returncode == 0, ended.stderr
    release = Release(control_plane, NAMESPACE, tmp_path, pods)
    with release.operator():
        yield release
    release.uninstall()


def test_its_steps_install_the_operator_make_a_chatbot_and_show_its_answer(installed: Release, job: Job) -> None:
    for _ in range(2):  # run again, it finds all there
        made = job.run("Make the chatbot")
        assert made.returncode == 0, made.stdout + made.stderr
        assert "Serving" in made.stdout
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    asked = job.run("Ask it", PORT=str(port), PYTHONPATH=str(REPOSITORY))
    assert asked.returncode == 0, asked.stderr
    assert "## demo answers" in job.summary
    assert "> This is a" in job.summary or "> Hello" in job.summary
    with socket.socket() as probe:
        wait_for("nothing is left behind", lambda: probe.connect_ex(("127.0.0.1", port)) != 0, 10)


def test_a_chatbot_that_does_not_become_ready_fails_the_step_with_its_reason(installed: Release, job: Job) -> None:
    hosted = "{phase: hf, hf: {baseURL: 'https://llm.example.com/v1'}}"
    script = next(step for step in job.document["steps"] if step["name"] == "Make the chatbot")
    script["run"] = script["run"].replace("{phase: mock}", hosted)
    assert "--timeout=2m" in script["run"]
    script["run"] = script["run"].replace("--timeout=2m", "--timeout=1s")
    job.run("Make the chatbot", NAME="other")
    bot = Bot(installed.access, "chatbot-demo", "other")
    bot.wait_reason("EndpointNotAllowed", 30)
    ended = job.run("Make the chatbot", NAME="other")
    assert ended.returncode == 1
    assert "EndpointNotAllowed" in ended.stdout


def test_what_the_pages_tell_to_do_with_helm_works(installed: Release, job: Job) -> None:
    env = {**job.environment, "HOME": str(job.folder)}  # what Helm and kubectl remember
    typed = [fence for fence in every_fence() if (fence.mark, fence.said) == ("run", "chart")]
    assert len(typed) > 2
    for fence in typed:
        for command in fence.commands:
            ended = subprocess.run(
                ["bash", "-c", command],
                cwd=REPOSITORY,
                env=env,
                capture_output=True,
                text=True,
                check=False,
            )
            assert ended.returncode == 0, f"{fence}: {command}\n{ended.stderr}"
        if "allowedHosts" in " ".join(fence.commands):
            (container,) = installed.deployment()["spec"]["template"]["spec"]["containers"]
            assert "vllm.models.svc" in next(
                e["value"] for e in container["env"] if e["name"].endswith("ALLOWED_HOSTS")
            )


def test_without_the_secret_the_first_step_says_what_to_do(job: Job) -> None:
    ended = job.run("Reach the cluster", GIVEN="")
    assert ended.returncode == 1
    assert ended.stdout.startswith("::error::The secret KUBECONFIG is not set")


def test_a_cluster_that_cannot_be_reached_is_told_and_the_secret_is_not_shown(job: Job) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = yaml.safe_load(job.values["secrets.KUBECONFIG"])
    given["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    text = yaml.safe_dump(given)
    ended = job.run("Reach the cluster", GIVEN=text)
    assert ended.returncode == 1
    assert "does not answer" in ended.stdout
    secrets = [value for user in given["users"] for value in user["user"].values()]
    assert secrets
    assert not [secret for secret in secrets if secret in ended.stdout + ended.stderr]
