"""Measures the downloader against curl: `python -m bench.download [--size MIB] [--rounds N] [--output json]`.

The same bytes from the same stand-in of the Hub, in turns, to the same folder: over a link of 2.5 Gbit/s, and as fast
as this machine's own memory gives them, where hashing takes from the processor what sender and receiver need. Exit code
1: a goal is missed. Figures depend on the machine; run it when the machine has nothing else to do.
"""

import argparse
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.runtime_peers import free_port
from devcluster.processes import wait_until

MIB = 1024 * 1024
REPOSITORY, FILE = "org/large", "large.gguf"
SPEED_GOAL = 0.9
LINK_BYTES_PER_SECOND = 2.5e9 / 8
MEMORY_GOAL = 96.0


@dataclass(frozen=True)
class Round:
    """One download by each: seconds from the request for the bytes to the end, CPU seconds, most resident MiB.

    `checked_seconds`: curl, and hashing its file after it, by the same library.
    """

    curl_seconds: float
    curl_cpu: float
    checked_seconds: float
    own_seconds: float
    own_cpu: float
    own_memory: float


@dataclass(frozen=True)
class Result:
    """All rounds of one size. `link`: over a link with a limit, else as fast as the machine can."""

    mib: int
    link: bool
    rounds: list[Round]

    @property
    def speed(self) -> float:
        """How fast ours is beside curl: the median of the rounds."""
        return statistics.median(each.curl_seconds / each.own_seconds for each in self.rounds)

    @property
    def memory(self) -> float:
        """The most that ours had of any round."""
        return max(each.own_memory for each in self.rounds)

    @property
    def checked(self) -> float:
        """How fast ours is beside curl with hashing after it."""
        return statistics.median(each.checked_seconds / each.own_seconds for each in self.rounds)

    @property
    def bound(self) -> tuple[str, float]:
        """What it must be as fast as: whoever verifies has to hash, which only a link leaves time for."""
        return ("curl", self.speed) if self.link else ("curl and hashing", self.checked)

    @property
    def ok(self) -> bool:
        return self.bound[1] >= SPEED_GOAL and self.memory < MEMORY_GOAL


def measure(mib: int, rounds: int, folder: Path) -> list[Result]:
    """Downloads in turns, over a link and without a limit."""
    repository, models = folder / "repository", folder / "models"
    repository.mkdir()
    _write(repository / FILE, mib)
    with _hub(repository) as url:
        results = []
        for link in (True, False):
            _limit(url, LINK_BYTES_PER_SECOND if link else 0)
            results.append(Result(mib, link, [_round(url, folder / "by-curl", models) for _ in range(rounds)]))
    return results


def _round(url: str, file: Path, models: Path) -> Round:
    ended, cpu, checked = _curl(f"{url}/{REPOSITORY}/resolve/main/{FILE}", file)
    begun = _begun(url)
    curl = ended - begun, cpu, checked - begun
    ended, cpu, memory = _own(url, models)
    return Round(*curl, ended - _begun(url), cpu, memory)


def _limit(url: str, rate: float) -> None:
    """Bytes a second from now on; 0: no limit."""
    body = json.dumps({"rate": rate} if rate else {}).encode()
    with urllib.request.urlopen(f"{url}/ctl", data=body, timeout=10):  # noqa: S310 - our own stand-in
        pass


def _write(path: Path, mib: int) -> None:
    with path.open("wb") as file:
        file.write(b"GGUF" + os.urandom(MIB - 4))
        for _ in range(mib - 1):
            file.write(os.urandom(MIB))


@contextmanager
def _hub(folder: Path) -> Iterator[str]:
    ports = [free_port() for _ in range(2)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.hub", "--port", str(ports[0]), "--store-port", str(ports[1]),
         "--repo", f"{REPOSITORY}={folder}"]
    )  # fmt: skip
    try:
        with suppress(TimeoutError):  # it hashes the file first
            wait_until("the Hub listens", lambda: process.poll() is not None or _listens(ports[1]), 60)
        if not _listens(ports[1]):
            raise SystemExit("error: the stand-in of the Hub does not listen")
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        process.terminate()
        process.wait(10)


def _begun(url: str) -> float:
    """When the bytes were asked for, in seconds since the epoch."""
    with urllib.request.urlopen(f"{url}/ctl/requests", timeout=10) as answer:  # noqa: S310 - of our own stand-in
        seen = json.load(answer)
    return next(float(request["at"]) for request in reversed(seen) if "/cdn/" in request["path"])


def _curl(url: str, path: Path) -> tuple[float, float, float]:
    """When it ended, its CPU seconds, and when the file was hashed."""
    command = ["curl", "--silent", "--show-error", "--fail", "--location", "--output", str(path), url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    _, usage = _ended(process)
    ended = time.time()
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    checked = time.time()
    path.unlink()
    return ended, usage.ru_utime + usage.ru_stime, checked


def _own(url: str, models: Path) -> tuple[float, float, float]:
    """When the model was verified and under its name, CPU seconds, most resident MiB."""
    shutil.rmtree(models, ignore_errors=True)
    models.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CHATBOT_")}
    settings = {
        "MODELS": f"hf://{REPOSITORY}/{FILE}",
        "LIST_HASH": "bench",
        "MODELS_DIR": str(models),
        "HUB_URL": url,
        "HOST": "127.0.0.1",
        "INTERNAL_PORT": "0",
        "TERMINATION_FILE": os.devnull,
        "LOG_FORMAT": "json",
    }
    environ = clean | {f"CHATBOT_{name}": value for name, value in settings.items()} | {"NO_PROXY": "*"}
    process = subprocess.Popen(
        [sys.executable, "-m", "chatbot_runtime", "download"],
        env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    output, usage = _ended(process)
    times = {line["msg"].split(":")[0]: line["ts"] for line in map(json.loads, output.splitlines())}
    return times["whole"], usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def _ended(process: "subprocess.Popen[str]") -> tuple[str, Any]:
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"error: {process.args!r} ended with {process.returncode}: {output}")
    return output, usage


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def table(result: Result) -> str:
    """For people."""
    names = ("curl", "checked", "own")
    seconds = [statistics.median(getattr(r, f"{who}_seconds") for r in result.rounds) for who in names]
    cpu = [statistics.median(getattr(r, f"{who}_cpu") for r in result.rounds) for who in ("curl", "own")]
    rates = [result.mib / each for each in seconds]
    over = f"a link of {LINK_BYTES_PER_SECOND * 8 / 1e9:g} Gbit/s" if result.link else "no limit but the machine"
    verdict = {True: "ok", False: "MISSED"}
    name, speed = result.bound
    return "\n".join(
        [
            f"{result.mib} MiB, {over}, medians of {len(result.rounds)} rounds in turns",
            f"{'':<32} {'curl':>8} {'+ hashing':>12} {'ours':>8}",
            f"{'MiB a second':<32} {rates[0]:>8.0f} {rates[1]:>12.0f} {rates[2]:>8.0f}",
            f"{'CPU seconds':<32} {cpu[0]:>8.2f} {'':>12} {cpu[1]:>8.2f}   ours: with the start, and hashing",
            f"{'ours beside them':<32} {result.speed:>8.2f} {result.checked:>12.2f} {'':>8}   "
            f"beside {name}: goal {SPEED_GOAL:g} or more  {verdict[speed >= SPEED_GOAL]}",
            f"{'most memory, MiB':<32} {'':>8} {'':>12} {result.memory:>8.1f}   goal below {MEMORY_GOAL:g}  "
            f"{verdict[result.memory < MEMORY_GOAL]}",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.download", description=__doc__)
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="size of the file (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="downloads of each (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="where files are; a disk's speed counts then (default: in memory)")
    parser.add_argument("--output", choices=("text", "json"), default="text", help="json: for scripts")
    arguments = parser.parse_args(argv)
    memory = Path("/dev/shm")  # noqa: S108 - a file system in memory
    base = arguments.folder or (memory if shutil.disk_usage(memory).free > 4 * arguments.size * MIB else None)
    with tempfile.TemporaryDirectory(dir=base) as folder:
        results = measure(arguments.size, arguments.rounds, Path(folder))
    if arguments.output == "json":
        figures = ("speed", "checked", "memory", "ok")
        print(json.dumps([asdict(r) | {name: getattr(r, name) for name in figures} for r in results]))
    else:
        print("\n\n".join(map(table, results)))
    return 0 if all(r.ok for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
