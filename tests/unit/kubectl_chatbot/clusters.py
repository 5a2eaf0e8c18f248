"""Clusters as they are read, for tests of what is said of them. No test logic here."""

from typing import Any

from kubectl_chatbot.facts import Facts

STANDARD = {"metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}
PLAIN = {"metadata": {"name": "plain"}}


def node(name: str = "one", cpu: str = "4", memory: str = "16Gi", **more: Any) -> dict[str, Any]:
    allocatable = {"cpu": cpu, "memory": memory, **more.pop("resources", {})}
    labels = more.pop("labels", {})
    return {"metadata": {"name": name, "labels": labels}, "spec": more, "status": {"allocatable": allocatable}}


def facts(**changed: Any) -> Facts:
    """A cluster in which all is well."""
    well: dict[str, Any] = {
        "version": "v1.36.1",
        "definition": True,
        "operators": [],
        "storage_classes": [STANDARD],
        "metrics": True,
        "nodes": [node()],
        "pods": [],
        "services": [],
        "quotas": [],
    }
    return Facts(**(well | changed))
