"""S1, S5, D1, D3 and D13 of the quality goals: whatever a spec holds, the API server refuses it by the name of the
field, or its pods are admitted under Pod Security `restricted` and its texts stay texts.

CHATBOT_SPECS=long takes 2,000 random specs and every hostile text in every field.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.security import fields
from tests.security.fields import FIELDS, MAPS, SPEC, STRINGS, hostile_texts, with_field
from tests.security.server import (
    ACCOUNTS,
    PRIORITY,
    PRIORITY_CLASS,
    Answer,
    ask,
    ask_for_chatbots,
    children,
    pods,
)
from tests.support import gateway
from tests.support.chatbots import ChatbotApi, chatbot_api
from tests.support.cluster import ClusterAccess
from tests.support.schemas import objects_of

LONG = os.environ.get("CHATBOT_SPECS") == "long"
RANDOM_SPECS = 2_000 if LONG else 200
EVERY = 1 if LONG else 40
pytestmark = pytest.mark.timeout(7200 if LONG else 300)
PLACEMENT = {"tolerations", "nodeSelector", "topologySpreadConstraints"}
Spec = dict[str, Any]


@pytest.fixture(scope="module")
def api(control_plane: ClusterAccess) -> Iterator[ChatbotApi]:
    """A namespace in which only pods of level `restricted` are admitted."""
    gateway.install(control_plane)
    with chatbot_api(control_plane) as served:
        enforce = "pod-security.kubernetes.io/enforce=restricted"
        control_plane.kubectl("label", "namespace", served.namespace, enforce)
        control_plane.apply(*ACCOUNTS, PRIORITY_CLASS, namespace=served.namespace)
        yield served


def random_specs(count: int) -> list[Spec]:
    """The same ones each time."""
    found: list[Spec] = []

    @seed(20261125)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(objects_of(SPEC))
    def collect(spec: Spec) -> None:
        found.append(spec)

    collect()
    return found


def without(spec: Spec, field: str) -> Spec:
    """The spec without the deepest part of this path that it has."""
    steps = re.findall(r"[-\w]+", field.removeprefix("spec."))
    steps = [step for step in steps if not step.isdecimal()]
    spec = json.loads(json.dumps(spec))
    parent, found = spec, steps[0]
    for step in steps[1:]:
        inner = parent.get(found)
        if not isinstance(inner, dict) or step not in inner:
            break
        parent, found = inner, step
    parent.pop(found, None)
    return spec


def accepted(api: ChatbotApi, specs: list[Spec]) -> list[Spec]:
    """The specs as they would be stored, each without the fields that the API server refused by name."""
    done: list[Spec] = []
    for _ in range(20):
        answers = ask_for_chatbots(api.access, api.namespace, specs)
        done += [answer.stored["spec"] for answer in answers if answer.stored]
        left = []
        for spec, answer in zip(specs, answers, strict=True):
            if answer.refused:
                assert answer.fields, answer.message
                for field in answer.fields:
                    spec = without(spec, field)
                left.append({"phase": "mock", "access": {"mode": "Anonymous"}, **spec})
        specs = left
        if not specs:
            break
    assert specs == []
    return done


def test_s1_pods_of_any_valid_spec_are_admitted_under_pod_security_restricted(api: ChatbotApi) -> None:
    specs = accepted(api, random_specs(RANDOM_SPECS))
    assert len(specs) >= RANDOM_SPECS
    for spec in specs:
        if "priorityClassName" in spec.get("pods", {}):
            spec["pods"]["priorityClassName"] = PRIORITY
    admitted, unplaced = 0, 0
    while specs:
        made = [(spec, pod) for spec in specs for pod in pods(spec)]
        answers = ask(api.access, api.namespace, [pod for _, pod in made])
        assert [answer.message for answer in answers if "PodSecurity" in answer.message] == []
        admitted += sum(not answer.refused for answer in answers)
        specs = []
        for (spec, _), answer in zip(made, answers, strict=True):
            placement = {field.split(".")[1].partition("[")[0] for field in answer.fields} & spec.get("pods", {}).keys()
            assert placement <= PLACEMENT, answer.message
            if answer.refused and placement:
                # Kubernetes' own grammar, which is said by `AdmissionRefused`: once more without.
                specs.append({**spec, "pods": {k: v for k, v in spec["pods"].items() if k not in placement}})
                unplaced += 1
    print(f"{admitted} pods admitted, {unplaced} of them in a second try")
    assert admitted >= RANDOM_SPECS


def test_s1_the_same_namespace_refuses_a_pod_that_may_do_more(api: ChatbotApi) -> None:
    (pod, *_) = pods({"phase": "mock"})
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    (answer,) = ask(api.access, api.namespace, [pod])
    assert 'violates PodSecurity "restricted' in answer.message


@dataclass(frozen=True)
class Try:
    """One value in one field."""

    path: str
    value: Any

    @property
    def spec(self) -> Spec:
        return with_field(self.path, self.value)

    def named_in(self, answer: Answer) -> bool:
        """Whether a refusal names the field, or the block or map that it is in."""
        name = re.sub(r"(\.\*|\[\])$", "", f"spec{self.path}")
        return any(name.startswith(re.sub(r"\[[^\]]*\]", "[]", f)) or f.startswith(name) for f in answer.fields)


def tried(api: ChatbotApi, tries: list[Try]) -> list[tuple[Try, Answer]]:
    return list(zip(tries, ask_for_chatbots(api.access, api.namespace, [t.spec for t in tries]), strict=True))


def test_d1_d3_a_value_of_another_type_or_beyond_a_limit_is_refused_by_the_field_s_name(api: ChatbotApi) -> None:
    values = {path: fields.wrong_types(node) + fields.beyond_limits(node) for path, node in FIELDS.items()}
    answers = tried(api, [Try(path, value) for path, found in values.items() for value in found])
    assert len(answers) > 4 * len(FIELDS)
    assert [(t.path, str(t.value)[:40]) for t, answer in answers if not answer.refused] == []
    assert [(t.path, str(t.value)[:40], a.message[:300]) for t, a in answers if not t.named_in(a)] == []


def test_d1_odd_texts_and_nulls_are_refused_by_the_field_s_name_or_the_operator_copes(api: ChatbotApi) -> None:
    tries = [Try(path, None) for path in FIELDS]
    tries += [Try(path, text) for path in STRINGS for text in fields.ODD_TEXTS]
    tries += [Try(path, {text: "a"}) for path in MAPS for text in fields.ODD_TEXTS]
    answers = tried(api, tries)
    assert [(t.path, str(t.value)[:40], a.message[:300]) for t, a in answers if a.refused and not t.named_in(a)] == []
    coped = [children(answer.stored["spec"]) for _, answer in answers if not answer.refused]
    assert all(coped)
    print(f"{len(answers)} values, {len(answers) - len(coped)} refused")


NGINX_CONF = "ConfigMap data.nginx.conf"
TEXT_PLACES = (
    # Never nginx.conf, which is a program.
    r"ConfigMap data\.(settings|config)\.json",
    r"(Service|Ingress|HTTPRoute) metadata\.annotations\..*",
    # Names, which the definition holds to the form of names.
    r"HTTPRoute spec\.(hostnames\.\d+|parentRefs\.\d+\.(name|namespace))",
    r"Ingress spec\.(ingressClassName|rules\.\d+\.host|tls\.\d+\.(secretName|hosts\.\d+))",
    r"Service spec\.(loadBalancerClass|loadBalancerSourceRanges\.\d+)",
    r"Deployment spec\.template\.metadata\.(labels|annotations)\..*",
    r"Deployment spec\.template\.spec\.(nodeSelector\..*|tolerations\.\d+\.\w+|imagePullSecrets\.\d+\.name)",
    r"Deployment spec\.template\.spec\.(priorityClassName|topologySpreadConstraints\.\d+\.topologyKey)",
    # Kubernetes parses an image's name and takes no program from it.
    r"Deployment spec\.template\.spec\.containers\.0\.image",
    r"Deployment spec\.template\.spec\.volumes\.\d+\.secret\.secretName",
)
"""Where a text of the spec may stand in a child: fields that hold data, and no command line, path or variable."""


def places(value: Any, text: str, path: str) -> Iterator[str]:
    """Every place of a value, keys included, that holds the text; in a JSON file the text is held by its JSON form."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if text in key:
                yield f"{path}.{key}"
            yield from places(inner, text, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, text, f"{path}.{index}")
    elif isinstance(value, str) and (text in value or json.dumps(text, ensure_ascii=False)[1:-1] in value):
        yield path


def at(value: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def holds(whole: Any, part: Any) -> bool:
    """Whether everything in `part` is in `whole`, texts to the letter."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and holds(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) >= len(part) and all(map(holds, whole, part))
    return bool(whole == part)


def test_s5_hostile_texts_stay_texts(api: ChatbotApi) -> None:
    texts = list(hostile_texts())
    assert len(set(texts)) == len(texts) >= 500
    pairs = [Try(path, text) for text in texts for path in STRINGS]
    pairs += [Try(path, {text: "a"}) for text in texts for path in MAPS]
    Random(5).shuffle(pairs)
    pairs = pairs[::EVERY]
    assert {t.path for t in pairs} == {*STRINGS, *MAPS}
    answers = tried(api, pairs)
    assert [(t.path, t.value, a.message[:300]) for t, a in answers if a.refused and not t.named_in(a)] == []

    confs = (body.get("data", {}).get("nginx.conf") for body in children({"phase": "mock"}))
    plain = next(filter(None, confs))
    sent: list[tuple[Try, Spec]] = []
    for one, answer in answers:
        if answer.refused:
            continue
        spec = answer.stored["spec"]
        assert holds(spec, one.spec), one
        text = one.value if isinstance(one.value, str) else next(iter(one.value))
        for body in children(spec):
            found = [f"{body['kind']} {place}" for place in places(body, text, "")]
            if text in plain:  # a word of nginx.conf, whatever the spec says
                found = [place for place in found if place != NGINX_CONF]
            if not found or len(text) < 4:  # a text that short is found by chance
                continue
            assert [p for p in found if not any(re.fullmatch(k, p, re.DOTALL) for k in TEXT_PLACES)] == [], one
            sent.append((one, body))
    replies = ask(api.access, api.namespace, [body for _, body in sent])
    altered = [
        one for (one, body), reply in zip(sent, replies, strict=True) if reply.stored and not stored_alike(body, reply)
    ]
    refused = sum(answer.refused for _, answer in answers)
    print(f"{len(answers)} texts, {refused} refused; {len(sent)} children, {sum(r.refused for r in replies)} refused")
    assert altered == []
    assert len(sent) > 20


def stored_alike(body: Spec, reply: Answer) -> bool:
    """Whether a child would be stored as it was sent; its settings are JSON that parses."""
    parts = ("data",) if body["kind"] == "ConfigMap" else ("spec",)
    if body["kind"] == "ConfigMap":
        for name, text in body["data"].items():
            if name.endswith(".json"):
                json.loads(text)
    annotations = body["metadata"].get("annotations", {})
    same = holds(reply.stored["metadata"].get("annotations", {}), annotations)
    return same and all(holds(reply.stored[part], body[part]) for part in parts)


def test_d13_no_field_reaches_another_namespace_but_a_gateway_s_which_must_allow_it() -> None:
    named = [path for path in FIELDS if path.lower().endswith("namespace")]
    assert named == [".expose.gatewayRef.namespace"]
