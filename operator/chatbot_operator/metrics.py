"""Prometheus metrics of the operator, each documented where it is defined. It must not know who measures."""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from chatbot_operator.kinds import RawObject


class Metrics:
    """All of them in one registry of its own, so that two in one process do not meet."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "chatbot_operator_reconciles_total", "Reconciles that ended.", ["result"], registry=self.registry
        )
        self.reconcile_seconds = Histogram(
            "chatbot_operator_reconcile_duration_seconds",
            "Time of one reconcile.",
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
            registry=self.registry,
        )
        self.errors = Counter(
            "chatbot_operator_errors_total", "Errors of reconciles, by their class.", ["error"], registry=self.registry
        )
        self.api_calls = Counter(
            "chatbot_operator_api_calls_total",
            "Calls of the Kubernetes API; code 0 is no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.api_seconds = Histogram(
            "chatbot_operator_api_call_duration_seconds",
            "Time of one call of the Kubernetes API.",
            ["verb"],
            buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )
        self.resync_seconds = Gauge(
            "chatbot_operator_resync_duration_seconds", "Time of the last full list.", registry=self.registry
        )

    def observe_call(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Count one call of the API."""
        self.api_calls.labels(verb, resource, str(code)).inc()
        self.api_seconds.labels(verb).observe(seconds)

    def watch(self, *, depth: Callable[[], int], leading: Callable[[], bool], chatbots: "Chatbots") -> None:
        """Measure these when somebody scrapes."""
        Gauge("chatbot_operator_queue_depth", "Chatbots that wait for a worker.", registry=self.registry).set_function(
            depth
        )
        Gauge("chatbot_operator_leader", "1 while this process holds the Lease.", registry=self.registry).set_function(
            lambda: float(leading())
        )
        self.registry.register(chatbots)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)


TOLD_CONDITIONS = ("Available", "Ready", "FallbackActive")
"""Those that somebody may want to be woken for; each is a series for each Chatbot."""


class Chatbots(Collector):
    """The Chatbots when somebody scrapes: how many, and how each is."""

    def __init__(self, chatbots: Callable[[], Iterable[RawObject]]) -> None:
        self._chatbots = chatbots

    def collect(self) -> Iterator[GaugeMetricFamily]:
        chatbots = tuple(self._chatbots())
        counts = GaugeMetricFamily(
            "chatbot_operator_chatbots", "Chatbots by wanted phase and by Ready.", labels=["phase", "ready"]
        )
        for (phase, ready), count in Tally(map(_phase_and_ready, chatbots)).items():
            counts.add_metric([phase, ready], count)
        yield counts
        # Not `namespace`: a scraper puts the operator's own there.
        conditions = GaugeMetricFamily(
            "chatbot_operator_chatbot_condition",
            f"1 for the status and reason that a condition of a Chatbot has; of {', '.join(TOLD_CONDITIONS)}.",
            labels=["chatbot_namespace", "chatbot", "condition", "status", "reason"],
        )
        for raw in chatbots:
            for told in _told(raw):
                conditions.add_metric([raw["metadata"]["namespace"], raw["metadata"]["name"], *told], 1)
        yield conditions


def _phase_and_ready(raw: RawObject) -> tuple[str, str]:
    ready = next((status for type_, status, _ in _told(raw) if type_ == "Ready"), "Unknown")
    return str(raw.get("spec", {}).get("phase", "")), ready


def _told(raw: RawObject) -> Iterator[tuple[str, str, str]]:
    """Type, status and reason of the conditions that are told."""
    for condition in raw.get("status", {}).get("conditions", ()):
        if condition["type"] in TOLD_CONDITIONS:
            yield condition["type"], condition["status"], condition["reason"]
