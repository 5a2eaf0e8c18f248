"""The metrics.k8s.io API, measured from each kubelet, for autoscalers and `kubectl top`. It must not keep history.

Answers are plain JSON, which autoscalers accept although they ask for protobuf first.
"""

import asyncio
import logging
import ssl
import time
from datetime import UTC, datetime

import aiohttp
from aiohttp import web

from devcluster.addons.client import Client, Object
from devcluster.addons.fake_nodes import is_fake, timestamp
from devcluster.addons.quantities import parse_quantity, selects
from devcluster.addons.usage import Usage, UsageTable, parse
from devcluster.layout import ADDONS_PORT, KUBELET_PORT, Layout

log = logging.getLogger(__name__)

GROUP_VERSION = "metrics.k8s.io/v1beta1"
SCRAPE_SECONDS = 3.0
USAGE_CPU = "kwok.x-k8s.io/usage-cpu"
USAGE_MEMORY = "kwok.x-k8s.io/usage-memory"
_BASE = f"/apis/{GROUP_VERSION}"
_GROUP = {
    "name": "metrics.k8s.io",
    "versions": [{"groupVersion": GROUP_VERSION, "version": "v1beta1"}],
    "preferredVersion": {"groupVersion": GROUP_VERSION, "version": "v1beta1"},
}


def annotated_usage(pod: Object) -> dict[str, Usage]:
    """What a fake pod's annotations say that it uses, all of it in its first container. Raises ValueError."""
    annotations = pod["metadata"].get("annotations", {})
    if USAGE_CPU not in annotations and USAGE_MEMORY not in annotations:
        return {}
    now = time.time()
    cpu = parse_quantity(annotations.get(USAGE_CPU, "0"))
    memory = parse_quantity(annotations.get(USAGE_MEMORY, "0"))
    first, *others = (container["name"] for container in pod["spec"]["containers"])
    return {first: Usage(cpu, memory, now)} | {name: Usage(0, 0, now) for name in others}


def _quantities(usage: Usage) -> dict[str, str]:
    return {"cpu": f"{round(usage.cpu * 1e9)}n", "memory": f"{round(usage.memory / 1024)}Ki"}


def metrics_item(kind: str, measured: Object, parts: dict[str, Usage]) -> Object:
    """A NodeMetrics or PodMetrics object about a Node or Pod."""
    meta = measured["metadata"]
    oldest = datetime.fromtimestamp(min(part.at for part in parts.values()), UTC)
    item = {
        "kind": kind,
        "apiVersion": GROUP_VERSION,
        "metadata": {k: meta[k] for k in ("name", "namespace", "labels") if k in meta}
        | {"creationTimestamp": timestamp()},
        "timestamp": oldest.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "window": "10s",
    }
    if kind == "NodeMetrics":
        return item | {"usage": _quantities(parts[""])}
    return item | {"containers": [{"name": name, "usage": _quantities(part)} for name, part in parts.items()]}


class Metrics:
    """Scrapes the kubelets and serves what they said."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client, self._layout = client, layout
        self._pods: dict[tuple[str, str], Object] = {}
        self._nodes: dict[str, Object] = {}
        self._usage = UsageTable()

    async def on_pod(self, event: str, pod: Object) -> None:
        key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        if event == "DELETED":
            self._pods.pop(key, None)
            self._usage.forget(("pod", *key))
        else:
            self._pods[key] = pod

    async def on_node(self, event: str, node: Object) -> None:
        if event == "DELETED":
            self._nodes.pop(node["metadata"]["name"], None)
        else:
            self._nodes[node["metadata"]["name"]] = node

    async def scrape_for_ever(self) -> None:
        while True:
            real = [(name, node) for name, node in self._nodes.items() if not is_fake(node)]
            await asyncio.gather(*(self._scrape(name, node) for name, node in real))
            await asyncio.sleep(SCRAPE_SECONDS)

    async def _scrape(self, name: str, node: Object) -> None:
        addresses = node["status"].get("addresses", [])
        address = next((a["address"] for a in addresses if a["type"] == "InternalIP"), None)
        if address is None:
            return
        url = f"https://{address}:{KUBELET_PORT}/metrics/resource"
        try:
            async with self._client.session.get(url, timeout=aiohttp.ClientTimeout(total=4)) as response:
                response.raise_for_status()
                self._usage.add(parse(await response.text(), name))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.info("scraping %s: %r", name, error)

    def _pod_items(self, namespace: str | None) -> list[Object]:
        items = []
        for key, pod in self._pods.items():
            if pod["status"].get("phase") != "Running" or namespace not in (None, key[0]):
                continue
            try:
                parts = self._usage.get(("pod", *key)) or annotated_usage(pod)
            except ValueError as error:
                log.info("usage of pod %s/%s: %s", *key, error)
                continue
            if parts:
                items.append(metrics_item("PodMetrics", pod, parts))
        return items

    def _node_items(self) -> list[Object]:
        known = ((node, self._usage.get(("node", "", name))) for name, node in self._nodes.items())
        return [metrics_item("NodeMetrics", node, parts) for node, parts in known if parts]

    async def _list(self, request: web.Request) -> web.Response:
        pods = request.path.endswith("/pods")
        items = self._pod_items(request.match_info.get("namespace")) if pods else self._node_items()
        selector = request.query.get("labelSelector", "")
        chosen = [item for item in items if selects(selector, item["metadata"].get("labels", {}))]
        kind = "PodMetricsList" if pods else "NodeMetricsList"
        return web.json_response({"kind": kind, "apiVersion": GROUP_VERSION, "metadata": {}, "items": chosen})

    async def _get(self, request: web.Request) -> web.Response:
        name, namespace = request.match_info["name"], request.match_info.get("namespace")
        items = self._pod_items(namespace) if namespace else self._node_items()
        for item in items:
            if item["metadata"]["name"] == name:
                return web.json_response(item)
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        return web.json_response({**status, "message": f"no metrics known for {name}"}, status=404)

    async def _discovery(self, request: web.Request) -> web.Response:
        kinds = (("nodes", "NodeMetrics", False), ("pods", "PodMetrics", True))
        resources = [
            {"name": plural, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]}
            for plural, kind, namespaced in kinds
        ]
        documents = {
            "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_GROUP]},
            "/apis/metrics.k8s.io": {"kind": "APIGroup", "apiVersion": "v1", **_GROUP},
            _BASE: {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": GROUP_VERSION,
                "resources": resources,
            },
        }
        return web.json_response(documents[request.path])

    async def serve(self) -> None:
        """Start serving. Only the aggregator holds a certificate that is let in, and it has asked RBAC already."""
        app = web.Application()
        app.add_routes([web.get(path, self._discovery) for path in ("/apis", "/apis/metrics.k8s.io", _BASE)])
        lists = ("/nodes", "/pods", "/namespaces/{namespace}/pods")
        app.add_routes([web.get(_BASE + path, self._list) for path in lists])
        singles = ("/nodes/{name}", "/namespaces/{namespace}/pods/{name}")
        app.add_routes([web.get(_BASE + path, self._get) for path in singles])
        pki = self._layout.pki
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "front-proxy-ca.crt"))
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_cert_chain(pki / "addons.crt", pki / "addons.key")
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self._layout.host_address, ADDONS_PORT, ssl_context=tls).start()
