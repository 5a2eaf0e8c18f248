"""Chatbots on a real API server, many in one kubectl call; for tests of the API."""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from chatbot_operator.api import API_VERSION, GROUP, KIND, PLURAL
from chatbot_operator.api.generated import REPOSITORY
from tests.support.cluster import ClusterAccess, await_definition, make_namespace

RESOURCE = f"{PLURAL}.{GROUP}"
Manifest = dict[str, Any]

# kubectl words it in one way for a single object and in another for one of a list.
_REFUSED = re.compile(rf'(?:{KIND}\.{re.escape(GROUP)}|The {KIND}) "(?P<name>[^"]+)" is invalid: (?P<causes>.*)')
_VALUE = re.compile(r'(?<=Invalid value: )"[^"]*": ')


@dataclass(frozen=True)
class ChatbotApi:
    """A namespace of a cluster that serves Chatbots."""

    access: ClusterAccess
    namespace: str

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """kubectl in this namespace, with `text` on its standard input."""
        return self.access.kubectl("--namespace", self.namespace, *arguments, input=text, check=check)

    def submit(self, verb: str, manifests: Iterable[Manifest], *flags: str) -> dict[str, str]:
        """Run `kubectl <verb>` over all of them; name -> the causes of the refusal, empty where accepted."""
        items = list(manifests)
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        result = self.kubectl(verb, *flags, "-o", "name", "-f", "-", text=text, check=False)
        outcome = {line.rpartition("/")[2]: "" for line in result.stdout.splitlines() if line}
        outcome |= {found["name"]: found["causes"] for found in _REFUSED.finditer(result.stderr)}
        missing = {item["metadata"]["name"] for item in items} - outcome.keys()
        assert not missing, f"kubectl {verb} says nothing about {sorted(missing)}: {result.stderr}"
        return outcome

    def create(self, name: str, spec: dict[str, Any]) -> None:
        """A new Chatbot, which must be accepted."""
        assert self.submit("create", [chatbot(name, spec)]) == {name: ""}

    def stored(self, name: str) -> Manifest:
        """The Chatbot as the API server gives it."""
        return self.access.get(RESOURCE, name, "--namespace", self.namespace)

    def patch(self, name: str, change: dict[str, Any]) -> None:
        """A merge patch of spec or metadata, which must be accepted."""
        self.kubectl("patch", RESOURCE, name, "--type=merge", "-p", json.dumps(change))

    def write_status(self, name: str, status: dict[str, Any]) -> None:
        """A merge patch of the status, which must be accepted."""
        patch = json.dumps({"status": status})
        self.kubectl("patch", RESOURCE, name, "--subresource=status", "--type=merge", "-p", patch)

    def specs(self) -> dict[str, Any]:
        """The stored spec of every Chatbot of the namespace by name."""
        listed = self.access.get(RESOURCE, "--namespace", self.namespace)
        return {item["metadata"]["name"]: item["spec"] for item in listed["items"]}


@contextmanager
def chatbot_api(access: ClusterAccess) -> Iterator[ChatbotApi]:
    """The definition put into the cluster and served, and a fresh namespace."""
    access.kubectl("apply", "--server-side", "-f", str(REPOSITORY / "crds"))
    await_definition(access, RESOURCE)
    with make_namespace(access) as namespace:
        yield ChatbotApi(access, namespace)


def chatbot(name: str, spec: dict[str, Any]) -> Manifest:
    """A manifest."""
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


def example(stem: str) -> Manifest:
    """The manifest in `examples/<stem>.yaml`."""
    manifest: Manifest = yaml.safe_load((REPOSITORY / "examples" / f"{stem}.yaml").read_text())
    return manifest


def without_value(refusal: str) -> str:
    """A refusal without the value that is refused: Kubernetes 1.34 prints its type, later ones a string or nothing."""
    return _VALUE.sub("", refusal)
