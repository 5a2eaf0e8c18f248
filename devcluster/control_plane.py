"""The command lines of etcd, API server, controller manager and scheduler. It must not start them.

The flags that only make tests faster (short node and autoscaler windows, high client rates, no fsync) say so.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from devcluster.layout import (
    API_PORT,
    CONTROLLER_MANAGER_PORT,
    SCHEDULER_PORT,
    Layout,
)

# etcd leaves its sockets behind when it is killed; names are relative to the run folder, its working folder.
ETCD_STALE_SOCKETS = ("etcd.sock", "peer:0")

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        # What the cluster does by itself says nothing about a client under test.
        {
            "level": "None",
            "users": [
                "system:kube-scheduler",
                "system:kube-controller-manager",
                "system:kube-proxy",
                "system:apiserver",
                "system:coredns",
                "system:addons",
            ],
        },
        {"level": "None", "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"]},
        {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*", "/version*"]},
        {"level": "Metadata"},
    ],
}


def write_audit_policy(layout: Layout) -> None:
    layout.audit_policy.write_text(json.dumps(AUDIT_POLICY, indent=1))


def etcd(layout: Layout, programs: Mapping[str, Path]) -> list[str]:
    """etcd on a unix socket: no port to clash with, and file permissions guard it."""
    return [
        str(programs["etcd"]),
        "--name=etcd",
        f"--data-dir={layout.state_dir}/etcd",
        f"--listen-client-urls=unix://{layout.etcd_socket}",
        # Advertised and peer addresses must look like host:port even for sockets; nobody dials them.
        "--advertise-client-urls=unix://etcd:0",
        "--listen-peer-urls=unix://peer:0",
        "--initial-advertise-peer-urls=unix://peer:0",
        "--initial-cluster=etcd=unix://peer:0",
        "--unsafe-no-fsync",
        "--auto-compaction-retention=1",
        "--quota-backend-bytes=1073741824",
        "--log-level=warn",
    ]


def api_server(layout: Layout, programs: Mapping[str, Path]) -> list[str]:
    pki = layout.pki
    return [
        str(programs["kube-apiserver"]),
        f"--etcd-servers=unix://{layout.etcd_socket}",
        f"--bind-address={layout.host_address}",
        f"--secure-port={API_PORT}",
        f"--advertise-address={layout.bridge_address}",
        # Without nodes nobody in the cluster could reach the advertised address.
        *([] if layout.level == "node" else ["--endpoint-reconciler-type=none"]),
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/client-ca.crt",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        f"--kubelet-certificate-authority={pki}/server-ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-signing-key-file={pki}/service-account.key",
        f"--service-account-key-file={pki}/service-account.pub",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-cluster-ip-range={layout.service_range}",
        "--allow-privileged=true",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki}/front-proxy.crt",
        f"--proxy-client-key-file={pki}/front-proxy.key",
        f"--audit-policy-file={layout.audit_policy}",
        f"--audit-log-path={layout.audit_log}",
        "--audit-log-maxsize=100",
        "--audit-log-maxbackup=1",
        "--profiling=false",
        "--event-ttl=1h",
    ]


def _own_credentials(layout: Layout, name: str) -> list[str]:
    path = layout.component_kubeconfig(name)
    return [f"--{purpose}kubeconfig={path}" for purpose in ("", "authentication-", "authorization-")]


def controller_manager(layout: Layout, programs: Mapping[str, Path]) -> list[str]:
    pki = layout.pki
    return [
        str(programs["kube-controller-manager"]),
        *_own_credentials(layout, "controller-manager"),
        f"--bind-address={layout.host_address}",
        f"--secure-port={CONTROLLER_MANAGER_PORT}",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--root-ca-file={pki}/server-ca.crt",
        f"--service-account-private-key-file={pki}/service-account.key",
        f"--cluster-signing-cert-file={pki}/client-ca.crt",
        f"--cluster-signing-key-file={pki}/client-ca.key",
        f"--service-cluster-ip-range={layout.service_range}",
        "--allocate-node-cidrs=false",
        # Some thirty controllers each ask for an identity; the default rate delays the first ServiceAccount by 5 s.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--node-monitor-period=2s",
        "--node-monitor-grace-period=16s",
        "--horizontal-pod-autoscaler-sync-period=5s",
        "--horizontal-pod-autoscaler-downscale-stabilization=10s",
        "--horizontal-pod-autoscaler-cpu-initialization-period=10s",
        "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
    ]


def scheduler(layout: Layout, programs: Mapping[str, Path]) -> list[str]:
    return [
        str(programs["kube-scheduler"]),
        *_own_credentials(layout, "scheduler"),
        f"--bind-address={layout.host_address}",
        f"--secure-port={SCHEDULER_PORT}",
        "--leader-elect=false",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    ]
