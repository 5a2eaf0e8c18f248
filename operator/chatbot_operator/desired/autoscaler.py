"""The HorizontalPodAutoscaler of the backend. Pure."""

from typing import Any

from chatbot_operator import effective, names
from chatbot_operator.api import Chatbot, Phase
from chatbot_operator.desired.base import BACKEND, child
from chatbot_operator.kinds import AUTOSCALER, DEPLOYMENT


def backend_autoscaler(chatbot: Chatbot, phase: Phase) -> dict[str, Any]:
    """Scales by CPU, in the range of the phase whose pods run."""
    spec, name = chatbot.spec, names.backend(chatbot.metadata.name)
    pods = effective.backend_range(spec, phase)
    target = {"type": "Utilization", "averageUtilization": spec.backend.autoscaling.target_cpu_percent}
    body = {
        "scaleTargetRef": {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.name, "name": name},
        "minReplicas": pods.least,
        "maxReplicas": pods.most,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    return child(chatbot, AUTOSCALER, name, BACKEND, {"spec": body})
