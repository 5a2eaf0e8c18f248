"""The HorizontalPodAutoscalers. Pure."""

from typing import Any

from chatbot_operator import effective, names
from chatbot_operator.api import Autoscaling, Chatbot, Phase
from chatbot_operator.desired.base import BACKEND, WEB, child
from chatbot_operator.kinds import AUTOSCALER, DEPLOYMENT


def backend_autoscaler(chatbot: Chatbot, phase: Phase) -> dict[str, Any]:
    """Scales by CPU, in the range of the phase whose pods run."""
    name, spec = names.backend(chatbot.metadata.name), chatbot.spec
    return _autoscaler(chatbot, name, BACKEND, spec.backend.autoscaling, effective.backend_range(spec, phase))


def web_autoscaler(chatbot: Chatbot) -> dict[str, Any]:
    """Scales the chat page's pods by CPU."""
    name, spec = names.web(chatbot.metadata.name), chatbot.spec
    return _autoscaler(chatbot, name, WEB, spec.web.autoscaling, effective.web_range(spec))


def _autoscaler(
    chatbot: Chatbot, name: str, component: str, autoscaling: Autoscaling, pods: effective.Range
) -> dict[str, Any]:
    target = {"type": "Utilization", "averageUtilization": autoscaling.target_cpu_percent}
    body = {
        "scaleTargetRef": {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.name, "name": name},
        "minReplicas": pods.least,
        "maxReplicas": pods.most,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    return child(chatbot, AUTOSCALER, name, component, {"spec": body})
