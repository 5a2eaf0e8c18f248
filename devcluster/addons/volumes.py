"""Makes a folder for each claim of the standard StorageClass and offers it as a `local` volume, unlike the built-in
host-path provisioner writable by pods that do not run as root. It must not enforce sizes (nothing here can)."""

import asyncio
import logging
import shutil

from devcluster.addons.client import Client, Object
from devcluster.layout import Layout
from devcluster.objects import PROVISIONER

log = logging.getLogger(__name__)

PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_ASKED_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_HOSTNAME = "kubernetes.io/hostname"


def wants_volume(claim: Object, storage_class: Object) -> bool:
    """Whether an unbound claim waits for this provisioner, and for nothing else before it."""
    annotations = claim["metadata"].get("annotations", {})
    if annotations.get(_ASKED_PROVISIONER) != PROVISIONER:
        return False
    return storage_class.get("volumeBindingMode") != "WaitForFirstConsumer" or _SELECTED_NODE in annotations


def volume_for(claim: Object, storage_class: Object, path: str) -> Object:
    """The PersistentVolume for a claim: a folder on the node that the scheduler chose, or on any."""
    meta, spec = claim["metadata"], claim["spec"]
    node = meta.get("annotations", {}).get(_SELECTED_NODE)
    where = {"key": _HOSTNAME, "operator": "In", "values": [node]} if node else {"key": _HOSTNAME, "operator": "Exists"}
    claimed_by = {k: meta[k] for k in ("namespace", "name", "uid")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"pvc-{meta['uid']}", "annotations": {PROVISIONED_BY: PROVISIONER}},
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


class Volumes:
    """Follows StorageClasses, claims and volumes; folders come and go with them."""

    def __init__(self, client: Client, layout: Layout) -> None:
        self._client, self._folder = client, layout.volumes
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
        if event == "DELETED" or claim["spec"].get("volumeName"):
            return
        self._unbound[uid] = claim
        storage_class = self._classes.get(claim["spec"].get("storageClassName", ""))
        if storage_class is None or not wants_volume(claim, storage_class):
            return
        path = self._folder / f"pvc-{uid}"
        path.mkdir(parents=True, exist_ok=True)
        # Any user of any pod may write: who may mount it is the claim's business, as with a cloud's disk.
        path.chmod(0o777)
        volume = volume_for(claim, storage_class, str(path))
        await self._client.call("POST", "/api/v1/persistentvolumes", volume, tolerate=(409,))
        log.info("volume for %s/%s", claim["metadata"]["namespace"], claim["metadata"]["name"])

    async def on_volume(self, event: str, volume: Object) -> None:
        meta, spec = volume["metadata"], volume["spec"]
        ours = meta.get("annotations", {}).get(PROVISIONED_BY) == PROVISIONER
        released = volume["status"].get("phase") == "Released" and spec["persistentVolumeReclaimPolicy"] == "Delete"
        if event == "DELETED" or not ours or not released:
            return
        await asyncio.to_thread(shutil.rmtree, self._folder / meta["name"], ignore_errors=True)
        await self._client.call("DELETE", f"/api/v1/persistentvolumes/{meta['name']}", tolerate=(404,))
