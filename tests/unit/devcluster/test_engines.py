"""A given cluster is checked and left alone; kind and Docker are asked for the same things that CI would ask for."""

import io
import json
import os
from pathlib import Path

import pytest

from devcluster import cli, kind
from devcluster.engines import Running
from devcluster.images import description
from devcluster.progress import Plain, Silent


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the head of the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def install(folder: Path, name: str, script: str) -> Path:
    """A program that notes its arguments and then runs a shell script; the path of its notes."""
    notes = folder / f"{name}.log"
    (folder / name).write_text(f'#!/bin/sh\necho "$@" >> {notes}\n{script}\n')
    (folder / name).chmod(0o755)
    return notes


def asked(notes: Path) -> list[str]:
    return notes.read_text().splitlines()


def test_kind_creates_a_cluster_once_and_always_writes_its_kubeconfig(tmp_path: Path, program: Path) -> None:
    made = tmp_path / "made"
    script = (
        f'case "$1 $2" in "get clusters") cat {made} 2>/dev/null;; "create cluster") echo dev > {made};; esac; exit 0'
    )
    notes = install(program, "kind", script)
    for _ in range(2):
        kubeconfig = kind.up("dev", 2, tmp_path / "state", Silent())
    assert kubeconfig == tmp_path / "state" / "kubeconfig"
    assert sum(line.startswith("create cluster --name dev") for line in asked(notes)) == 1
    assert sum(line.startswith("export kubeconfig --name dev") for line in asked(notes)) == 2


def test_kind_gets_a_metrics_api_and_goes_on_where_it_cannot_be_had(tmp_path: Path, program: Path) -> None:
    notes = install(program, "helm", "exit 0")
    kind.metrics(tmp_path / "kubeconfig", str(program / "helm"), Silent())
    (said,) = asked(notes)
    assert said.startswith("upgrade --install metrics-server metrics-server --repo https://")
    assert "args={--kubelet-insecure-tls}" in said
    install(program, "helm", "echo there is no network >&2; exit 1")
    said_to_people = io.StringIO()
    kind.metrics(tmp_path / "kubeconfig", str(program / "helm"), Plain(said_to_people))
    assert "no metrics API" in said_to_people.getvalue()


def test_kind_gets_one_worker_less_than_nodes_are_wanted() -> None:
    assert kind.configuration(1).count("role:") == 1
    assert kind.configuration(3).count("role: worker") == 2


def test_an_image_is_built_by_its_dockerfile_and_loaded_under_a_tag_of_its_contents(program: Path) -> None:
    docker, loaded = install(program, "docker", "exit 0"), install(program, "kind", "exit 0")
    image = description.load()["chatbot-runtime"]
    reference = kind.load_image("dev", image, Silent())
    assert reference == f"localhost/chatbot-runtime:{kind.image_tag(image)}"
    (build,) = asked(docker)
    assert f"--file {image.dockerfile}" in build
    assert f"--tag {reference}" in build
    assert asked(loaded) == [f"load docker-image {reference} --name dev"]


def test_down_deletes_the_kind_cluster_and_its_record(tmp_path: Path, program: Path) -> None:
    notes = install(program, "kind", '[ "$1" = get ] && echo dev; exit 0')
    state = tmp_path / "state"
    Running("kind", str(state / "kubeconfig")).write(state)
    assert cli.main(["down", "--name", "dev", "--state-dir", str(state)]) == 0
    assert "delete cluster --name dev" in asked(notes)
    assert not state.exists()


def test_a_given_cluster_that_answers_is_used_and_left_alone_by_down(
    tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = install(program, "kubectl", "echo ok")
    monkeypatch.setenv("KUBECONFIG", "/somewhere/config")
    state = ["--state-dir", str(tmp_path / "state")]
    assert cli.main(["status", *state]) == 1
    capsys.readouterr()
    running = Running("given", "/somewhere/config")
    running.write(tmp_path / "state")
    assert cli.main(["env", "--output", "json", *state]) == 0
    assert json.loads(capsys.readouterr().out) == {"KUBECONFIG": "/somewhere/config"}
    assert cli.main(["down", *state]) == 0
    assert Running.read(tmp_path / "state") is None
    assert not notes.exists(), "down asks nothing of a given cluster"


def test_a_given_cluster_that_does_not_answer_is_refused_with_a_remedy(
    tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(program, "kubectl", "echo 'connection refused' >&2; exit 1")
    monkeypatch.setenv("KUBECONFIG", "/somewhere/config")
    assert cli.main(["up", "--state-dir", str(tmp_path / "state")]) == 1
    said = capsys.readouterr().err
    assert "does not answer: connection refused" in said
    assert "unset it" in said
    assert Running.read(tmp_path / "state") is None


def test_doctor_answers_in_json_what_scripts_need(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["doctor", "--level", "control-plane", "--output", "json"])
    found = json.loads(capsys.readouterr().out)
    verdicts = {check["name"]: check["verdict"] for check in found["checks"]}
    assert {"Go", "programs", "addresses"} <= verdicts.keys()
    assert code == int("missing" in verdicts.values())
