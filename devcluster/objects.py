"""The Kubernetes objects that every cluster starts with, as plain data. It must not talk to the API server."""

import base64
from typing import Any

from devcluster.layout import ADDONS_PORT, Layout

Object = dict[str, Any]

PROVISIONER = "devcluster.local/folder"
SIZED_PROVISIONER = "devcluster.local/sized"
FAKE_NODE_ANNOTATION = "kwok.x-k8s.io/node"
FAKE_NODE_VALUE = "fake"
_RBAC = "rbac.authorization.k8s.io"


def _binding(name: str, role: str, user: str) -> Object:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": user}],
    }


def _storage_class(name: str, provisioner: str, *, default: bool, grows: bool) -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": name,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true" if default else "false"},
        },
        "provisioner": provisioner,
        "reclaimPolicy": "Delete",
        "allowVolumeExpansion": grows,
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _dns(layout: Layout) -> list[Object]:
    """CoreDNS runs outside the nodes; a Service without selector makes it look as in any cluster."""
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    return [
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        },
        _binding("system:coredns", "system:coredns", "system:coredns"),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
            "spec": {"clusterIP": layout.dns_address, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {
                "name": "kube-dns-host",
                "namespace": "kube-system",
                "labels": {
                    "kubernetes.io/service-name": "kube-dns",
                    "endpointslice.kubernetes.io/managed-by": "devcluster",
                },
            },
            "ports": ports,
            "endpoints": [{"addresses": [layout.bridge_address], "conditions": {"ready": True}}],
        },
    ]


def base_objects(layout: Layout) -> list[Object]:
    """What is applied once the API server is ready."""
    objects = [
        # Logs, exec and port-forward: the API server must be allowed to call the kubelets.
        _binding("kube-apiserver-kubelet-admin", "system:kubelet-api-admin", "kube-apiserver"),
        _storage_class("standard", PROVISIONER, default=True, grows=False),
        # Volumes of a real size in the node's memory.
        _storage_class("sized", SIZED_PROVISIONER, default=False, grows=True),
    ]
    return objects + (_dns(layout) if layout.level == "node" else [])


def fake_node(name: str, *, tainted: bool, cpu: str, memory: str, pods: int) -> Object:
    """A Node that no kubelet stands behind; annotation, label and taint are kwok's own, so manifests carry over."""
    capacity = {"cpu": cpu, "memory": memory, "pods": str(pods), "ephemeral-storage": "1Ti"}
    taints = [{"key": FAKE_NODE_ANNOTATION, "value": FAKE_NODE_VALUE, "effect": "NoSchedule"}] if tainted else []
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {FAKE_NODE_ANNOTATION: FAKE_NODE_VALUE},
            "labels": {
                "type": "fake",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
            },
        },
        "spec": {"taints": taints},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def metrics_objects(layout: Layout, authority: bytes) -> list[Object]:
    """How the API server finds the metrics API: by a Service that names an address and an APIService with the port.

    `authority` is the PEM certificate that signed the metrics server's own.
    """
    aggregate = {f"{_RBAC}/aggregate-to-{role}": "true" for role in ("admin", "edit", "view")}
    rule = {"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "metrics", "namespace": "kube-system"},
            "spec": {"type": "ExternalName", "externalName": layout.host_address},
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": {
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "caBundle": base64.b64encode(authority).decode(),
                "service": {"name": "metrics", "namespace": "kube-system", "port": ADDONS_PORT},
            },
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:aggregated-metrics-reader", "labels": aggregate},
            "rules": [rule],
        },
    ]
