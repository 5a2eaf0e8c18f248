"""Each reason of Ready: when it is given, and what its message tells a person to do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chatbot_operator import names
from chatbot_operator.api import Chatbot
from chatbot_operator.api.reasons import CONDITIONS, ConditionType, Reason
from chatbot_operator.checks import CHECKS, SCALING_GRACE, Context, Verdict, scaling_trouble, verdicts
from chatbot_operator.kinds import AUTOSCALER, DEPLOYMENT, POD, SERVICE, RawObject, Ref
from chatbot_operator.migration import failed_marker, migrate
from chatbot_operator.observe import Backend, Observed, Pod, Template, WriteProblem
from chatbot_operator.plan import BUILT
from chatbot_operator.reports import PodReport
from chatbot_operator.revision import revision
from chatbot_operator.settings import Settings
from chatbot_runtime.contract import PodStatus, VerificationStatus

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
BACKEND_REF = Ref(DEPLOYMENT, "ns", "demo-backend")
SERVICE_REF = Ref(SERVICE, "ns", "demo")
HASH = "abcdefabcdef"


def chatbot(status: dict[str, Any] | None = None, annotations: dict[str, str] | None = None, **spec: Any) -> Chatbot:
    metadata = {"name": "demo", "namespace": "ns", "uid": "u", "generation": 1, "annotations": annotations or {}}
    raw = {"metadata": metadata, "spec": {"phase": "mock"} | spec}
    return Chatbot.model_validate(raw | ({"status": status} if status else {}))


MOCK = revision(chatbot().spec)
ROLLED_OUT = Backend(
    phase="mock",
    revision=MOCK,
    generation_seen=True,
    replicas=1,
    total=1,
    updated=1,
    ready=1,
    available=1,
    deadline_exceeded=False,
    replica_failure="",
    applied_hash="",
    template_inputs="",
    list_hash="",
    failed_revision="",
    deleting=False,
)
ROLLING = replace(ROLLED_OUT, available=0, ready=0)
STATUS = PodStatus(chatbot="demo", phase="mock", revision=MOCK, ready=True, settings_hash=HASH)
READY_POD = Pod(
    ref=Ref(POD, "ns", "demo-backend-1"),
    uid="p",
    ip="127.0.0.1",
    phase="mock",
    revision=MOCK,
    template="t",
    ready=True,
    deleting=False,
    restarts=0,
    waiting="",
    waiting_message="",
    last_exit=None,
    last_exit_reason="",
    last_exit_message="",
    unschedulable="",
    nudge="",
    report=PodReport(status=STATUS),
)
SICK_POD = replace(READY_POD, ready=False, report=None)
TEMPLATE = Template(hash="t", phase="mock", revision=MOCK, number=1, pods=1, raw={})
WELL = Observed(backend=ROLLED_OUT, templates=(TEMPLATE,), pods=(READY_POD,), settings_hash=HASH)


def context(observed: Observed = WELL, bot: Chatbot | None = None) -> Context:
    bot = bot or chatbot()
    return Context(bot, observed, migrate(bot, observed, BUILT), Settings(), NOW, BUILT)


def verdict(observed: Observed = WELL, bot: Chatbot | None = None) -> Verdict | None:
    return next(verdicts(context(observed, bot)), None)


def sick(**changes: Any) -> Observed:
    return replace(WELL, backend=ROLLING, pods=(replace(SICK_POD, **changes),))


def refused(error: str, message: str, ref: Ref = SERVICE_REF, **where: str) -> Observed:
    return replace(WELL, problems={ref: WriteProblem(error, message, **where)})


def test_when_all_is_well_no_check_has_anything_to_say() -> None:
    assert list(verdicts(context())) == []


CASES: list[Any] = [
    pytest.param(WELL, chatbot(phase="hf"), Reason.NOT_IMPLEMENTED, "Set spec.phase to one of: mock", id="a phase"),
    pytest.param(
        WELL,
        chatbot(expose={"host": "chat.example.com", "ingressClassName": "x"}, access={"mode": "Anonymous"}),
        Reason.NOT_IMPLEMENTED,
        "spec.expose.host",
        id="a route that this version does not make",
    ),
    pytest.param(
        replace(WELL, strangers={SERVICE_REF: {}}), None, Reason.NAME_CONFLICT, "Service ns/demo", id="a stranger"
    ),
    pytest.param(
        refused("Forbidden", 'services is forbidden: User "x" cannot patch', verb="patch", resource="services"),
        None,
        Reason.PERMISSION_DENIED,
        "may not patch services",
        id="a right is missing",
    ),
    pytest.param(
        refused("Forbidden", "exceeded quota: tight, used: services=0"),
        None,
        Reason.QUOTA_EXCEEDED,
        "exceeded quota: tight",
        id="a quota forbids a child",
    ),
    pytest.param(
        replace(WELL, backend=replace(ROLLING, replica_failure="pods x is forbidden: exceeded quota: tight")),
        None,
        Reason.QUOTA_EXCEEDED,
        "lower resources or replicas",
        id="a quota forbids a pod",
    ),
    pytest.param(
        refused("Invalid", "spec.ports: Invalid value"), None, Reason.ADMISSION_REFUSED, "spec.ports", id="a 422"
    ),
    pytest.param(
        refused("Forbidden", "denied by policy: no Fridays"),
        None,
        Reason.ADMISSION_REFUSED,
        "no Fridays",
        id="a policy refuses a child",
    ),
    pytest.param(
        replace(WELL, backend=replace(ROLLING, replica_failure='pods "x" is forbidden: violates PodSecurity')),
        None,
        Reason.ADMISSION_REFUSED,
        "PodSecurity",
        id="a policy refuses a pod",
    ),
    pytest.param(
        sick(waiting="ImagePullBackOff", waiting_message="no such image: x"),
        None,
        Reason.IMAGE_PULL_FAILED,
        "no such image: x",
        id="an image cannot be pulled",
    ),
    pytest.param(
        sick(unschedulable="0/1 nodes are available: insufficient cpu."),
        None,
        Reason.UNSCHEDULABLE,
        "insufficient cpu",
        id="no node takes the pod",
    ),
    pytest.param(
        replace(sick(), complaints={"p": "FailedMount: configmap not found"}),
        None,
        Reason.VOLUME_NOT_ATTACHED,
        "kubectl describe pod -n ns demo-backend-1",
        id="a volume cannot be mounted",
    ),
    pytest.param(
        sick(last_exit=137, last_exit_reason="OOMKilled", restarts=2),
        None,
        Reason.OUT_OF_MEMORY,
        "Raise spec.mock.resources.requests.memory",
        id="killed at its memory limit",
    ),
    pytest.param(
        sick(last_exit=2, last_exit_message="CHATBOT_PORT is no number", restarts=3),
        None,
        Reason.CRASH_LOOPING,
        "CHATBOT_PORT is no number",
        id="ends again and again",
    ),
    pytest.param(
        sick(waiting="CreateContainerConfigError", waiting_message="secret not found"),
        None,
        Reason.CRASH_LOOPING,
        "secret not found",
        id="a container that cannot be made",
    ),
    pytest.param(
        sick(
            report=PodReport(
                status=STATUS.model_copy(
                    update={"ready": False, "verification": VerificationStatus(reason="TokenRejected", message="401.")}
                )
            )
        ),
        None,
        Reason.VERIFICATION_FAILED,
        "TokenRejected: 401.",
        id="the test question is not answered",
    ),
    pytest.param(
        replace(WELL, pods=(replace(READY_POD, report=PodReport(problem="speaks contract 9", incompatible=True)),)),
        None,
        Reason.RUNTIME_INCOMPATIBLE,
        "speaks contract 9",
        id="another contract",
    ),
    pytest.param(
        replace(WELL, settings_hash="000000000000"), None, Reason.SETTINGS_PENDING, "has not read", id="old settings"
    ),
    pytest.param(
        replace(WELL, pods=(replace(READY_POD, report=PodReport(problem="cannot be reached")),)),
        None,
        Reason.SETTINGS_PENDING,
        "port 8001",
        id="a pod that cannot be asked",
    ),
    pytest.param(
        replace(WELL, pods=(replace(READY_POD, report=None),)),
        None,
        Reason.SETTINGS_PENDING,
        "has not been asked",
        id="a pod that was not asked yet",
    ),
    pytest.param(sick(), None, Reason.ROLLING_OUT, "New pods", id="pods that only need time"),
    pytest.param(Observed(), None, Reason.ROLLING_OUT, "being created", id="nothing is there yet"),
    pytest.param(
        refused("Transient", "etcdserver: leader changed"), None, Reason.ROLLING_OUT, "tried again", id="a failed write"
    ),
    pytest.param(
        replace(
            WELL,
            backend=replace(ROLLED_OUT, phase="hf", revision="other", failed_revision=failed_marker(chatbot())),
        ),
        None,
        Reason.STEPPED_BACK,
        names.RETRY,
        id="taken back",
    ),
    pytest.param(
        replace(WELL, backend=replace(ROLLING, deadline_exceeded=True), pods=(SICK_POD,)),
        None,
        Reason.STALLED,
        "kubectl describe deployment -n ns demo-backend",
        id="no progress within the deadline",
    ),
    pytest.param(
        replace(WELL, backend=replace(ROLLED_OUT, replicas=0, total=0, updated=0, available=0, ready=0), pods=()),
        chatbot(suspend=True),
        Reason.SUSPENDED,
        "spec.suspend",
        id="suspended",
    ),
    pytest.param(replace(WELL, pods=()), None, Reason.BACKEND_NOT_READY, "kubectl get pods -n ns", id="no pod at all"),
    pytest.param(
        WELL,
        chatbot(expose={"type": "LoadBalancer"}, access={"mode": "Anonymous"}),
        Reason.ADDRESS_PENDING,
        "NodePort",
        id="no address yet",
    ),
]


@pytest.mark.parametrize(("observed", "bot", "reason", "says"), CASES)
def test_it_is_said_with_what_to_do(observed: Observed, bot: Chatbot | None, reason: Reason, says: str) -> None:
    found = verdict(observed, bot)
    assert found is not None
    assert found.reason == reason
    assert says in found.message


def test_every_check_has_a_case_here() -> None:
    without = {check.__name__ for check in CHECKS}
    for case in CASES:
        observed, bot, _, _ = case.values
        c = context(observed, bot)
        without -= {check.__name__ for check in CHECKS if check(c) is not None}
    # The weights of phase local are walked through by the migrations' tests.
    assert without <= {"model_not_there"}


def test_the_checks_are_asked_in_the_order_of_the_documented_list() -> None:
    documented = [r.value for r in CONDITIONS[ConditionType.READY].otherwise]
    asked = [check.__name__ for check in CHECKS if check.__name__ != "model_not_there"]
    by_name = {r.name.lower(): documented.index(r.value) for r in CONDITIONS[ConditionType.READY].otherwise}
    places = [by_name[name] for name in asked]
    assert places == sorted(places)


def test_a_ready_pod_of_a_chatbot_that_was_ready_need_not_be_asked_after_a_restart_of_the_operator() -> None:
    ready = {
        "type": "Ready",
        "status": "True",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "reason": "Serving",
        "message": "",
    }
    bot = chatbot(status={"observedGeneration": 1, "conditions": [ready]})
    assert verdict(replace(WELL, pods=(replace(READY_POD, report=None),)), bot) is None


def test_what_ails_an_old_pod_does_not_count() -> None:
    old = replace(SICK_POD, template="old", waiting="ImagePullBackOff", uid="o")
    assert verdict(replace(WELL, pods=(READY_POD, old))) is None


def scaler(reason: str, age: timedelta) -> RawObject:
    condition = {
        "type": "ScalingActive",
        "status": "False",
        "reason": reason,
        "message": "no metrics",
        "lastTransitionTime": (NOW - age).isoformat().replace("+00:00", "Z"),
    }
    return {"kind": "HorizontalPodAutoscaler", "metadata": {}, "status": {"conditions": [condition]}}


def test_an_autoscalers_complaint_is_told_once_it_has_lasted() -> None:
    ref = Ref(AUTOSCALER, "ns", "demo-backend")
    young = scaling_trouble(Observed(children={ref: scaler("FailedGetResourceMetric", timedelta(seconds=20))}), NOW)
    old = scaling_trouble(Observed(children={ref: scaler("FailedGetResourceMetric", SCALING_GRACE)}), NOW)
    assert young is not None
    assert young.told_in == SCALING_GRACE - timedelta(seconds=20)
    assert old is not None
    assert not old.told_in
    assert scaling_trouble(Observed(children={ref: scaler("ScalingDisabled", SCALING_GRACE)}), NOW) is None
