"""The CustomResourceDefinition of Chatbot, generated from the models: `python -m chatbot_operator.api.crd [--check]`.

Adds to the models' schema what models cannot say: names, subresources, columns. Knows no cluster.
"""

import sys
from typing import Any

import yaml

from chatbot_operator.api import generated
from chatbot_operator.api.models import API_VERSION, GROUP, KIND, NAME_RULE, PLURAL, VERSION, ChatbotSpec
from chatbot_operator.api.schema import Schema, structural_schema
from chatbot_operator.api.status import ChatbotStatus

PATHS = (f"crds/{PLURAL}.{GROUP}.yaml", "charts/chatbot-operator/files/crd.yaml")
"""Where the definition is kept; the chart needs a copy of its own."""

_HEADER = "# Generated from the models by `python -m chatbot_operator.api.crd`. Do not edit.\n"


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition as plain data. Raises UnsupportedSchema."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["cbot"],
                "categories": ["ai"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.backend.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": _columns(),
                    "schema": {"openAPIV3Schema": object_schema()},
                }
            ],
        },
    }


def object_schema() -> Schema:
    """The structural schema of a whole Chatbot."""
    status = structural_schema(ChatbotStatus.model_json_schema(by_alias=True), "status")
    return {
        "type": "object",
        "description": "A chatbot: a web page, an OpenAI-compatible API and the backend that answers.",
        "required": ["spec"],
        "x-kubernetes-validations": [NAME_RULE.schema()],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Version of this API: {API_VERSION}."},
            "kind": {"type": "string", "description": f"Kind of this object: {KIND}."},
            # A description is forbidden here; the declared name lets the rule's fieldPath point at it.
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": structural_schema(ChatbotSpec.model_json_schema(by_alias=True), "spec"),
            # With a default of its own, observedGeneration is there before the operator's first visit.
            "status": {**status, "default": {}},
        },
    }


def _columns() -> list[dict[str, Any]]:
    ready, fallback = (f'.status.conditions[?(@.type=="{type_}")]' for type_ in ("Ready", "FallbackActive"))
    return [
        _column("Phase", ".spec.phase"),
        _column("Serving", ".status.servingPhase"),
        _column("Ready", f"{ready}.status"),
        _column("Status", f"{ready}.reason"),
        _column("Replicas", ".status.readyReplicas", "integer"),
        _column("URL", ".status.url"),
        _column("Age", ".metadata.creationTimestamp", "date"),
        _column("Model", ".status.model.name", wide=True),
        _column("Progress", ".status.download.percent", "integer", wide=True),
        _column("Fallback", f"{fallback}.status", wide=True),
        _column("Cost/Month", ".status.cost.monthly", wide=True),
        _column("Message", f"{ready}.message", wide=True),
    ]


def _column(name: str, json_path: str, type_: str = "string", *, wide: bool = False) -> dict[str, Any]:
    return {"name": name, "type": type_, "jsonPath": json_path} | ({"priority": 1} if wide else {})


class _PlainDumper(yaml.SafeDumper):
    """Writes every value where it stands: no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def rendered() -> str:
    """The definition as YAML, the same bytes every time."""
    return _HEADER + yaml.dump(definition(), Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=10**6)


if __name__ == "__main__":
    text = rendered()
    sys.exit(generated.main("chatbot_operator.api.crd", dict.fromkeys(PATHS, text)))
