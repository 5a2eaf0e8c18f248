"""Every metric as the programs define it. It must not know what is made of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics import MetricWrapperBase

from chatbot_operator.metrics import Chatbots
from chatbot_operator.metrics import Metrics as OperatorMetrics
from chatbot_runtime.contract import DownloadStatus
from chatbot_runtime.downloads.server import DownloadGauges
from chatbot_runtime.metrics import Metrics as RuntimeMetrics

Source = Literal["operator", "backend", "download"]


@dataclass(frozen=True)
class Defined:
    """One metric, under the name that is queried; a histogram's is that before `_bucket`."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str
    source: Source


def catalogue() -> dict[str, Defined]:
    """All of them by name, in the order of their definitions."""
    operator, downloads = OperatorMetrics(), CollectorRegistry()
    operator.watch(depth=lambda: 0, leading=lambda: False, chatbots=Chatbots(tuple))
    status = DownloadStatus(chatbot="", list_hash="", total_bytes=0)
    downloads.register(DownloadGauges(lambda: status))
    registries: Mapping[Source, CollectorRegistry] = {
        "operator": operator.registry,
        "backend": RuntimeMetrics().registry,
        "download": downloads,
    }
    found = (metric for source, registry in registries.items() for metric in _defined(registry, source))
    return {metric.name: metric for metric in found}


def _defined(registry: CollectorRegistry, source: Source) -> Iterator[Defined]:
    # The library shows the labels of a metric only once there is a value; they are in what it is made of.
    for collector in registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            family, labels = next(iter(collector.describe())), collector._labelnames
            yield Defined(_queried(family), family.type, tuple(labels), family.documentation, source)
            continue
        for family in collector.collect():
            labels = getattr(family, "_labelnames", ())
            yield Defined(_queried(family), family.type, tuple(labels), family.documentation, source)


def _queried(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name
