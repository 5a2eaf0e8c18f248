"""The peer of `bench.scale`: a Kopf operator in the usual style, `python -m bench.stock_operator`.

Handlers for create, update and resume make each child that is missing and patch each that is there, through the
synchronous client; an event handler copies readiness into the status. It makes the same children as ours, from a
template (STOCK_TEMPLATE: a JSON file). It has Kopf's defaults; no lease, no drift repair and no conditions but Ready.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import kopf
from kubernetes import client, config, dynamic

GROUP, VERSION, PLURAL = "chatbot-operator.dev", "v1alpha1", "chatbots"
LABEL = f"{GROUP}/chatbot"
PLACEHOLDER = "placeholder"
PROMPT = "prompt-of-the-template"
"""What stands in the template for the chatbot's name, and for its system prompt."""


class Cluster:
    """The client, made at start-up."""

    api: Any
    template: str


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    config.load_kube_config(config_file=os.environ["KUBECONFIG"])  # type: ignore[no-untyped-call]
    Cluster.api = dynamic.DynamicClient(client.ApiClient())  # type: ignore[no-untyped-call]
    Cluster.template = Path(os.environ["STOCK_TEMPLATE"]).read_text()
    settings.peering.standalone = True
    settings.scanning.disabled = True


def children(name: str, spec: kopf.Spec) -> list[dict[str, Any]]:
    """The objects of one chatbot."""
    prompt = json.dumps(json.dumps(spec.get("systemPrompt", "")))[3:-3]
    text = Cluster.template.replace(PLACEHOLDER, name).replace(PROMPT, prompt)
    found: list[dict[str, Any]] = json.loads(text)
    return found


@kopf.on.create(GROUP, VERSION, PLURAL)
@kopf.on.update(GROUP, VERSION, PLURAL, field="spec")
@kopf.on.resume(GROUP, VERSION, PLURAL)
def ensure(name: str, namespace: str | None, spec: kopf.Spec, body: kopf.Body, **_: Any) -> None:
    """Make what is missing, patch what is there."""
    for child in children(name, spec):
        kopf.adopt(child, owner=body)
        resource = Cluster.api.resources.get(api_version=child["apiVersion"], kind=child["kind"])
        try:
            resource.create(body=child, namespace=namespace)
        except client.ApiException as error:
            if error.status != 409:
                raise
            resource.patch(body=child, namespace=namespace, content_type="application/merge-patch+json")


@kopf.on.event("apps", "v1", "deployments", labels={LABEL: kopf.PRESENT})
def report(body: kopf.Body, namespace: str | None, **_: Any) -> None:
    """Ready is True once as many pods are ready as are wanted."""
    ready = body.status.get("readyReplicas", 0) >= body.spec.get("replicas", 1)
    condition = {"type": "Ready", "status": "True" if ready else "False", "reason": "Serving" if ready else "Starting"}
    condition |= {"message": "", "lastTransitionTime": body.metadata["creationTimestamp"]}
    chatbots = Cluster.api.resources.get(api_version=f"{GROUP}/{VERSION}", kind="Chatbot")
    chatbots.status.patch(
        body={"status": {"conditions": [condition]}},
        name=body.metadata["labels"][LABEL],
        namespace=namespace,
        content_type="application/merge-patch+json",
    )


if __name__ == "__main__":
    kopf.configure()
    asyncio.run(kopf.operator(clusterwide=True))
