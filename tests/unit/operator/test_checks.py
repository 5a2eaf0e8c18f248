"""Why a Chatbot is not what was asked for: raw objects in, Ready's reason and message out."""

from datetime import timedelta
from typing import Any

import pytest

from chatbot_operator import names
from chatbot_operator.actions import Annotate, Apply
from chatbot_operator.api.reasons import CONDITIONS, ConditionType, Reason
from chatbot_operator.checks import CHECKS, verdicts
from chatbot_operator.checks.rollout import SCALING_GRACE, scaling_trouble
from chatbot_operator.kinds import AUTOSCALER, CONFIG_MAP, SERVICE, Ref
from chatbot_operator.migration import failed_marker
from chatbot_operator.observed import WriteProblem
from chatbot_operator.reports import PodReport
from tests.support.scenes import BACKEND, Scene, migrating, serving, starting
from tests.support.simulated_world import KEY

SERVICE_REF = Ref(SERVICE, *KEY)
HF: dict[str, Any] = {"phase": "hf", "hf": {"models": ["team/model"]}, "access": {"mode": "Anonymous"}}
MOCK = {"phase": "mock"}
BALANCED = {**MOCK, "expose": {"type": "LoadBalancer"}, "access": {"mode": "Anonymous"}}


def told(scene: Scene, reason: Reason, *parts: str) -> None:
    """Ready is False for this reason, and its message holds all the parts."""
    ready = scene.plan().status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", reason.value), ready.message
    assert [part for part in parts if part not in ready.message] == [], ready.message


def container(scene: Scene, **status: Any) -> None:
    scene.pod()["status"]["containerStatuses"] = [{"name": "runtime", **status}]


def deployment_condition(scene: Scene, type_: str, status: str, reason: str, message: str = "") -> None:
    condition = {"type": type_, "status": status, "reason": reason, "message": message}
    scene.objects[BACKEND]["status"]["conditions"] = [condition]


def test_what_was_asked_for_serves_and_no_check_complains() -> None:
    assert list(verdicts(serving().context)) == []
    assert serving().plan().settled


def test_a_phase_that_is_not_built_names_it_and_the_usable_ones() -> None:
    told(Scene(HF, built=frozenset({"mock"})), Reason.NOT_IMPLEMENTED, "phase hf", "one of: mock")


def test_a_child_that_a_finalizer_keeps_from_going_is_named_with_the_finalizer() -> None:
    scene = serving()
    going = {"deletionTimestamp": "2030-01-01T00:00:00Z", "finalizers": ["example.com/hold"]}
    scene.objects[SERVICE_REF]["metadata"] |= going
    told(scene, Reason.ROLLING_OUT, "Service chat/demo", "example.com/hold", "made again")


def test_an_object_of_somebody_else_is_named_with_what_to_do() -> None:
    scene = serving()
    scene.objects[SERVICE_REF]["metadata"]["ownerReferences"] = []
    told(scene, Reason.NAME_CONFLICT, "Service chat/demo", "Rename the Chatbot")


def test_a_child_of_another_chatbot_is_named_with_its_chatbot() -> None:
    scene = serving()
    metadata = scene.objects[SERVICE_REF]["metadata"]
    metadata |= {"ownerReferences": [], "labels": {names.CHATBOT_LABEL: "other"}}
    told(scene, Reason.NAME_CONFLICT, "Service chat/demo (of Chatbot other)", "Rename one of the two Chatbots")


def test_a_right_that_the_operator_lacks_is_named_by_verb_and_resource() -> None:
    scene = serving()
    scene.problems[SERVICE_REF] = WriteProblem("Forbidden", "User x cannot patch services", "patch", "services")
    told(scene, Reason.PERMISSION_DENIED, "may not patch services", str(SERVICE_REF))


def test_a_write_that_a_quota_forbids_quotes_it() -> None:
    scene = serving()
    scene.problems[SERVICE_REF] = WriteProblem("Forbidden", "exceeded quota: small, used: services=1")
    told(scene, Reason.QUOTA_EXCEEDED, "exceeded quota: small", "Raise the quota")


def test_pods_that_a_quota_forbids_quote_it_too() -> None:
    scene = starting()
    deployment_condition(scene, "ReplicaFailure", "True", "FailedCreate", "pods x is forbidden: exceeded quota: small")
    told(scene, Reason.QUOTA_EXCEEDED, str(BACKEND), "exceeded quota: small", "lower resources or replicas")


@pytest.mark.parametrize("error", ["Forbidden", "Invalid"])
def test_a_refused_object_quotes_the_policy(error: str) -> None:
    scene = serving()
    scene.problems[SERVICE_REF] = WriteProblem(error, "denied by policy no-services")
    told(scene, Reason.ADMISSION_REFUSED, str(SERVICE_REF), "no-services", "Change the field or the policy")


def test_refused_pods_quote_the_policy() -> None:
    scene = starting()
    deployment_condition(scene, "ReplicaFailure", "True", "FailedCreate", "violates PodSecurity")
    told(scene, Reason.ADMISSION_REFUSED, str(BACKEND), "violates PodSecurity")


def test_an_image_that_cannot_be_pulled_quotes_the_node() -> None:
    scene = starting()
    container(scene, state={"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})
    told(scene, Reason.IMAGE_PULL_FAILED, "ImagePullBackOff: not found", "imagePullSecrets")


def test_a_pod_without_a_node_quotes_the_scheduler() -> None:
    scene = starting()
    unplaced = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes fit."}
    scene.pod()["status"]["conditions"] = [unplaced]
    told(scene, Reason.UNSCHEDULABLE, "0/3 nodes fit.", "spec.pods.nodeSelector")


def test_a_volume_that_is_not_mounted_quotes_the_event() -> None:
    scene = starting()
    scene.complaints[scene.pod()["metadata"]["uid"]] = "FailedMount: timed out"
    told(scene, Reason.VOLUME_NOT_ATTACHED, "FailedMount: timed out", "kubectl describe pod -n chat")


def test_an_event_of_another_kind_is_no_trouble_with_volumes() -> None:
    scene = starting()
    scene.complaints[scene.pod()["metadata"]["uid"]] = "Unhealthy: probe failed"
    told(scene, Reason.ROLLING_OUT)


def test_a_container_killed_at_its_memory_limit_names_the_field_to_raise() -> None:
    scene = starting()
    container(scene, restartCount=2, lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})
    told(scene, Reason.OUT_OF_MEMORY, "2 restarts", "spec.mock.resources.requests.memory")


def test_a_crash_quotes_the_last_words_and_the_command_that_shows_more() -> None:
    scene = starting()
    container(scene, restartCount=3, lastState={"terminated": {"exitCode": 2, "message": "x" * 600 + "the end"}})
    told(scene, Reason.CRASH_LOOPING, "exited with 2 (3 restarts)", "the end", "--previous")
    ready = scene.plan().status.condition("Ready")
    assert ready is not None
    assert "x" * 501 not in ready.message


def test_a_container_that_cannot_be_made_counts_as_crashing() -> None:
    scene = starting()
    container(scene, state={"waiting": {"reason": "CreateContainerConfigError", "message": "no such key"}})
    told(scene, Reason.CRASH_LOOPING, "CreateContainerConfigError", "no such key")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {"lastState": {"terminated": {"exitCode": 255, "message": "exec /usr/bin/python: exec format error"}}},
            Reason.CRASH_LOOPING,
        ),
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no match for platform in manifest"}}},
            Reason.IMAGE_PULL_FAILED,
        ),
    ],
    ids=["one image", "an index"],
)
def test_an_image_of_another_processor_is_told_with_its_remedy(status: dict[str, Any], reason: Reason) -> None:
    scene = starting()
    container(scene, **status)
    told(scene, reason, "built for another processor than this node's", "spec.pods.nodeSelector")


WITH_KEYS = {"mode": "APIKey", "keysSecretRef": {"name": "chat-keys"}}


@pytest.mark.parametrize(
    ("state", "problem"),
    [("missing", "does not exist"), ("empty", "holds no usable"), ("unreadable", "cannot be read")],
)
def test_pods_without_api_keys_name_the_secret_and_how_to_make_it(state: str, problem: str) -> None:
    scene = serving({**MOCK, "access": WITH_KEYS})
    scene.report(keys=state)
    told(scene, Reason.ACCESS_SECRET_MISSING, f"Secret chat-keys {problem}", "create secret generic -n chat chat-keys")
    scene.report(keys="ok")
    assert list(verdicts(scene.context)) == []


def test_api_keys_that_are_not_needed_are_not_missed() -> None:
    scene = serving({**MOCK, "access": {**WITH_KEYS, "mode": "Anonymous"}})
    scene.report(keys="missing")  # by the settings before
    assert list(verdicts(scene.context)) == []


TROUBLES = {
    "TokenRejected": (Reason.TOKEN_REJECTED, ("Secret hf-token, key token", "--from-literal token=hf_…", "apply")),
    "AccessDenied": (Reason.ACCESS_DENIED, ("licence", "python -m chatbot_runtime check")),
    "ModelNotFound": (Reason.MODEL_NOT_FOUND, ("Correct hf.models", "python -m chatbot_runtime check")),
    "RateLimited": (Reason.RATE_LIMITED, ("hf.requestsPerMinute",)),
    "ProviderUnavailable": (Reason.PROVIDER_UNAVAILABLE, ("hf.timeoutSeconds",)),
    "EngineDown": (Reason.ENGINE_DOWN, ("kubectl logs -n chat deployment/demo-backend",)),
    "OfANewerRuntime": (Reason.PROVIDER_UNAVAILABLE, ("hf.timeoutSeconds",)),
}


@pytest.mark.parametrize("said", TROUBLES)
def test_a_new_pod_that_got_no_answer_says_why_and_what_served_goes_on(said: str) -> None:
    reason, remedies = TROUBLES[said]
    scene = migrating(MOCK, HF)
    scene.report(verification={"verified": False, "reason": said, "message": "It said so."}, token="ok")
    told(scene, reason, "test question was not answered: It said so.", "What served before goes on.", *remedies)
    assert scene.plan().status.serving_phase == "mock"


@pytest.mark.parametrize("said", TROUBLES)
def test_a_serving_pod_whose_circuit_is_open_says_why_and_that_the_demo_answers(said: str) -> None:
    reason, remedies = TROUBLES[said]
    scene = serving(HF)
    scene.report(fallback=said, token="ok")
    told(scene, reason, "its provider does not answer", "The demo answers meanwhile.", *remedies)
    status = scene.plan().status
    fallback, available = status.condition("FallbackActive"), status.condition("Available")
    assert fallback
    assert (fallback.status, fallback.reason) == ("True", reason)
    assert available
    assert (available.status, available.reason) == ("True", Reason.SERVING_FALLBACK)
    assert status.serving_phase == "mock"


def test_without_a_fallback_an_open_circuit_means_that_nobody_can_chat() -> None:
    scene = serving({**HF, "fallback": {"to": "none"}})
    scene.report(fallback="ProviderUnavailable", token="ok")
    told(scene, Reason.PROVIDER_UNAVAILABLE)
    status = scene.plan().status
    fallback, available = status.condition("FallbackActive"), status.condition("Available")
    assert fallback
    assert (fallback.status, fallback.reason) == ("False", Reason.DISABLED)
    assert available
    assert (available.status, available.reason) == ("False", Reason.MODEL_NOT_READY)


@pytest.mark.parametrize("state", ["missing", "empty", "unreadable"])
def test_a_token_that_is_not_there_names_the_secret_and_the_command(state: str) -> None:
    scene = migrating(MOCK, {**HF, "hf": {**HF["hf"], "tokenSecretRef": {"name": "mine", "key": "hf"}}})
    said = {"verified": False, "reason": "TokenRejected", "message": "There is no token."}
    scene.report(verification=said, token=state)
    command = "kubectl create secret generic -n chat mine --from-literal hf=hf_…"
    told(scene, Reason.TOKEN_SECRET_MISSING, "Secret mine", command, ". What served before goes on. Make it: ")


def test_an_endpoint_that_does_without_a_token_may_lack_one() -> None:
    scene = serving({**HF, "hf": {**HF["hf"], "baseURL": "https://router.huggingface.co/v1"}})
    scene.report(token="missing")
    assert list(verdicts(scene.context)) == []


@pytest.mark.parametrize("url", ["https://evil.example/v1", "https://router.huggingface.co.evil.example/v1"])
def test_an_endpoint_that_is_not_on_the_administrators_list_gets_no_pods(url: str) -> None:
    scene = serving(MOCK)
    scene.raw["spec"] = {**HF, "hf": {**HF["hf"], "baseURL": url}}
    scene.raw["metadata"]["generation"] += 1
    told(scene, Reason.ENDPOINT_NOT_ALLOWED, "hf.baseURL", url.split("/")[2], "router.huggingface.co", "allowedHosts")
    assert not [a for a in scene.plan().actions if isinstance(a, Apply) and a.ref == BACKEND]


def test_a_pod_that_waits_for_its_token_is_touched_every_ten_seconds() -> None:
    scene = migrating(MOCK, HF)
    scene.report(verification={"verified": False, "reason": "TokenRejected"}, token="missing")
    planned = scene.plan()
    touched = [a for a in planned.actions if isinstance(a, Annotate)]
    assert {a.ref for a in touched} == {p.ref for p in scene.observed.current_pods()}
    assert planned.requeue_after == 10
    for action in touched:
        scene.objects[action.ref]["metadata"]["annotations"] |= action.annotations
    assert not [a for a in scene.plan().actions if isinstance(a, Annotate)]
    scene.now += timedelta(seconds=10)
    assert len([a for a in scene.plan().actions if isinstance(a, Annotate)]) == len(touched)


def test_a_pod_of_another_contract_names_the_remedy() -> None:
    scene = serving()
    scene.reports = dict.fromkeys(scene.reports, PodReport(problem="speaks contract version 9", incompatible=True))
    told(scene, Reason.RUNTIME_INCOMPATIBLE, "contract version 9", "this operator's release")


def test_a_ready_pod_with_older_settings_is_named() -> None:
    scene = serving()
    scene.report(settings_hash="old")
    told(scene, Reason.SETTINGS_PENDING, scene.pod()["metadata"]["name"], "has not read the new settings")


def test_a_pod_that_cannot_be_asked_hints_at_network_policies() -> None:
    scene = serving()
    scene.reports = dict.fromkeys(scene.reports, PodReport(problem="cannot be reached"))
    told(scene, Reason.SETTINGS_PENDING, "cannot be reached", "port 8001")


def test_a_pod_that_was_never_asked_counts_as_it_did_in_the_written_status() -> None:
    scene = serving()
    scene.reports.clear()
    told(scene, Reason.SETTINGS_PENDING, "has not been asked")
    scene.report()
    scene.keep_status()
    scene.reports.clear()
    assert scene.plan().settled
    scene.raw["metadata"]["generation"] += 1
    told(scene, Reason.SETTINGS_PENDING, "has not been asked")


def test_new_pods_on_their_way_are_waited_for() -> None:
    told(migrating(MOCK, HF), Reason.ROLLING_OUT, "New pods")
    told(Scene(), Reason.ROLLING_OUT, "being created")


def test_a_write_that_failed_for_now_is_told_and_tried_again() -> None:
    scene = serving()
    scene.problems[SERVICE_REF] = WriteProblem("Transient", "etcdserver: leader changed")
    told(scene, Reason.ROLLING_OUT, str(SERVICE_REF), "leader changed", "tried again")


def test_a_step_back_names_both_ways_forward() -> None:
    scene = migrating(MOCK, HF)
    live = scene.objects[BACKEND]
    live["metadata"]["annotations"][names.FAILED_REVISION] = failed_marker(scene.chatbot)
    live["spec"]["template"]["metadata"]["labels"][names.REVISION_LABEL] = "0ld0ld00"
    told(scene, Reason.STEPPED_BACK, "spec.backend.rollout: Replace", names.RETRY)


def test_a_rollout_past_its_deadline_names_the_deployment_and_the_seconds() -> None:
    scene = starting()
    deployment_condition(scene, "Progressing", "False", "ProgressDeadlineExceeded")
    told(scene, Reason.STALLED, str(BACKEND), "600 s", "kubectl describe deployment -n chat")


def test_a_suspended_chatbot_says_how_to_go_on() -> None:
    told(Scene({**MOCK, "suspend": True}), Reason.SUSPENDED, "Set it to false")


def test_a_backend_that_is_rolled_out_without_a_ready_pod_is_not_ready() -> None:
    scene = serving()
    for i in range(2):
        scene.pod(i)["status"]["conditions"] = []
    told(scene, Reason.BACKEND_NOT_READY, "0 backend pods", f"{names.CHATBOT_LABEL}=demo")


def test_a_load_balancer_without_address_names_the_other_type() -> None:
    scene = serving(BALANCED)
    told(scene, Reason.ADDRESS_PENDING, "no address yet", "NodePort")
    scene.objects[SERVICE_REF]["status"] = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}
    assert scene.plan().settled


def test_the_checks_are_asked_in_the_documented_order() -> None:
    order = list(dict.fromkeys(reason.name.lower() for reason in CONDITIONS[ConditionType.READY].otherwise))
    asked = [check.__name__ for check in CHECKS]
    own = [name for name in asked if name != "model_not_there"]
    assert own == [name for name in order if name in own]
    assert len(own) == len(CHECKS) - 1
    # It stands for all that can be wrong with the weights, of which the provider's own model_not_found is one.
    place = asked.index("model_not_there")
    assert asked[place - 1 : place + 2] == ["access_secret_missing", "model_not_there", "model_not_found"]


def test_the_weightiest_of_several_verdicts_is_the_reason() -> None:
    scene = starting(BALANCED)
    container(scene, state={"waiting": {"reason": "ErrImagePull"}})
    scene.problems[SERVICE_REF] = WriteProblem("Forbidden", "denied by policy")
    order = CONDITIONS[ConditionType.READY].otherwise
    reasons = [verdict.reason for verdict in verdicts(scene.context)]
    assert reasons == sorted(reasons, key=order.index)
    assert reasons[:2] == [Reason.ADMISSION_REFUSED, Reason.IMAGE_PULL_FAILED]


def test_no_message_quotes_the_settings_or_the_environment_of_a_pod() -> None:
    secret = "hf_" + "s3cr3tvalue" * 3
    spec = {**BALANCED, "systemPrompt": secret, "mock": {"replies": [secret]}, "pods": {"annotations": {"a": secret}}}
    for scene in (serving(spec), starting(spec), migrating(spec, {**spec, "phase": "hf", "hf": HF["hf"]})):
        config = scene.objects[Ref(CONFIG_MAP, KEY.namespace, names.backend(KEY.name))]
        assert secret in str(config["data"])
        scene.report(settings_hash="old")
        said = [c.message for c in scene.plan().status.conditions] + [v.message for v in verdicts(scene.context)]
        assert said
        assert secret not in " ".join(said)


def scaler(scene: Scene, status: str, reason: str, *, seconds: float) -> None:
    scaling = {"type": "ScalingActive", "status": status, "reason": reason, "message": "no metrics"}
    since = (scene.now - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    ref = Ref(AUTOSCALER, KEY.namespace, names.backend(KEY.name))
    scene.apply()
    scene.objects[ref]["status"] = {"conditions": [{**scaling, "lastTransitionTime": since}]}


def test_an_autoscalers_complaint_is_told_once_its_grace_is_over() -> None:
    scene = serving()
    scaler(scene, "False", "FailedGetResourceMetric", seconds=SCALING_GRACE.total_seconds() - 30)
    young = scene.plan()
    assert young.requeue_after == 30
    scene.now += timedelta(seconds=30)
    old = scene.plan()
    assert old.requeue_after is None
    messages = [c.message for p in (young, old) for c in p.status.conditions if c.type == "Ready"]
    assert ["no metrics" in message for message in messages] == [False, True]
    assert old.settled


@pytest.mark.parametrize(("status", "reason"), [("True", "ValidMetricFound"), ("False", "ScalingDisabled")])
def test_an_autoscaler_that_works_or_is_switched_off_is_no_trouble(status: str, reason: str) -> None:
    scene = serving()
    scaler(scene, status, reason, seconds=9999)
    assert scaling_trouble(scene.observed, scene.now) is None


def test_without_an_autoscaler_there_is_no_trouble() -> None:
    scene = serving({**MOCK, "backend": {"autoscaling": {"enabled": False}, "replicas": 2}})
    assert scaling_trouble(scene.observed, scene.now) is None
