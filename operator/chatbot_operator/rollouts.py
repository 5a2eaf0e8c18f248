"""How the template of a live Deployment is changed without taking away the pods that serve. Pure."""

import copy
from collections.abc import Mapping
from typing import Any

from chatbot_operator import names
from chatbot_operator.actions import Apply
from chatbot_operator.drift import wanted_hash
from chatbot_operator.observe import template_as_applied
from chatbot_operator.observed import Workload


def in_turn(workload: Workload, template: Mapping[str, Any], deployment: Apply) -> Apply | None:
    """The wanted Deployment; in the midst of a rollout it is paused first, until its counts have settled.

    Kubernetes believes the counts of a template that it goes back to: pods of it that are just going would count as
    available, and the pods that serve would be taken away for them. `template` is the live Deployment's.
    """
    live, newest = workload.live, workload.newest_template()
    if live is None or newest is None or live.applied_hash == wanted_hash(deployment.body):
        return deployment
    if live.paused:
        return deployment if workload.counts_settled else None
    if workload.counts_settled and not any(t.pods for t in workload.templates if t is not newest):
        return deployment
    return Apply(paused(deployment.body, template_as_applied(template), live.template_inputs))


def paused(wanted: Mapping[str, Any], template: Mapping[str, Any], inputs: str) -> dict[str, Any]:
    """The Deployment with the template that it has and its rollout held: no pod is replaced until it is applied
    without that."""
    body: dict[str, Any] = copy.deepcopy(dict(wanted))
    body["metadata"]["annotations"] = {names.TEMPLATE_INPUTS: inputs}
    body["spec"] = {**body["spec"], "template": template, "paused": True}
    return body
