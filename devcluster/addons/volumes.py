"""Makes the volumes of claims and offers them as `local` ones, unlike the built-in host-path provisioner's writable by
pods that do not run as root. It must not know how a file system of a given size is made.

The class `standard` gets a folder of no enforced size; the class `sized` a file system of its own, which grows with its
claim. Kubernetes leaves that growth to "an external controller", which is this one.
"""

import asyncio
import logging
import math
import shutil

from devcluster.addons.client import Client, Object
from devcluster.addons.quantities import parse_quantity
from devcluster.layout import Layout
from devcluster.objects import PROVISIONER, SIZED_PROVISIONER
from devcluster.sized_volumes import SizedVolumes

log = logging.getLogger(__name__)

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_ASKED_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_HOSTNAME = "kubernetes.io/hostname"


def asked_provisioner(claim: Object) -> str:
    provisioner: str = claim["metadata"].get("annotations", {}).get(_ASKED_PROVISIONER, "")
    return provisioner


def wants_volume(claim: Object, storage_class: Object) -> bool:
    """Whether an unbound claim waits for this provisioner, and for nothing else before it."""
    provisioner = asked_provisioner(claim)
    if provisioner not in (PROVISIONER, SIZED_PROVISIONER):
        return False
    if _SELECTED_NODE in claim["metadata"]["annotations"]:
        return True
    # A file system lies on one node, whatever a class of somebody else's says.
    return provisioner == PROVISIONER and storage_class.get("volumeBindingMode") != "WaitForFirstConsumer"


def volume_name(claim: Object) -> str:
    return f"pvc-{claim['metadata']['uid']}"


def size_in_bytes(quantity: str) -> int:
    return math.ceil(parse_quantity(quantity))


def volume_for(claim: Object, storage_class: Object, path: str) -> Object:
    """The PersistentVolume for a claim: a folder on the node that the scheduler chose, or on any."""
    meta, spec = claim["metadata"], claim["spec"]
    node = meta.get("annotations", {}).get(_SELECTED_NODE)
    where = {"key": _HOSTNAME, "operator": "In", "values": [node]} if node else {"key": _HOSTNAME, "operator": "Exists"}
    claimed_by = {k: meta[k] for k in ("namespace", "name", "uid")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(claim), "annotations": {PROVISIONED_BY: asked_provisioner(claim)}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
            "storageClassName": spec["storageClassName"],
            "volumeMode": "Filesystem",
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [where]}]}},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claimed_by},
        },
    }


def wanted_growth(claim: Object) -> str | None:
    """The size that a claim bound to a sized volume of ours asks for and does not have yet."""
    status, wanted = claim.get("status", {}), claim["spec"]["resources"]["requests"]["storage"]
    ours = asked_provisioner(claim) == SIZED_PROVISIONER and claim["spec"].get("volumeName") == volume_name(claim)
    if not ours or status.get("phase") != "Bound" or "storage" not in status.get("capacity", {}):
        return None
    return wanted if parse_quantity(wanted) > parse_quantity(status["capacity"]["storage"]) else None


def grown(claim: Object, size: str) -> list[tuple[str, Object]]:
    """What to patch, in this order, once the volume of a claim has a new size: the volume, then the claim.

    There is no condition to clear: nothing in Kubernetes sets one on the claim of a `local` volume.
    """
    meta, capacity = claim["metadata"], {"storage": size}
    claim_path = f"/api/v1/namespaces/{meta['namespace']}/persistentvolumeclaims/{meta['name']}/status"
    return [
        (f"/api/v1/persistentvolumes/{volume_name(claim)}", {"spec": {"capacity": capacity}}),
        (claim_path, {"status": {"capacity": capacity}}),
    ]


class Volumes:
    """Follows StorageClasses, claims and volumes; folders and file systems come, grow and go with them."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client, self._folder, self._sized = client, layout.volumes, SizedVolumes(layout)
        self._classes: dict[str, Object] = {}
        self._unbound: dict[str, Object] = {}

    async def on_class(self, _event: str, storage_class: Object) -> None:
        self._classes[storage_class["metadata"]["name"]] = storage_class
        # The two lists come in any order after a start.
        for claim in list(self._unbound.values()):
            await self.on_claim("MODIFIED", claim)

    async def on_claim(self, event: str, claim: Object) -> None:
        uid = claim["metadata"]["uid"]
        self._unbound.pop(uid, None)
        if event == "DELETED":
            return
        if claim["spec"].get("volumeName"):
            if size := wanted_growth(claim):
                await self._grow(claim, size)
            return
        self._unbound[uid] = claim
        storage_class = self._classes.get(claim["spec"].get("storageClassName", ""))
        if storage_class is not None and wants_volume(claim, storage_class):
            await self._provide(claim, storage_class)

    async def _provide(self, claim: Object, storage_class: Object) -> None:
        meta, path = claim["metadata"], self._folder / volume_name(claim)
        if asked_provisioner(claim) == SIZED_PROVISIONER:
            size = size_in_bytes(claim["spec"]["resources"]["requests"]["storage"])
            await asyncio.to_thread(self._sized.make, path.name, meta["annotations"][_SELECTED_NODE], size)
        else:
            path.mkdir(parents=True, exist_ok=True)
            # Any user of any pod may write: who may mount it is the claim's business, as with a cloud's disk.
            path.chmod(0o777)
        volume = volume_for(claim, storage_class, str(path))
        await self._client.call("POST", "/api/v1/persistentvolumes", volume, tolerate=(409,))
        log.info("volume for %s/%s", meta["namespace"], meta["name"])

    async def _grow(self, claim: Object, size: str) -> None:
        await asyncio.to_thread(self._sized.resize, volume_name(claim), size_in_bytes(size))
        for path, patch in grown(claim, size):
            await self._client.patch(path, patch)
        log.info("volume of %s/%s has %s", claim["metadata"]["namespace"], claim["metadata"]["name"], size)

    async def on_volume(self, event: str, volume: Object) -> None:
        meta, spec = volume["metadata"], volume["spec"]
        provisioner = meta.get("annotations", {}).get(PROVISIONED_BY)
        released = volume["status"].get("phase") == "Released" and spec["persistentVolumeReclaimPolicy"] == "Delete"
        if event == "DELETED" or not released:
            return
        if provisioner == SIZED_PROVISIONER:
            await asyncio.to_thread(self._sized.remove, meta["name"])
        elif provisioner == PROVISIONER:
            await asyncio.to_thread(shutil.rmtree, self._folder / meta["name"], ignore_errors=True)
        else:
            return
        await self._client.call("DELETE", f"/api/v1/persistentvolumes/{meta['name']}", tolerate=(404,))
