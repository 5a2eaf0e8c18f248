"""The Grafana dashboard: a few panels on how chatbots do, then one for each metric. It must not know the chart."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from charts.generate.catalogue import Defined, Source

Panel = dict[str, Any]
ROWS: Mapping[Source, str] = {"backend": "Backends", "download": "Downloads", "operator": "Operator"}
BOT = "chatbot_namespace, chatbot"
CHOSEN = 'chatbot_namespace=~"$chatbot_namespace", chatbot=~"$chatbot"'
WIDTH, HEIGHT = 8, 7
_DATASOURCE = {"type": "prometheus", "uid": "$datasource"}


def text(metrics: Mapping[str, Defined]) -> str:
    """charts/chatbot-operator/files/dashboard.json."""
    return json.dumps(dashboard(metrics), indent=1) + "\n"


def dashboard(metrics: Mapping[str, Defined]) -> Panel:
    """The whole, in Grafana's own form."""
    rows = [("Chatbots", list(_overview(metrics)))]
    rows += [(title, [_of(m) for m in metrics.values() if m.source == source]) for source, title in ROWS.items()]
    condition = metrics["chatbot_operator_chatbot_condition"].name
    return {
        "uid": "chatbot-operator",
        "title": "Chatbots",
        "tags": ["chatbot-operator"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
                _variable("chatbot_namespace", f"label_values({condition}, chatbot_namespace)"),
                _variable("chatbot", f'label_values({condition}{{chatbot_namespace=~"$chatbot_namespace"}}, chatbot)'),
            ]
        },
        "panels": list(_placed(rows)),
    }


def _variable(name: str, query: str) -> Panel:
    return {
        "name": name,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _overview(metrics: Mapping[str, Defined]) -> Iterator[Panel]:
    condition = metrics["chatbot_operator_chatbot_condition"].name
    requests = metrics["chatbot_runtime_requests_total"].name
    seconds = metrics["chatbot_runtime_request_seconds"].name
    first = metrics["chatbot_runtime_first_chunk_seconds"].name
    state = f'max by ({BOT}, condition, reason) ({condition}{{{CHOSEN}, condition="%s", status%s"True"}})'
    name = "{{chatbot_namespace}}/{{chatbot}}"
    yield _panel("Not available", [(state % ("Available", "!="), f"{name} {{{{reason}}}}")], "Nobody can chat.")
    yield _panel("Not ready", [(state % ("Ready", "!="), f"{name} {{{{reason}}}}")], "Not what was asked for.")
    yield _panel(
        "By fallback", [(state % ("FallbackActive", "="), f"{name} {{{{reason}}}}")], "The model cannot answer."
    )
    per_bot = f"sum by ({BOT}) (rate({requests}{{{CHOSEN}%s}}[$__rate_interval]))"
    yield _panel("Requests", [(per_bot % "", name)], "By chatbot.", "reqps")
    failed = per_bot % ', code=~"5.."' + " / " + per_bot % ""
    yield _panel("Failed requests", [(failed, name)], "Share that ended with an error of the chatbot's.", "percentunit")
    slow = [(_quantile(q, metric, "", CHOSEN), f"{what}, p{q * 100:g}") for what, metric, q in (
        ("first piece", first, 0.5), ("first piece", first, 0.95), ("whole answer", seconds, 0.95))]  # fmt: skip
    yield _panel("Time of an answer", slow, "To the first piece and to the end, queue included.", "s")


def _of(metric: Defined) -> Panel:
    """The panel that a definition leads to."""
    chosen = "" if metric.source == "operator" else CHOSEN
    if metric.source == "operator" and "chatbot_namespace" in metric.labels:
        chosen = CHOSEN
    labels = [label for label in metric.labels if label not in ("chatbot_namespace", "chatbot")]
    by, legend = ", ".join(labels), " ".join(f"{{{{{label}}}}}" for label in labels) or "all"
    selector = f"{{{chosen}}}" if chosen else ""
    if metric.type == "histogram":
        targets = [(_quantile(q, metric.name, by, chosen), f"{legend} p{q * 100:g}") for q in (0.5, 0.95, 0.99)]
    elif metric.type == "counter":
        targets = [(f"sum by ({by}) (rate({metric.name}{selector}[$__rate_interval]))", legend)]
    else:
        # Whoever stands by knows the same as the one that leads; pods of chatbots each have their own share.
        how = "max" if metric.source == "operator" else "sum"
        targets = [(f"{how} by ({by}) ({metric.name}{selector})", legend)]
    return _panel(metric.name, targets, metric.help, _unit(metric))


def _quantile(quantile: float, name: str, by: str, chosen: str) -> str:
    buckets = (
        f"rate({name}_bucket{{{chosen}}}[$__rate_interval])" if chosen else f"rate({name}_bucket[$__rate_interval])"
    )
    return f"histogram_quantile({quantile}, sum by ({', '.join(filter(None, ('le', by)))}) ({buckets}))"


def _unit(metric: Defined) -> str:
    if metric.type == "counter":
        return "cps"
    for ending, unit in (("_bytes_per_second", "Bps"), ("_seconds", "s"), ("_bytes", "bytes")):
        if metric.name.endswith(ending):
            return unit
    return "short"


def _panel(title: str, targets: list[tuple[str, str]], description: str, unit: str = "short") -> Panel:
    return {
        "type": "timeseries",
        "title": title,
        "description": description,
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}}},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + i), "expr": expr, "legendFormat": legend, "datasource": _DATASOURCE}
            for i, (expr, legend) in enumerate(targets)
        ],
    }


def _placed(rows: list[tuple[str, list[Panel]]]) -> Iterator[Panel]:
    """The panels, three beside each other, below the heads of their rows; all rows but the first are folded."""
    y, id_ = 0, 0
    for number, (title, panels) in enumerate(rows):
        id_ += 1
        head: Panel = {"id": id_, "type": "row", "title": title, "collapsed": number > 0, "panels": []}
        head["gridPos"] = {"x": 0, "y": y, "w": 3 * WIDTH, "h": 1}
        for i, panel in enumerate(panels):
            id_ += 1
            panel |= {"id": id_, "gridPos": {"x": i % 3 * WIDTH, "y": y + 1 + i // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT}}
        y += 1
        if head["collapsed"]:
            yield head | {"panels": panels}
        else:
            yield head
            yield from panels
            y += (len(panels) + 2) // 3 * HEIGHT
