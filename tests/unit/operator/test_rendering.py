"""The children as manifests: of each example against a kept file, and of any spec against what must always hold.

UPDATE_GOLDEN=1 writes the kept files anew; read the difference before you commit it.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatbot_operator import names
from chatbot_operator.actions import Apply
from chatbot_operator.kinds import DEPLOYMENT, POD, REPLICA_SET, ref_of
from chatbot_operator.plan import BUILT
from tests.support.scenes import Scene, serving

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
KEPT = Path(__file__).resolve().parents[2] / "data" / "rendered"
DNS_LABEL = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")


def as_built(stem: str) -> dict[str, Any]:
    """The example's spec, in phase mock where its own is not served yet."""
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{stem}.yaml").read_text())["spec"]
    if found["phase"] not in BUILT:
        found["phase"] = "mock"
    return found


def children(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """What a Chatbot of this spec has in the end, in the order of the plan."""
    scene = serving(spec)
    return [dict(action.body) for action in scene.plan().actions if isinstance(action, Apply)]


@pytest.mark.parametrize("stem", sorted(path.stem for path in EXAMPLES.glob("*.yaml")))
def test_an_example_is_rendered_as_it_was(stem: str) -> None:
    text = yaml.safe_dump_all(children(as_built(stem)), sort_keys=True)
    kept = KEPT / f"{stem}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        kept.write_text(text)
    assert text == kept.read_text()


def restricted(template: dict[str, Any]) -> list[str]:
    """What Pod Security `restricted` would refuse (https://kubernetes.io/docs/concepts/security/pod-security-standards/)."""
    spec, wrong = template["spec"], []
    pod = spec["securityContext"]
    if not pod["runAsNonRoot"] or pod["runAsUser"] == 0:
        wrong.append("may run as root")
    if pod["seccompProfile"]["type"] not in ("RuntimeDefault", "Localhost"):
        wrong.append("seccomp")
    if any(spec.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")):
        wrong.append("host namespaces")
    kinds = {"configMap", "emptyDir", "projected", "secret", "downwardAPI", "csi", "persistentVolumeClaim", "ephemeral"}
    wrong += [f"volume {v['name']}" for v in spec["volumes"] if not kinds & v.keys()]
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        own = container["securityContext"]
        if own["allowPrivilegeEscalation"] or own.get("privileged"):
            wrong.append("privileges")
        if own["capabilities"]["drop"] != ["ALL"] or own["capabilities"].get("add"):
            wrong.append("capabilities")
        if any("hostPort" in port for port in container.get("ports", [])):
            wrong.append("host ports")
    return wrong


NAMES = st.from_regex(r"\A[a-z]([-a-z0-9]{0,43}[a-z0-9])?\Z")
WORDS = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), min_size=1, max_size=12)
QUANTITIES = st.sampled_from(["1m", "100m", "1", "64Mi", "1Gi"])
SPECS = st.fixed_dictionaries(
    {"phase": st.just("mock")},
    optional={
        "systemPrompt": st.text(max_size=200),
        "suspend": st.just(False),
        "mock": st.fixed_dictionaries(
            {},
            optional={
                "replies": st.lists(st.text(min_size=1, max_size=50), max_size=3),
                "resources": st.builds(
                    lambda cpu, limit: {"requests": {"cpu": cpu}, "limits": {"ephemeral-storage": limit}},
                    QUANTITIES,
                    QUANTITIES,
                ),
            },
        ),
        "access": st.just({"mode": "APIKey", "keysSecretRef": {"name": "keys"}}),
        "backend": st.sampled_from([{"rollout": "Replace"}, {"replicas": 3, "autoscaling": {"enabled": False}}]),
        "pods": st.fixed_dictionaries(
            {},
            optional={
                "labels": st.dictionaries(WORDS, WORDS, max_size=3)
                | st.just({"app.kubernetes.io/component": "web", names.CHATBOT_LABEL: "other"}),
                "annotations": st.dictionaries(WORDS, st.text(max_size=30), max_size=2),
                "imageRegistry": st.sampled_from(["mirror.example.com", "mirror.example.com:5000/a/"]),
                "nodeSelector": st.dictionaries(WORDS, WORDS, max_size=2),
                "tolerations": st.just([{"operator": "Exists"}]),
            },
        ),
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SPECS)
def test_of_any_spec_pods_are_restricted_and_our_labels_and_replicas_are_ours(spec: dict[str, Any]) -> None:
    bodies = children(spec)
    deployments = [b for b in bodies if b["kind"] == DEPLOYMENT.name]
    for deployment, component in zip(deployments, ("backend", "web"), strict=True):
        template = deployment["spec"]["template"]
        assert restricted(template) == []
        assert "replicas" not in deployment["spec"]
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert selector.items() <= template["metadata"]["labels"].items()
        assert selector["app.kubernetes.io/component"] == component
        assert template["metadata"]["labels"][names.CHATBOT_LABEL] == "demo"
        assert not template["spec"]["automountServiceAccountToken"]
        assert template["spec"]["terminationGracePeriodSeconds"] > 300
        container = template["spec"]["containers"][0]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        # F1: else a process that hangs would keep its pod for the whole grace that is meant for streams.
        assert container["livenessProbe"]["terminationGracePeriodSeconds"] <= 10
    container = deployments[0]["spec"]["template"]["spec"]["containers"][0]
    # Else liveness kills every start on a node so busy that a start takes longer than liveness waits.
    start = container["startupProbe"]
    assert start["httpGet"] == container["livenessProbe"]["httpGet"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 60


@settings(deadline=None)
@given(NAMES)
def test_of_any_name_every_child_has_a_name_of_its_kind_and_none_twice(name: str) -> None:
    scene = Scene({"phase": "mock"})
    scene.raw["metadata"]["name"] = name
    made = [a.ref for a in scene.plan().actions if isinstance(a, Apply)]
    assert len(set(made)) == len(made)
    assert all(DNS_LABEL.match(ref.name) for ref in made)
    assert all(len(n) <= 63 for n in (names.download(name, "12345678"), names.claim(name, "fast", "ReadWriteOnce")))


def test_every_child_is_owned_and_found_by_the_watch() -> None:
    for body in children({"phase": "mock"}):
        assert ref_of(body).kind not in (POD, REPLICA_SET)
        (owner,) = body["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("Chatbot", "the-chatbot", True)
        key, _, value = names.SELECTOR.partition("=")
        assert body["metadata"]["labels"][key] == value
        assert body["metadata"]["labels"][names.CHATBOT_LABEL] == "demo"
