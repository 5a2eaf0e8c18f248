"""What is counted, for Prometheus. It must not know how anything is done."""

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The metrics of one process; every name begins with `chatbot_runtime_`."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "chatbot_runtime_requests",
            "Requests by route and status (499: the client went away).",
            ("route", "code"),
            registry=registry,
        )
        self.request = cache(self.requests.labels)
        """The counter of a route and a status; looking one up by its labels costs more than counting."""
        request_seconds = Histogram(
            "chatbot_runtime_request_seconds",
            "Time of a chat request, queue included.",
            ("stream",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.streamed_seconds = {False: request_seconds.labels("false"), True: request_seconds.labels("true")}
        self.first_chunk_seconds = Histogram(
            "chatbot_runtime_first_chunk_seconds",
            "Time to the first piece of an answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "chatbot_runtime_queue_seconds",
            "Time that admitted requests waited for a slot.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.refusals = Counter(
            "chatbot_runtime_refusals",
            "Requests not let in, and answers broken off, by error code.",
            ("cause",),
            registry=registry,
        )
        tokens = Counter(
            "chatbot_runtime_tokens", "Tokens read (`prompt`) and written (`completion`).", ("kind",), registry=registry
        )
        self.prompt_tokens, self.completion_tokens = tokens.labels("prompt"), tokens.labels("completion")
        self.settings_reloads = Counter(
            "chatbot_runtime_settings_reloads",
            "Changed settings files, by whether they could be used.",
            ("result",),
            registry=registry,
        )
        self.running = Gauge("chatbot_runtime_running_requests", "Answers being given.", registry=registry)
        self.queued = Gauge("chatbot_runtime_queued_requests", "Requests that wait for a slot.", registry=registry)
        self.held_bytes = Gauge(
            "chatbot_runtime_held_bytes", "Memory that the bodies of requests take, estimated.", registry=registry
        )
        self.connections = Gauge("chatbot_runtime_connections", "Open connections, public port.", registry=registry)
        self.connections_ended = Counter(
            "chatbot_runtime_connections_ended",
            "Connections refused, or ended before the client wanted that, on both ports.",
            ("cause",),
            registry=registry,
        )
        self.provider_requests = Counter(
            "chatbot_runtime_provider_requests",
            "Requests to a provider elsewhere, by result: `ok`, `rejected` (the user's mistake), `limited` (not sent), "
            "or the reason of the failure.",
            ("result",),
            registry=registry,
        )
        self.prompts_cut = Counter(
            "chatbot_runtime_prompts_cut",
            "Prompts that were longer than the engine's context, and so lost their beginning.",
            registry=registry,
        )
        self.fallback_answers = Counter(
            "chatbot_runtime_fallback_answers", "Answers by fallback, by reason.", ("reason",), registry=registry
        )
        self.circuit_open = Gauge(
            "chatbot_runtime_circuit_open",
            "1 if the provider is not asked for this model.",
            ("model",),
            registry=registry,
        )
        self.peers = Gauge("chatbot_runtime_peers", "Pods that share the provider's limit.", registry=registry)
        self.ready = Gauge("chatbot_runtime_ready", "1 if this process takes requests.", registry=registry)
        self.info = Gauge("chatbot_runtime_info", "What this process is.", ("phase", "revision"), registry=registry)

    def render(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)
