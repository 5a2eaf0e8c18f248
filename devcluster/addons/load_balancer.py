"""Gives each Service of type LoadBalancer an address of the cluster's own. It must not carry traffic."""

import ipaddress
import logging

from devcluster.addons.client import Client, Object
from devcluster.layout import Layout

log = logging.getLogger(__name__)


class LoadBalancer:
    """Follows Services; an address belongs to a Service until it is deleted or changes its type."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client = client
        self._pool = [str(address) for address in ipaddress.ip_network(layout.load_balancer_range).hosts()]
        self._used: dict[str, str] = {}

    async def on_service(self, event: str, service: Object) -> None:
        meta, spec = service["metadata"], service["spec"]
        ours = spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")
        if event == "DELETED" or not ours:
            self._used.pop(meta["uid"], None)
            return
        if ingress := service["status"].get("loadBalancer", {}).get("ingress"):
            self._used[meta["uid"]] = ingress[0].get("ip", "")
            return
        address = self._choose(spec.get("loadBalancerIP"))
        if address is None:
            log.warning("no load balancer address left for %s/%s", meta["namespace"], meta["name"])
            return
        self._used[meta["uid"]] = address
        path = f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}/status"
        status = {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}
        await self._client.patch(path, {"status": status})

    def _choose(self, wanted: str | None) -> str | None:
        taken = set(self._used.values())
        candidates = [wanted] if wanted else self._pool
        return next((address for address in candidates if address in self._pool and address not in taken), None)
