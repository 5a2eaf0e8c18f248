"""Plays the kubelet for Nodes that have none: they are Ready, their pods run and end. It must not touch real nodes.

A Node with the annotation `kwok.x-k8s.io/node: fake` is played. Annotations of a pod on it:

- `devcluster.local/ready-after`: seconds until it is Ready (default 0);
- `devcluster.local/fail`: `Reason: message` that its first container waits with for ever;
- `devcluster.local/run-for` and `devcluster.local/exit-code`: when and how a Job's pod ends (default 0.5 s, 0);
- `kwok.x-k8s.io/usage-cpu` and `kwok.x-k8s.io/usage-memory`: what the metrics API says about it.
"""

import asyncio
import ipaddress
import itertools
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime

from devcluster.addons.client import TRANSIENT, Client, Object
from devcluster.layout import Layout
from devcluster.objects import FAKE_NODE_ANNOTATION, FAKE_NODE_VALUE

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
REQUESTS_IN_FLIGHT = 32
JOB_SECONDS = 0.5
DEFAULT_CAPACITY = {"cpu": "32", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "1Ti"}
READY_AFTER = "devcluster.local/ready-after"
FAIL = "devcluster.local/fail"
RUN_FOR = "devcluster.local/run-for"
EXIT_CODE = "devcluster.local/exit-code"


def timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_fake(node: Object) -> bool:
    annotations: dict[str, str] = node["metadata"].get("annotations", {})
    return annotations.get(FAKE_NODE_ANNOTATION) == FAKE_NODE_VALUE


def node_status(node: Object, address: str, now: str) -> Object:
    """The status of a healthy node; capacity that the Node already states is kept."""
    capacity = node.get("status", {}).get("capacity") or DEFAULT_CAPACITY
    states = {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}
    times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
    conditions = [{"type": k, "status": v, "reason": "FakeNode", "message": "", **times} for k, v in states.items()]
    unknown = dict.fromkeys(("machineID", "systemUUID", "bootID", "kernelVersion", "kubeProxyVersion"), "")
    info = {"kubeletVersion": "fake", "architecture": "amd64", "operatingSystem": "linux", "osImage": "fake"}
    return {
        "capacity": capacity,
        "allocatable": node.get("status", {}).get("allocatable") or capacity,
        "conditions": conditions,
        "addresses": [
            {"type": "InternalIP", "address": address},
            {"type": "Hostname", "address": node["metadata"]["name"]},
        ],
        "nodeInfo": {**unknown, **info, "containerRuntimeVersion": "fake://0"},
    }


def _container(pod: Object, container: Object, state: Object, *, ready: bool) -> Object:
    image = container["image"]
    return {
        "name": container["name"],
        "image": image,
        "imageID": image,
        "containerID": "" if "waiting" in state else f"fake://{pod['metadata']['uid']}/{container['name']}",
        "ready": ready,
        "started": "running" in state,
        "restartCount": 0,
        "state": state,
    }


def _conditions(pod: Object, now: str, *, ready: bool) -> list[Object]:
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates", [])] if ready else []
    always = ("PodReadyToStartContainers", "Initialized", *gates)
    state = {"status": "True"} if ready else {"status": "False", "reason": "ContainersNotReady"}
    return [
        *({"type": kind, "status": "True", "lastTransitionTime": now} for kind in always),
        *({"type": kind, "lastTransitionTime": now, **state} for kind in ("ContainersReady", "Ready")),
    ]


def _init_containers(pod: Object, now: str, *, sidecars_run: bool) -> list[Object]:
    done = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
    running = {"running": {"startedAt": now}}
    return [
        _container(pod, c, running if sidecars_run and c.get("restartPolicy") == "Always" else done, ready=True)
        for c in pod["spec"].get("initContainers", [])
    ]


def running_status(pod: Object, host: str, address: str, now: str) -> Object:
    """The status of a pod that runs and is Ready, or whose first container waits as its annotation asks."""
    fail = pod["metadata"].get("annotations", {}).get(FAIL, "")
    states = [{"running": {"startedAt": now}} for _ in pod["spec"]["containers"]]
    if fail:
        reason, _, message = fail.partition(":")
        states[0] = {"waiting": {"reason": reason.strip(), "message": message.strip()}}
    containers = zip(pod["spec"]["containers"], states, strict=True)
    return {
        "phase": "Pending" if fail else "Running",
        "startTime": now,
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "observedGeneration": pod["metadata"].get("generation"),
        "conditions": _conditions(pod, now, ready=not fail),
        "initContainerStatuses": _init_containers(pod, now, sidecars_run=True),
        "containerStatuses": [_container(pod, c, s, ready="running" in s) for c, s in containers],
    }


def finished_status(pod: Object, exit_code: int, started: str, now: str) -> Object:
    """The status of a Job's pod whose containers have ended."""
    reason = "Error" if exit_code else "Completed"
    end = {"terminated": {"exitCode": exit_code, "reason": reason, "startedAt": started, "finishedAt": now}}
    gone = {"status": "False", "reason": "PodCompleted", "lastTransitionTime": now}
    return {
        "phase": "Failed" if exit_code else "Succeeded",
        "conditions": [{"type": kind, **gone} for kind in ("Ready", "ContainersReady")],
        "initContainerStatuses": _init_containers(pod, now, sidecars_run=False),
        "containerStatuses": [_container(pod, c, end, ready=False) for c in pod["spec"]["containers"]],
    }


class FakeNodes:
    """Follows Nodes and Pods and writes what a kubelet would."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self.names: set[str] = set()
        self._client = client
        self._host = layout.fake_node_address
        self._addresses = itertools.cycle(ipaddress.ip_network(layout.fake_pod_range).hosts())
        self._in_use: dict[str, str] = {}
        self._started: set[str] = set()
        self._ending: set[str] = set()
        self._gate = asyncio.Semaphore(REQUESTS_IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def on_node(self, event: str, node: Object) -> None:
        name = node["metadata"]["name"]
        if event == "DELETED":
            self.names.discard(name)
        elif is_fake(node) and name not in self.names:
            self.names.add(name)
            status = node_status(node, self._host, timestamp())
            await self._client.patch(f"/api/v1/nodes/{name}/status", {"status": status})
            await self._renew(name)
            self._spawn(self._catch_up(name))

    async def on_pod(self, event: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if event == "DELETED":
            self._started.discard(uid)
            self._ending.discard(uid)
            self._in_use.pop(uid, None)
        elif pod["spec"].get("nodeName") in self.names:
            if pod["metadata"].get("deletionTimestamp"):
                if uid not in self._ending:
                    self._ending.add(uid)
                    self._spawn(self._remove(pod))
            elif uid not in self._started and pod["status"].get("phase") == "Pending":
                self._started.add(uid)
                self._spawn(self._run(pod))
            elif address := pod["status"].get("podIP"):
                self._in_use[uid] = address

    async def heartbeat(self) -> None:
        """Renew the nodes' Leases for ever, so that the controller manager takes them for alive."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            for name in list(self.names):
                try:
                    await self._renew(name)
                except TRANSIENT as error:
                    log.info("renewing the Lease of %s: %r", name, error)

    async def _renew(self, name: str) -> None:
        renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": renewed}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec}
        await self._client.apply(path, lease)

    async def _catch_up(self, name: str) -> None:
        for pod in (await self._client.call("GET", f"/api/v1/pods?fieldSelector=spec.nodeName={name}"))["items"]:
            await self.on_pod("ADDED", pod)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except TRANSIENT as error:
                log.info("fake pod: %r", error)

        task = asyncio.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _next_address(self, uid: str) -> str:
        taken = set(self._in_use.values())
        address = next(text for host in self._addresses if (text := str(host)) not in taken)
        self._in_use[uid] = address
        return address

    async def _remove(self, pod: Object) -> None:
        meta = pod["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        body = {"kind": "DeleteOptions", "apiVersion": "v1", **options}
        async with self._gate:
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
            await self._client.call("DELETE", path, body, tolerate=(404, 409))

    async def _run(self, pod: Object) -> None:
        meta = pod["metadata"]
        annotations = meta.get("annotations", {})
        await asyncio.sleep(float(annotations.get(READY_AFTER, 0)))
        started = timestamp()
        await self._write(pod, running_status(pod, self._host, self._next_address(meta["uid"]), started))
        if any(owner["kind"] == "Job" for owner in meta.get("ownerReferences", [])):
            await asyncio.sleep(float(annotations.get(RUN_FOR, JOB_SECONDS)))
            code = int(annotations.get(EXIT_CODE, 0))
            await self._write(pod, finished_status(pod, code, started, timestamp()))

    async def _write(self, pod: Object, status: Object) -> None:
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        async with self._gate:
            # The uid makes it a conflict to write to a namesake that came later.
            await self._client.patch(path, {"metadata": {"uid": meta["uid"]}, "status": status}, tolerate=(404, 409))
