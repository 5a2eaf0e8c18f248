"""kube-score finds nothing critical in what the chart and the operator make, but for what is listed here."""

import json
import subprocess
from pathlib import Path

from devcluster.build import Programs
from devcluster.progress import Plain
from tests.chart import manifests

SKIPS = {
    "container-ephemeral-storage-request-and-limit": "beside an engine the runtime writes to one volume with a limit",
    "container-resources": manifests.CPU_LIMIT,
    "service-targets-pod": "the pod behind a download's Service is a Job's, which it does not look at",
    "pod-probes-identical": "nginx is alive exactly while it serves",
}
CRITICAL = 1


def findings(paths: list[Path], *options: str) -> set[tuple[str, str]]:
    """Rules that are broken, and where."""
    program = Programs(Plain()).ensure(["kube-score"])["kube-score"]
    found = set()
    for path in paths:
        command = [str(program), "score", "--output-format", "json", *options, str(path)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        for judged in json.loads(ended.stdout):
            for check in judged["checks"] or ():
                if not check["skipped"] and check["grade"] <= CRITICAL:
                    found.add((check["check"]["id"], f"{path.stem}: {judged['object_name']}"))
    return found


def test_nothing_critical_is_found_but_what_is_listed(tmp_path: Path) -> None:
    paths = manifests.write(tmp_path)
    found = findings(paths)
    assert {f for f in found if f[0] not in SKIPS} == set()
    assert {rule for rule, _ in found} == set(SKIPS), "a rule that is followed by now needs no skip"


def test_it_would_be_found(tmp_path: Path) -> None:
    """A pod without any of what we give ours."""
    (tmp_path / "bad.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: [{name: bad, image: bad}]}\n"
    )
    rules = {rule for rule, _ in findings([tmp_path / "bad.yaml"])}
    assert {"container-image-tag", "container-resources", "pod-networkpolicy"} <= rules
