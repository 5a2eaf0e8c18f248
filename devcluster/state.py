"""Remembers what each cluster was started with and which number it holds. It must not start anything."""

import fcntl
import ipaddress
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.layout import NUMBERS, Layout, Level
from devcluster.processes import Record, start_time


def state_root() -> Path:
    """The user's state folder for all clusters (XDG Base Directory Specification)."""
    root = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(root) / "chatbot-operator" / "devcluster"


def default_state_dir(name: str) -> Path:
    """The state folder of a cluster that was not given one. Raises DevClusterError for a name unfit for a folder."""
    if (
        not name
        or name == "numbers"
        or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name)
        or name[0] == "."
    ):
        raise DevClusterError(
            f"{name!r} cannot be a cluster's name", "use letters, digits, dots, dashes and underscores"
        )
    return state_root() / name


@dataclass(frozen=True)
class Saved:
    """What a cluster was started with; everything that `down` needs to know."""

    name: str
    number: int
    level: Level
    nodes: int
    release: str = ""
    ephemeral: bool = False

    def layout(self, state_dir: Path) -> Layout:
        return Layout(state_dir, self.number, self.level, self.nodes)

    def write(self, state_dir: Path) -> None:
        replacement = state_dir / "settings.json.new"
        replacement.write_text(json.dumps(asdict(self), indent=1))
        replacement.rename(state_dir / "settings.json")

    @classmethod
    def read(cls, state_dir: Path) -> "Saved | None":
        """The settings in a state folder, None if there are none (or they are from another version)."""
        try:
            return cls(**json.loads((state_dir / "settings.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Claim:
    """A number that is taken, by which state folder and, for a test's cluster, by which process."""

    number: int
    state_dir: Path
    owner: Record
    ephemeral: bool

    @property
    def abandoned(self) -> bool:
        """Whether its cluster should not be there any more: its test is dead, or its folder was deleted by hand.

        Never while the process that started it or is removing it lives.
        """
        return not self.owner.alive and (self.ephemeral or not self.state_dir.exists())


class Numbers:
    """The numbers that this user's clusters hold, one file each, changed under a lock."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or state_root() / "numbers"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.json"

    def claims(self) -> list[Claim]:
        found = []
        for number in NUMBERS:
            try:
                saved = json.loads(self._file(number).read_text())
            except (OSError, ValueError):
                continue
            owner = Record(saved["pid"], saved["started"])
            found.append(Claim(number, Path(saved["state_dir"]), owner, saved["ephemeral"]))
        return found

    def claim(self, state_dir: Path, *, ephemeral: bool) -> int:
        """The number that a state folder holds already, else the first free one, recorded as this process' own.

        Raises DevClusterError if all are taken.
        """
        with self._locked():
            claims = self.claims()
            held = next((claim.number for claim in claims if claim.state_dir == state_dir), None)
            taken = {claim.number for claim in claims}
            routes = Path("/proc/net/route").read_text()
            number = held if held is not None else free_number(taken, routes)
            if number is None:
                raise DevClusterError(
                    f"no cluster number is free: {len(taken)} clusters or other networks cover 10.200 to 10.255",
                    "stop one with `python -m devcluster down --name NAME`",
                )
            self._write(number, state_dir, ephemeral=ephemeral)
            return number

    def _write(self, number: int, state_dir: Path, *, ephemeral: bool) -> None:
        pid = os.getpid()
        entry = {"state_dir": str(state_dir), "pid": pid, "started": start_time(pid), "ephemeral": ephemeral}
        replacement = self._file(number).with_suffix(".new")
        replacement.write_text(json.dumps(entry))
        replacement.rename(self._file(number))

    def take_abandoned(self) -> list[Claim]:
        """Make this process the owner of every abandoned claim, so that only one cleans up after it."""
        with self._locked():
            found = [claim for claim in self.claims() if claim.abandoned]
            for claim in found:
                self._write(claim.number, claim.state_dir, ephemeral=claim.ephemeral)
            return found

    def of(self, state_dir: Path) -> Claim | None:
        """The claim that a state folder holds."""
        return next((claim for claim in self.claims() if claim.state_dir == state_dir), None)

    def release(self, number: int, state_dir: Path) -> None:
        """Give a number back, if this folder is who holds it."""
        with self._locked():
            if any(claim.number == number and claim.state_dir == state_dir for claim in self.claims()):
                self._file(number).unlink(missing_ok=True)


def overlapping_route(routes: str, network: str) -> str | None:
    """The first route in the text of /proc/net/route, other than the default, that overlaps with an IPv4 network."""
    wanted = ipaddress.ip_network(network)
    for line in routes.splitlines()[1:]:
        fields = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
        route = ipaddress.ip_network((address, mask.bit_count()))
        if mask and route.overlaps(wanted):
            return str(route)
    return None


def free_number(taken: set[int], routes: str) -> int | None:
    """The first number that is not taken and whose network, bridge and ports nothing on this machine uses."""
    return next((number for number in NUMBERS if number not in taken and _free(number, routes)), None)


def _free(number: int, routes: str) -> bool:
    layout = Layout(Path("/"), number)
    if Path("/sys/class/net", layout.bridge).exists() or overlapping_route(routes, layout.cluster_range):
        return False
    return port_in_use(layout) is None


def port_in_use(layout: Layout) -> int | None:
    """The first of the cluster's ports that another program listens on, None if all are free."""
    for port in layout.listening_ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((layout.host_address, port))
            except OSError:
                return port
    return None
