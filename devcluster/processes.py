"""Starts, watches over and ends processes that outlive the program that started them. It must not know what they do.

Each process is the leader of its own session and is recorded by pid *and* start time, so a recycled pid is never taken
for ours. A small shell around each program starts it again when it dies. All of them carry the name of the state folder
in their environment, which is how those that no record names any more are still found.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevClusterError

MEMBER_VARIABLE = "DEVCLUSTER_MEMBER"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# SIGTERM ends the program in its own time, SIGHUP (the parent died) at once: without etcd an API server would linger.
# $STALE names socket files that a killed program leaves behind and refuses to bind over.
SUPERVISOR = (
    'trap "kill -TERM \\$child 2>/dev/null; wait \\$child; exit 0" TERM; '
    'trap "kill -KILL \\$child 2>/dev/null; exit 0" HUP; '
    'while :; do rm -f $STALE; "$@" & child=$!; wait $child; sleep 0.5; done'
)
# What the shell runs between two lives of the program, itself included (it forks before it becomes the program).
SUPERVISORS_OWN = frozenset({"sh", "dash", "bash", "busybox", "rm", "sleep"})
POLL = 0.02
CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21


def start_time(pid: int) -> str:
    """When a process started, in clock ticks since boot; empty if there is none or it is only waiting to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def children(pid: int) -> list[int]:
    """The direct children of a process, over all of its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


def command_name(pid: int) -> str:
    """The name of the program that a process runs (15 characters at most), empty if there is no process."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def has_capabilities(*wanted: int) -> bool:
    """Whether this process has the capabilities (capabilities(7)); root in a container often has not."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return all(effective >> capability & 1 for capability in wanted)


def resident_bytes(pid: int) -> int:
    """Physical memory of one process, 0 if it is gone."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def descendants(pid: int) -> list[int]:
    """The process and everything below it."""
    found, todo = [], [pid]
    while todo:
        found.append(current := todo.pop())
        todo += children(current)
    return found


def members(state_dir: Path) -> list[int]:
    """Every process that was started for the cluster in this state folder, whether a record names it or not."""
    mark = f"{MEMBER_VARIABLE}={state_dir}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0") and start_time(int(entry.name)):
                    found.append(int(entry.name))
    return found


def wait_until(what: str, condition: Callable[[], bool], timeout: float, interval: float = 0.05) -> None:
    """Poll until `condition` holds. Raises TimeoutError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {timeout:.0f} s")
        time.sleep(interval)


@dataclass(frozen=True)
class Record:
    """A process that was started: its pid and when it started."""

    pid: int
    started: str

    @property
    def alive(self) -> bool:
        return bool(self.started) and start_time(self.pid) == self.started


class Processes:
    """The processes of one cluster, by name; records lie in `run` and output in `logs`."""

    def __init__(self, state_dir: Path, run: Path, logs: Path, *, with_parent: bool = False) -> None:
        """`with_parent`: the processes end when the one that starts them ends, however that happens."""
        self._state_dir, self._run, self._logs, self._with_parent = state_dir, run, logs, with_parent

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def log_tail(self, name: str, lines: int = 8) -> str:
        try:
            return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def names(self) -> list[str]:
        """Names that were started and not stopped, dead or alive."""
        return sorted(path.stem for path in self._run.glob("*.pid"))

    def record(self, name: str) -> Record | None:
        try:
            return Record(**json.loads((self._run / f"{name}.pid").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def alive(self, name: str) -> bool:
        record = self.record(name)
        return record is not None and record.alive

    def program(self, name: str) -> int | None:
        """The pid of the supervised program itself (not of the shell around it), None while it is down."""
        record = self.record(name)
        if record is None or not record.alive:
            return None
        return next((pid for pid in children(record.pid) if command_name(pid) not in SUPERVISORS_OWN), None)

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stale: Sequence[str] = (),
        supervised: bool = True,
    ) -> Record:
        """Start a program in a session of its own, unless it is running already."""
        if (old := self.record(name)) and old.alive:
            return old
        argv = ["sh", "-c", SUPERVISOR, f"devcluster-{name}", *command] if supervised else list(command)
        if self._with_parent and (setpriv := shutil.which("setpriv")):
            argv = [setpriv, "--pdeathsig", "HUP" if supervised else "KILL", *argv]
        own = {"PATH": SYSTEM_PATH, "HOME": str(self._state_dir), MEMBER_VARIABLE: str(self._state_dir)}
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self._run,
                env=own | {"STALE": " ".join(stale)} | dict(environment or {}),
            )
        record = Record(process.pid, start_time(process.pid))
        (self._run / f"{name}.pid").write_text(json.dumps({"pid": record.pid, "started": record.started}))
        # The process is meant to outlive this object; whoever stops it reaps it.
        process.returncode = 0
        return record

    def kill_program(self, name: str) -> int:
        """SIGKILL a supervised program; its shell starts it again half a second later. Returns the killed pid."""
        pid = self.program(name)
        if pid is None:
            raise DevClusterError(f"{name} is not running", "`python -m devcluster status` names what is")
        os.kill(pid, signal.SIGKILL)
        return pid

    def stop(self, name: str, *, grace: float = 8.0) -> None:
        """End a process and its program: SIGTERM, then SIGKILL for the session after `grace` seconds (0: at once)."""
        record = self.record(name)
        if record is not None and record.alive:
            if grace > 0:
                with suppress(ProcessLookupError):
                    os.kill(record.pid, signal.SIGTERM)
                with suppress(TimeoutError):
                    wait_until(f"{name} has ended", lambda: _ended(record), grace, POLL)
            with suppress(ProcessLookupError):
                os.killpg(record.pid, signal.SIGKILL)
            with suppress(TimeoutError):
                wait_until(f"{name} has ended", lambda: _ended(record), 5.0, POLL)
        (self._run / f"{name}.pid").unlink(missing_ok=True)

    def stop_all(self, order: Sequence[str], *, grace: float = 8.0) -> None:
        """End all processes, those in `order` first, then whatever else was started for this state folder."""
        for name in order:
            self.stop(name, grace=grace)
        for name in self.names():
            self.stop(name, grace=grace)
        self.kill_members()

    def kill_members(self) -> None:
        """SIGKILL every process of this state folder that is left, until there is none."""

        def none_left() -> bool:
            left = members(self._state_dir)
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                _reap(pid)
            return not left

        wait_until(f"all processes of {self._state_dir} have ended", none_left, 10.0, POLL)


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _ended(record: Record) -> bool:
    _reap(record.pid)
    return not record.alive
