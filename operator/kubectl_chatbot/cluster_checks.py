"""What `doctor` says of a cluster, whoever's Chatbots run in it. Pure."""

from collections.abc import Sequence

from chatbot_operator.checks.exposure import balancer_address
from chatbot_operator.kinds import RawObject
from kubectl_chatbot.facts import Facts
from kubectl_chatbot.findings import Finding, Unknown, failed, ok, unknown, warning
from kubectl_chatbot.settings import operator_of

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def cluster_findings(facts: Facts, namespace: str) -> list[Finding]:
    """All of them, in the order in which a person would look."""
    checks = (_version(facts), _definition(facts), _operator(facts, namespace), _storage(facts))
    return [*checks, _metrics(facts), _balancer(facts)]


def _version(facts: Facts) -> Finding:
    if isinstance(facts.version, Unknown):
        return unknown("API server", facts.version)
    return ok("API server", f"Kubernetes {facts.version}")


def _definition(facts: Facts) -> Finding:
    if isinstance(facts.definition, Unknown):
        return unknown("definition", facts.definition)
    if facts.definition:
        return ok("definition", "Chatbots are served.")
    return failed("definition", "This cluster does not know Chatbots: install the operator's chart.")


def _operator(facts: Facts, namespace: str) -> Finding:
    if isinstance(facts.operators, Unknown):
        return unknown("operator", facts.operators)
    found = operator_of(facts.operators, namespace)
    if found is None and facts.operators:
        return failed("operator", f"No operator serves namespace {namespace}: add it to an install's watchNamespaces.")
    if found is None:
        return warning(
            "operator", "No Deployment of the operator was found. Unless it runs elsewhere, install its chart."
        )
    where = f"{found['metadata']['namespace']}/{found['metadata']['name']}"
    if found.get("status", {}).get("availableReplicas", 0):
        return ok("operator", f"{where} is available.")
    name = found["metadata"]["name"]
    look = f"kubectl logs -n {found['metadata']['namespace']} deployment/{name}"
    return failed("operator", f"{where} has no pod that is ready. See: {look}")


def _storage(facts: Facts) -> Finding:
    classes = facts.storage_classes
    if isinstance(classes, Unknown):
        return unknown("storage class", classes)
    if found := default_class(classes):
        return ok("storage class", f"{found} is the default.")
    known = ", ".join(sorted(c["metadata"]["name"] for c in classes))
    there = f"There are: {known}." if known else "There are none."
    return warning(
        "storage class",
        f"The cluster has no default. {there} A private model needs local.storage.storageClassName then.",
    )


def default_class(classes: Sequence[RawObject]) -> str:
    """Name of the default StorageClass; empty if there is none."""
    named = (c["metadata"] for c in classes if c["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true")
    return next((str(m["name"]) for m in named), "")


def _metrics(facts: Facts) -> Finding:
    if isinstance(facts.metrics, Unknown):
        return unknown("metrics API", facts.metrics)
    if facts.metrics:
        return ok("metrics API", "Answers: Chatbots can be scaled by their CPU.")
    return warning("metrics API", "Does not answer, so that nothing is scaled. Install metrics-server.")


def _balancer(facts: Facts) -> Finding:
    if isinstance(facts.services, Unknown):
        return unknown("load balancer", facts.services)
    wanting = [s for s in facts.services if s["spec"].get("type") == "LoadBalancer"]
    if not wanting:
        why = "No Service of type LoadBalancer exists, so it is not known whether one would get an address."
        return unknown("load balancer", Unknown(why))
    served = [s for s in wanting if balancer_address(s)]
    text = f"{len(served)} of {len(wanting)} Services of type LoadBalancer have an address."
    if served:
        return ok("load balancer", text)
    return warning("load balancer", f"{text} The cluster seems to have none: use expose.type: NodePort or a host.")
