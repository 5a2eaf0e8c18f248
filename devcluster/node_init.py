"""Process 1 of one node, inside the node's own namespaces. It must not know other nodes' state.

It makes the node's mounts and network, starts containerd, kubelet and kube-proxy, starts each again when it dies, and
reaps orphans (every container's shim becomes its child). When it is killed, the kernel ends every process of the node
and takes its mounts, rules and links along, so nothing has to be undone.
"""

import argparse
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from devcluster import sized_volumes
from devcluster.layout import MAX_NODES, Layout
from devcluster.processes import MEMBER_VARIABLE, SYSTEM_PATH, wait_until
from devcluster.state import Saved

RESTART_SECONDS = 0.5
SOCKET = Path("/run/containerd/containerd.sock")
MOUNTS = {
    "run": "/run",
    "log": "/var/log",
    "kubelet": "/var/lib/kubelet",
    "containerd": "/var/lib/containerd",
    "cni": "/var/lib/cni",
}
# The kubelet insists on these and would change the whole machine; here it finds them in files of the node's own.
SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}


def run(*command: str, check: bool = True) -> bool:
    return subprocess.run(command, check=check, stdout=subprocess.DEVNULL).returncode == 0


def mount_own_folders(node: Path) -> None:
    # Mounts are shared among the node's containers and private to the node.
    run("mount", "--make-rshared", "/")
    for source, target in MOUNTS.items():
        Path(target).mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", str(node / source), target)
    for name, value in SYSCTLS.items():
        file = node / "etc" / name.replace("/", ".")
        file.write_text(f"{value}\n")
        if Path("/proc/sys", name).exists():
            run("mount", "--bind", str(file), f"/proc/sys/{name}")


def join_network(layout: Layout, index: int) -> None:
    """Take up the cable that the launcher lays into this namespace."""
    run("ip", "link", "set", "lo", "up")
    # Not in /sys: that still shows the interfaces of the namespace it was mounted in.
    wait_until("eth0 is there", lambda: "eth0:" in Path("/proc/net/dev").read_text(), 20.0, 0.01)
    run("ip", "address", "add", f"{layout.node_address(index)}/24", "dev", "eth0")
    run("ip", "link", "set", "eth0", "up")
    run("ip", "route", "add", "default", "via", layout.bridge_address)
    # Of all nodes that there may ever be, so that one can be added later.
    others = [other for other in range(1, MAX_NODES + 1) if other != index]
    routes = [f"route add {layout.node_pod_range(other)} via {layout.node_address(other)}" for other in others]
    subprocess.run(("ip", "-batch", "-"), input="\n".join(routes), text=True, check=True)
    # Of this network namespace only; the machine itself does not forward.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    # The CNI plugin would make it at the first pod; kube-proxy wants its address before.
    run("ip", "link", "add", "pods0", "type", "bridge")
    run("ip", "link", "set", "pods0", "up")


def commands(layout: Layout, index: int, kubelet: Path, kube_proxy: Path) -> dict[str, list[str]]:
    node, name = layout.node_dir(index), f"node{index}"
    return {
        "containerd": ["containerd", "--config", f"{node}/etc/containerd.toml", "--log-level", "info"],
        "kubelet": [
            str(kubelet),
            f"--config={node}/etc/kubelet.json",
            f"--kubeconfig={layout.component_kubeconfig(name)}",
            f"--hostname-override={name}",
            f"--node-ip={layout.node_address(index)}",
            "--root-dir=/var/lib/kubelet",
            "--cert-dir=/var/lib/kubelet/pki",
            "--v=2",
        ],
        "kube-proxy": [str(kube_proxy), f"--config={node}/etc/kube-proxy.json"],
    }


class Daemons:
    """Keeps the node's daemons running; SIGTERM ends the loop."""

    def __init__(self, layout: Layout, index: int, programs: dict[str, list[str]]) -> None:
        self._programs = programs
        self._logs = {name: layout.logs / f"node{index}-{name}.log" for name in programs}
        self._environment = {"PATH": SYSTEM_PATH, "HOME": "/root", MEMBER_VARIABLE: str(layout.state_dir)}
        self._running: dict[int, str] = {}
        self._due = dict.fromkeys(programs, 0.0)

    def keep_running(self) -> None:
        ending = False

        def end(*_: object) -> None:
            nonlocal ending
            ending = True

        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        SOCKET.unlink(missing_ok=True)
        while not ending:
            self._start_due()
            self._reap()
            signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, 0.05 if self._due else 1.0)

    def _start_due(self) -> None:
        for name in [name for name, due in self._due.items() if due <= time.monotonic()]:
            if name == "kubelet" and not SOCKET.exists():
                continue
            del self._due[name]
            with self._logs[name].open("ab") as log:
                process = subprocess.Popen(
                    self._programs[name],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    cwd="/",
                    start_new_session=True,
                )
            self._running[process.pid] = name
            process.returncode = 0  # reaped below, with the orphans

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if name := self._running.pop(ended[0], None):
                    print(f"{name} ended with status {ended[1]}", flush=True)
                    self._due[name] = time.monotonic() + RESTART_SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devcluster.node_init")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--kubelet", type=Path, required=True)
    parser.add_argument("--kube-proxy", type=Path, required=True)
    options = parser.parse_args()
    saved = Saved.read(options.state_dir)
    if saved is None:
        parser.error(f"there is no cluster in {options.state_dir}")
    layout = saved.layout(options.state_dir)
    run("hostname", f"node{options.index}")
    mount_own_folders(layout.node_dir(options.index))
    sized_volumes.mount_all(layout, f"node{options.index}")
    join_network(layout, options.index)
    programs = commands(layout, options.index, options.kubelet, options.kube_proxy)
    Daemons(layout, options.index, programs).keep_running()


if __name__ == "__main__":
    main()
