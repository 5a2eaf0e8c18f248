"""One whole cluster: started, stopped, repaired and disturbed by name. It must not know what runs in it.

cluster = Cluster.start("test", level="control-plane", fake_nodes=2)
... KUBECONFIG=cluster.kubeconfig ...
cluster.kill("apiserver")      # SIGKILL; it is back by itself
cluster.remove()
"""

import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from devcluster import certificates, control_plane, kubectl, network, objects, state
from devcluster.api import Api
from devcluster.build import NEEDED, Programs
from devcluster.errors import DevClusterError
from devcluster.images import pause
from devcluster.images.archive import BuiltImage
from devcluster.layout import LEVELS, Layout, Level
from devcluster.node import Nodes
from devcluster.processes import Processes, wait_until
from devcluster.progress import Progress, Silent
from devcluster.state import Claim, Numbers, Saved

CONTROL_PLANE = ("etcd", "apiserver", "controller-manager", "scheduler")
STOP_ORDER = ("addons", "scheduler", "controller-manager", "coredns", "apiserver", "etcd")
READY_SECONDS = 90.0
# A state folder holds etcd's preallocated logs and, per node, unpacked images, in bytes.
DISK_NEEDED: Mapping[Level, int] = {"control-plane": 512 << 20, "node": 2 << 30}
PACKAGE_ROOT = Path(__file__).resolve().parent.parent


class Cluster:
    """A running or stopped cluster, identified by its state folder."""

    def __init__(self, state_dir: Path, saved: Saved, progress: Progress | None = None) -> None:
        self.state_dir = state_dir
        self.progress: Progress = progress or Silent()
        self.programs = Programs(self.progress)
        self._use(saved)

    def _use(self, saved: Saved) -> None:
        self.saved = saved
        self.layout: Layout = saved.layout(self.state_dir)
        self.processes = Processes(self.state_dir, self.layout.run, self.layout.logs, with_parent=saved.ephemeral)
        self.nodes = Nodes(self.layout, self.processes, self.programs)

    # ------------------------------------------------------------ finding and starting

    @classmethod
    def start(
        cls,
        name: str = "dev",
        *,
        level: Level = "control-plane",
        nodes: int = 1,
        fake_nodes: int = 0,
        state_dir: Path | None = None,
        images: Iterable[BuiltImage | Path] = (),
        progress: Progress | None = None,
        lifetime: Literal["until-down", "process"] = "until-down",
    ) -> "Cluster":
        """Start the cluster, or complete and repair one that is there; return when it is ready for work.

        At level "node" it has at least `nodes` real ones. With lifetime "process" the cluster ends with the calling
        process, also when that is killed, and the next start of any cluster takes away what is left of it.
        Raises DevClusterError if something is missing or does not become ready; then nothing keeps running.
        """
        progress = progress or Silent()
        if level not in LEVELS:
            raise DevClusterError(f"there is no level {level!r}", f"levels are {' and '.join(LEVELS)}")
        if level == "node":
            Nodes.require_abilities(progress)
        folder = (state_dir or state.default_state_dir(name)).resolve()
        release = _release(Programs(progress).ensure(NEEDED[level]))
        remove_abandoned()
        _require_disk(folder, DISK_NEEDED[level])
        number = Numbers().claim(folder, ephemeral=lifetime == "process")
        before = Saved.read(folder)
        # Nodes that were added meanwhile stay.
        count = max(nodes, before.nodes if before else 0) if level == "node" else 0
        cluster = cls(folder, Saved(name, number, level, count, release, lifetime == "process"), progress)
        cluster._start(before, list(images))
        cluster._ensure_fake_nodes(fake_nodes)
        return cluster

    @classmethod
    def load(cls, name: str = "dev", state_dir: Path | None = None, progress: Progress | None = None) -> "Cluster":
        """The cluster that was started under this name. Raises DevClusterError if there is none."""
        folder = (state_dir or state.default_state_dir(name)).resolve()
        if saved := Saved.read(folder):
            return cls(folder, saved, progress)
        if claim := Numbers().of(folder):
            return cls.of_claim(claim, progress)
        raise DevClusterError(f"there is no cluster in {folder}", "start one with `python -m devcluster up`")

    @classmethod
    def of_claim(cls, claim: Claim, progress: Progress | None = None) -> "Cluster":
        """The cluster that holds a number, also if its folder is damaged or gone: then it may have been anything."""
        level: Level = "node" if network.may_change_network() else "control-plane"
        most = Saved("", claim.number, level, 1, ephemeral=claim.ephemeral)
        return cls(claim.state_dir, Saved.read(claim.state_dir) or most, progress)

    def _start(self, before: Saved | None, images: Sequence[BuiltImage | Path]) -> None:
        if before == self.saved and self.healthy():
            self.progress.note(f"cluster {self.saved.name} is running already")
            self.nodes.load_images(images, self.progress)
            return
        if before is not None:
            Cluster(self.state_dir, before).stop(grace=2.0)
        try:
            self._start_everything(images)
        except BaseException as error:
            # Ctrl-C included: what was started half is ended, whatever happens meanwhile.
            with suppress(DevClusterError, TimeoutError):
                if before is None and isinstance(error, KeyboardInterrupt):
                    self.remove()
                else:
                    self.stop(grace=0)
            if isinstance(error, TimeoutError):
                raise DevClusterError(str(error), f"the logs are in {self.layout.logs}") from error
            raise

    def _start_everything(self, images: Sequence[BuiltImage | Path]) -> None:
        for folder in (self.state_dir, self.layout.logs, self.layout.run, self.layout.volumes):
            folder.mkdir(parents=True, exist_ok=True)
        self.state_dir.chmod(0o700)
        self.saved.write(self.state_dir)
        self.processes.kill_members()
        with self.progress.step("certificates"):
            certificates.make_all(self.layout)
            control_plane.write_audit_policy(self.layout)
        if network.may_change_network():
            network.raise_fence(self.layout)
        if self.layout.nodes:
            network.make_bridge(self.layout)
        if port := state.port_in_use(self.layout):
            raise DevClusterError(
                f"port {port} on {self.layout.host_address} is taken by another program",
                f"end it (`ss -ltnp sport = {port}`)",
            )
        with self.progress.step("control plane", usual=4):
            self._launch("etcd")
            self._launch("apiserver")
            self._launch("addons")
            self.nodes.start_all()
            loading = self.nodes.load_images_meanwhile(images)
            self._await("the API server is ready", lambda: self.api().exists("/readyz"), "apiserver")
            # Started earlier they would find RBAC's own roles missing and exit.
            self._launch("controller-manager")
            self._launch("scheduler")
            self._apply(self._base_objects())
        if self.layout.nodes:
            self._launch("coredns")
            with self.progress.step(f"{self.layout.nodes} node(s), images", usual=4):
                for result in loading:
                    result.result()
                self._await_nodes({f"node{index}" for index in self.layout.node_indices})
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._await("the first ServiceAccount is there", lambda: self.api().exists(account), "controller-manager")

    def _base_objects(self) -> list[objects.Object]:
        authority = (self.layout.pki / "server-ca.crt").read_bytes()
        return [*objects.base_objects(self.layout), *objects.metrics_objects(self.layout, authority)]

    # ------------------------------------------------------------ components

    def _command(self, component: str) -> list[str]:
        if component == "addons":
            return [sys.executable, "-m", "devcluster.addons", "--state-dir", str(self.state_dir)]
        if component == "coredns":
            return self.nodes.coredns_command()
        programs = self.programs.ensure(NEEDED["control-plane"])
        commands: dict[str, Callable[[Layout, Mapping[str, Path]], list[str]]] = {
            "etcd": control_plane.etcd,
            "apiserver": control_plane.api_server,
            "controller-manager": control_plane.controller_manager,
            "scheduler": control_plane.scheduler,
        }
        return commands[component](self.layout, programs)

    def _launch(self, component: str) -> None:
        self.processes.start(
            component,
            self._command(component),
            environment={"PYTHONPATH": str(PACKAGE_ROOT)} if component == "addons" else {},
            stale=control_plane.ETCD_STALE_SOCKETS if component == "etcd" else (),
        )

    def components(self) -> list[str]:
        """Names that kill, halt and restart accept."""
        host = [*CONTROL_PLANE, "addons", *(["coredns"] if self.layout.nodes else [])]
        return host + self.nodes.components()

    def _resolve(self, component: str) -> str:
        name = component.removeprefix("kube-")
        if name not in self.components():
            raise DevClusterError(f"there is no component {component!r}", f"there are {', '.join(self.components())}")
        return name

    def pid(self, component: str) -> int | None:
        """The process of a component, None while it is down."""
        name = self._resolve(component)
        return self.nodes.pid(name) if name.startswith("node") else self.processes.program(name)

    def kill(self, component: str) -> None:
        """SIGKILL one component. All come back by themselves within a second, except a whole node (`restart` it)."""
        name = self._resolve(component)
        pid = self.pid(name)
        if pid is None:
            raise DevClusterError(f"{name} is not running", "`python -m devcluster status` shows what is")
        if name in self.nodes.names():
            self.processes.stop(name, grace=0)
            return
        os.kill(pid, signal.SIGKILL)
        wait_until(f"{name} has ended", lambda: self.pid(name) != pid, 5.0, 0.01)

    def halt(self, component: str) -> None:
        """End one component and keep it down until `restart`."""
        name = self._resolve(component)
        if "/" in name:
            raise DevClusterError(f"{name} cannot stay down alone", f"halt {name.partition('/')[0]}, or kill {name}")
        self.processes.stop(name, grace=0 if name in self.nodes.names() else 4.0)

    def restart(self, component: str) -> None:
        """End one component, start it again and wait until it works."""
        name = self._resolve(component)
        if "/" in name:
            self.kill(name)
            self._await(f"{name} is back", lambda: self.pid(name) is not None, name.replace("/", "-"))
            return
        self.halt(name)
        if name in self.nodes.names():
            self.nodes.start(int(name.removeprefix("node")))
            self._await_nodes({name})
            return
        self._launch(name)
        self.await_ready()

    # ------------------------------------------------------------ state

    def api(self) -> Api:
        return Api(self.layout)

    def healthy(self) -> bool:
        """Whether every process runs, the API answers and all real nodes are Ready."""
        running = all(self.processes.alive(name) for name in self.components() if "/" not in name)
        if not running or not self.api().exists("/readyz"):
            return False
        return {f"node{index}" for index in self.layout.node_indices} <= self.api().ready_nodes()

    def await_ready(self, timeout: float = 30.0) -> None:
        """Wait until the API server is ready. Raises TimeoutError."""
        wait_until("the API server is ready", lambda: self.api().exists("/readyz"), timeout)

    def _await(self, what: str, condition: Callable[[], bool], component: str, timeout: float = READY_SECONDS) -> None:
        try:
            wait_until(what, condition, timeout)
        except TimeoutError as error:
            tail = self.processes.log_tail(component)
            raise DevClusterError(
                f"{error}; the last lines of {component}:\n{tail}", f"all logs are in {self.layout.logs}"
            ) from error

    def _await_nodes(self, names: set[str]) -> None:
        what = f"{', '.join(sorted(names))} ready"
        log = f"{min(names)}-kubelet" if self.layout.nodes else "addons"
        self._await(what, lambda: names <= self.api().ready_nodes(), log)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: one JSON object a line for each request that is not the cluster's own."""
        return self.layout.audit_log

    @property
    def kubectl_path(self) -> Path:
        return self.programs.ensure(["kubectl"])["kubectl"]

    @property
    def helm_path(self) -> Path:
        """Helm, built when it is first asked for."""
        return self.programs.ensure(["helm"])["helm"]

    def environment(self) -> dict[str, str]:
        """What a shell needs."""
        return kubectl.environment(self.layout, self.programs)

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run kubectl as administrator and return what it prints. Raises DevClusterError with its message."""
        return kubectl.run(self.layout, self.programs, *arguments, stdin=stdin, timeout=timeout)

    def _apply(self, manifests: Iterable[objects.Object]) -> None:
        kubectl.apply(self.layout, self.programs, manifests)

    # ------------------------------------------------------------ contents

    def load_images(self, images: Iterable[BuiltImage | Path]) -> None:
        """Put images into every real node; those that are there already cost nothing."""
        if not self.layout.nodes:
            raise DevClusterError("a cluster without real nodes cannot hold images", "start it at level node")
        self.nodes.load_images(list(images), self.progress)

    def add_node(self, images: Iterable[BuiltImage | Path] = ()) -> str:
        """Add a real node to a cluster that has some and return its name once it is Ready."""
        if not self.layout.nodes:
            raise DevClusterError("only a cluster with real nodes can get another", "start it at level node")
        self._use(replace(self.saved, nodes=self.saved.nodes + 1))
        self.saved.write(self.state_dir)
        index = self.layout.nodes
        certificates.make_node(self.layout, index)
        self.nodes.start(index)
        self.nodes.load_images([pause.build(), *images], self.progress)
        self._await_nodes({f"node{index}"})
        return f"node{index}"

    def drain(self, node: str, timeout: float = 60.0) -> None:
        """Evict a node's pods, respecting PodDisruptionBudgets, and keep new ones away until `uncordon`."""
        arguments = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", f"--timeout={timeout:.0f}s")
        self.kubectl("drain", node, *arguments, timeout=timeout + 10)

    def uncordon(self, node: str) -> None:
        """Let pods onto a drained node again."""
        self.kubectl("uncordon", node)

    def add_fake_nodes(
        self,
        count: int,
        *,
        tainted: bool | None = None,
        prefix: str = "fake",
        cpu: str = "32",
        memory: str = "256Gi",
        pods: int = 1000,
    ) -> list[str]:
        """Add Nodes that no kubelet stands behind and return their names; existing names are left as they are.

        All have the label `type=fake`. Tainted ones (`kwok.x-k8s.io/node=fake:NoSchedule`) keep ordinary pods away; by
        default only beside real nodes, since at level "control-plane" nothing else could take a pod.
        """
        tainted = self.layout.nodes > 0 if tainted is None else tainted
        names = [f"{prefix}-{index}" for index in range(1, count + 1)]
        if names:
            self._apply(objects.fake_node(n, tainted=tainted, cpu=cpu, memory=memory, pods=pods) for n in names)
            self._await(f"{count} fake nodes ready", lambda: set(names) <= self.api().ready_nodes(), "addons")
        return names

    def _ensure_fake_nodes(self, count: int) -> None:
        if count:
            with self.progress.step(f"{count} fake node(s)"):
                self.add_fake_nodes(count)

    # ------------------------------------------------------------ ending

    def stop(self, *, grace: float = 8.0) -> None:
        """End all processes and take away network and control groups; the state folder stays for the next start."""
        for name in self.nodes.names():
            self.processes.stop(name, grace=0)
        self.processes.stop_all(STOP_ORDER, grace=grace)
        self.nodes.clean_up()
        if network.may_change_network():
            network.remove(self.layout)

    def remove(self) -> None:
        """End everything at once and delete the state folder."""
        # Owned by this process, the number is not taken for abandoned while the folder goes.
        if Numbers().of(self.state_dir):
            Numbers().claim(self.state_dir, ephemeral=self.saved.ephemeral)
        self.stop(grace=0)
        shutil.rmtree(self.state_dir, ignore_errors=True)
        Numbers().release(self.layout.number, self.state_dir)


def remove_abandoned() -> list[Path]:
    """Take away what is left of tests that were killed and of clusters whose folder was deleted by hand."""
    taken = Numbers().take_abandoned()
    for claim in taken:
        Cluster.of_claim(claim).remove()
    return [claim.state_dir for claim in taken]


def _release(programs: Mapping[str, Path]) -> str:
    return hashlib.sha256("\0".join(str(programs[name]) for name in sorted(programs)).encode()).hexdigest()[:12]


def _require_disk(folder: Path, needed: int) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DevClusterError(
            f"a cluster needs {needed >> 20} MiB of disk and {existing} has {free >> 20} MiB free",
            "free some space or choose another place with --state-dir",
        )
