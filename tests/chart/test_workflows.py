"""What reads workflows and Dockerfiles finds them sound, and the scripts do what they say. No cluster."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatbot_operator.api.generated import REPOSITORY
from devcluster.build import Programs
from devcluster.images import description
from devcluster.progress import Plain
from tests.support.helm import CHART
from tests.support.image_registry import Registry
from tests.support.workflow import FOLDER, load

SCRIPTS = REPOSITORY / ".github/scripts"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yml"))


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in load(name)["jobs"].values() for step in job.get("steps", [])]


def actionlint(*files: Path) -> subprocess.CompletedProcess[str]:
    program = Programs(Plain()).ensure(["actionlint"])["actionlint"]
    command = [str(program), "-no-color", "-oneline", *map(str, files)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_actionlint_has_nothing_to_say_and_would_have(tmp_path: Path) -> None:
    found = actionlint(*(FOLDER / f"{name}.yml" for name in NAMES))
    assert (found.returncode, found.stdout) == (0, "")
    broken = tmp_path / "broken.yml"
    broken.write_text((FOLDER / "deploy-demo.yml").read_text().replace("inputs.name }}", "inputs.nam }}"))
    assert '"nam" is not defined' in actionlint(broken).stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_has_few_rights_ends_in_time_and_calls_what_exists(name: str) -> None:
    document = load(name)
    assert document["permissions"] in ({}, {"contents": "read"})
    assert all("timeout-minutes" in job or "uses" in job for job in document["jobs"].values())
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    targets |= {"unit", "web", "control-plane", "chart", "security", "node", "node-load"}
    for step in steps(name):
        run = step.get("run", "")
        assert "${{" not in run, "an expression in a script is run as code"
        for target in re.findall(r"\bmake ([a-z][a-z-]*)", run):
            assert target in targets
        for script in re.findall(r"\.github/scripts/\S+\.sh", run):
            assert os.access(REPOSITORY / script, os.X_OK)


def test_every_script_is_called_by_a_workflow_and_is_sound_bash() -> None:
    called = " ".join(step.get("run", "") for name in NAMES for step in steps(name))
    for script in sorted(SCRIPTS.glob("*.sh")):
        assert f".github/scripts/{script.name}" in called
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
        assert re.search(r"^set -e?uo pipefail$", script.read_text(), re.MULTILINE)


def test_ci_builds_what_the_issue_of_a_change_may_break() -> None:
    run = [step.get("run", "") for step in steps("ci")]
    for wanted in ("make lint", "make docs", "make test", "make images", "make up KIND=1", "make migration"):
        assert any(wanted in command for command in run), wanted
    demo = subprocess.run(["make", "-n", "up", "KIND=1"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert "devcluster.demo --engine kind" in demo.stdout


def put(folder: Path, name: str, code: str) -> None:
    """A program of that name, in Python."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport json, os, subprocess, sys\n{code}\n")
    path.chmod(0o755)


def script(name: str, *arguments: str, programs: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", **env}
    command = [str(SCRIPTS / name), *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture
def publishing(registry: Registry, tmp_path: Path) -> Path:
    """Docker that pushes an image of one layer wherever it is told to build, and crane that knows the bases' digests;
    what either is told is in `said`."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (tmp_path / "layer").write_text("layer")
    subprocess.run(["tar", "-cf", tmp_path / "layer.tar", "-C", tmp_path, "layer"], check=True)
    put(
        folder,
        "docker",
        "if sys.argv[1:3] == ['buildx', 'build']:\n"
        f"    open({str(tmp_path / 'said')!r}, 'a').write(json.dumps(sys.argv) + '\\n')\n"
        "    target = sys.argv[sys.argv.index('--tag') + 1]\n"
        "    assert '--push' in sys.argv\n"
        f"    command = [{registry.crane!r}, 'append', '-f', {str(tmp_path / 'layer.tar')!r}, '-t', target]\n"
        "    sys.exit(subprocess.run(command, stdout=subprocess.DEVNULL).returncode)",
    )
    put(
        folder,
        "crane",
        f"if '{registry.address}' in sys.argv[-1]:\n    os.execv({registry.crane!r}, ['crane', *sys.argv[1:]])\n"
        "print('sha256:' + 'ab' * 32)",
    )
    return folder


def test_a_release_publishes_four_images_of_pinned_bases_and_then_the_chart(
    registry: Registry, chart: Path, publishing: Path, tmp_path: Path
) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    home = f"{registry.address}/Some-Owner"
    made = script(
        "release.sh", f"v{version}", home, programs=publishing, CHART=str(chart), PLAIN_HTTP="1", OUTPUT=str(tmp_path)
    )
    assert made.returncode == 0, made.stdout + made.stderr
    told = [json.loads(line) for line in (tmp_path / "said").read_text().splitlines()]
    assert len(told) == 4
    for command in told:
        pins = [command[i + 1] for i, word in enumerate(command) if word == "--build-arg"]
        assert pins
        assert all(pin.endswith("@sha256:" + "ab" * 32) for pin in pins)
        assert command[command.index("--platform") + 1] == "linux/amd64,linux/arm64"
    tags = subprocess.run(
        [registry.crane, "ls", f"{registry.address}/some-owner/charts/chatbot-operator"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert tags.stdout.split() == [version]
    assert (tmp_path / f"chatbot-operator-{version}.tgz").exists()


def test_a_tag_that_does_not_fit_the_chart_publishes_nothing(publishing: Path, tmp_path: Path) -> None:
    ended = script("release.sh", "v9.9.9", "127.0.0.1:1/me", programs=publishing)
    assert ended.returncode == 1
    assert "the tag says 9.9.9" in ended.stderr
    assert not (tmp_path / "said").exists()


def test_both_ranges_of_kind_are_routed_to_its_node_or_the_script_says_why_not(tmp_path: Path) -> None:
    put(tmp_path, "docker", "print('172.18.0.2' if sys.argv[-1] == 'dev-control-plane' else '')")
    put(tmp_path, "sudo", f"open({str(tmp_path / 'said')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')")
    assert script("kind-routes.sh", "dev", programs=tmp_path).returncode == 0
    assert (tmp_path / "said").read_text().splitlines() == [
        "ip route replace 10.96.0.0/16 via 172.18.0.2",
        "ip route replace 10.244.0.0/16 via 172.18.0.2",
    ]
    ended = script("kind-routes.sh", "other", programs=tmp_path)
    assert (ended.returncode, "has no address" in ended.stderr) == (1, True)


@pytest.mark.parametrize(("user", "compiler", "says"), [("0", "", "runs as '0'"), ("1:1", "/usr/bin/gcc", "compiler")])
def test_an_image_that_runs_as_root_or_holds_a_compiler_is_refused(
    tmp_path: Path, user: str, compiler: str, says: str
) -> None:
    put(
        tmp_path,
        "docker",
        f"if sys.argv[1] == 'image':\n    print({user!r})\n"
        f"if 'sh' in sys.argv:\n    sys.exit(0 if {compiler!r} else 1)",
    )
    ended = script("images-start.sh", "ci", programs=tmp_path)
    assert (ended.returncode, says in ended.stderr) == (1, True)
    put(tmp_path, "docker", "print('1:1') if sys.argv[1] == 'image' else None; sys.exit('sh' in sys.argv)")
    assert script("images-start.sh", "ci", programs=tmp_path).returncode == 0


def test_buildkit_reads_every_dockerfile_without_a_complaint_and_would_have_one(tmp_path: Path) -> None:
    program = Programs(Plain()).ensure(["dockerfile"])["dockerfile"]

    def said(*files: Path) -> tuple[int, str]:
        ended = subprocess.run([program, *files], capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout

    assert said(*(image.dockerfile for image in description.load().values())) == (0, "")
    broken = tmp_path / "Dockerfile"
    broken.write_text("FROM scratch as one\nENTRYPOINT python\nRUM x\n")
    code, text = said(broken)
    assert code == 1
    assert "FromAsCasing" in text
    assert "unknown instruction: RUM" in text
