"""Runs all add-ons of one cluster in one process. It must not know anything but which object goes to which add-on."""

import argparse
import asyncio
import logging
from pathlib import Path

from devcluster.addons.client import TRANSIENT, Client, Handler, Object
from devcluster.addons.fake_nodes import FakeNodes
from devcluster.addons.load_balancer import LoadBalancer
from devcluster.addons.metrics import Metrics
from devcluster.addons.volumes import Volumes
from devcluster.errors import DevClusterError
from devcluster.state import Saved

log = logging.getLogger(__name__)


def each(*handlers: Handler) -> Handler:
    """One handler out of several, in which the failure of one neither stops the others nor the watch."""

    async def handle(event: str, item: Object) -> None:
        for handler in handlers:
            try:
                await handler(event, item)
            except (*TRANSIENT, KeyError) as error:
                log.warning("%s %s: %r", item.get("kind", ""), item["metadata"]["name"], error)

    return handle


async def run(state_dir: Path) -> None:
    saved = Saved.read(state_dir)
    if saved is None:
        raise DevClusterError(f"there is no cluster in {state_dir}")
    layout = saved.layout(state_dir)
    client = Client(layout)
    fake_nodes, balancer, volumes = FakeNodes(client, layout), LoadBalancer(client, layout), Volumes(client, layout)
    metrics = Metrics(client, layout)
    await metrics.serve()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(metrics.scrape_for_ever())
        tasks.create_task(fake_nodes.heartbeat())
        for path, handler in (
            ("/api/v1/nodes", each(fake_nodes.on_node, metrics.on_node)),
            ("/api/v1/pods", each(metrics.on_pod, fake_nodes.on_pod)),
            ("/api/v1/services", each(balancer.on_service)),
            ("/apis/storage.k8s.io/v1/storageclasses", each(volumes.on_class)),
            ("/api/v1/persistentvolumeclaims", each(volumes.on_claim)),
            ("/api/v1/persistentvolumes", each(volumes.on_volume)),
        ):
            tasks.create_task(client.follow(path, handler))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devcluster.addons")
    parser.add_argument("--state-dir", type=Path, required=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(run(parser.parse_args().state_dir))


main()
