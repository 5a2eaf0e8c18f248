"""The migration matrix: its cells, and what is seen of one: answers, held against the truth, and changes of objects.

It also runs in the load's pod, beside load_client.py, whose own judge knows neither phase local nor what may be said
while a provider is down. So it needs only aiohttp, and must not know how a cell is played.
"""

import asyncio
import http.client
import json
import os
import random
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

try:
    from tests.support import load_client
except ImportError:  # in a pod
    import load as load_client  # type: ignore[import-not-found, no-redef]

MOCK, HF, LOCAL = PHASES = ("mock", "hf", "local")
OUTCOMES = ("succeeds", "fails-before-ready", "fails-after-ready", "changed-mind", "operator-killed")
FALLBACK = "x-chatbot-fallback"
GROUP = "chatbot-operator.dev"
REFUSED, BROKEN_OFF, INSTEAD = "refused", "broken off", "fallback"
"""What begins a problem that is as it should be while the provider of a phase is down."""
Object = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A move from one phase to another, and what happens to it."""

    source: str
    target: str
    loaded: bool
    outcome: str

    def __str__(self) -> str:
        return f"{self.source}-to-{self.target}/{'loaded' if self.loaded else 'idle'}/{self.outcome}"


CELLS = [Cell(*move, *how) for move in permutations(PHASES, 2) for how in product((False, True), OUTCOMES)]


def few_cells(number: int, seed: int) -> list[Cell]:
    """Some with every direction, every outcome, and half of them under load."""
    chance = random.Random(seed)
    while True:
        few = chance.sample(CELLS, number)
        moves, outcomes = {(cell.source, cell.target) for cell in few}, {cell.outcome for cell in few}
        if (len(moves), len(outcomes), sum(cell.loaded for cell in few)) == (6, len(OUTCOMES), number // 2):
            return few


class Problem(Exception):
    """An answer is not as it must be."""


@dataclass(frozen=True)
class Said:
    """A whole answer, and who gave it by its own words."""

    phase: str
    model: str
    fallback: str
    text: str
    finish: str


@dataclass(frozen=True)
class Outage:
    """A time in which something was wrong by intent. `lossy`: a pod died, with the answers that it was giving."""

    since: float
    until: float
    lossy: bool

    def excuses(self, began: float, ended: float, problem: str) -> bool:
        """Whether it is why a request failed that ran from `began` to `ended`; a load says its kind first."""
        proper = problem.split(": ")[1] in (REFUSED, BROKEN_OFF, INSTEAD)
        return began <= self.until and ended >= self.since and (self.lossy or proper)


def key(phase: str, model: str) -> str:
    """Who answers, as a key of a load's `answers`."""
    return f"{phase} {model}"


async def ask(session: aiohttp.ClientSession, job: load_client.Job, *, stream: bool) -> str:
    """Empty if the answer was as it must be, else what was wrong."""
    try:
        await question(session, job.url, job.answers, stream=stream)
    except Problem as problem:
        return str(problem)
    return ""


async def question(
    session: aiohttp.ClientSession, url: str, answers: load_client.Answers, *, stream: bool = False
) -> Said:
    """One answer, which is as it must be. Raises Problem."""
    body: dict[str, Any] = {"model": "", "messages": [{"role": "user", "content": "hello"}], "stream": stream}
    if not stream:
        body["max_tokens"] = load_client.SHORT_TOKENS
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            text = await response.text()
            if response.status != 200:
                raise refusal(response.status, response.headers, text)
            said = streamed(text) if stream else whole(text)
            return truthful(said, response.headers.get(FALLBACK, ""), answers)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
        raise Problem(f"{type(error).__name__}: {error}") from None


def refusal(status: int, headers: Mapping[str, str], text: str) -> Problem:
    """A proper one is a 503 that says why, and when to come back."""
    with suppress(ValueError, KeyError, TypeError):
        code = json.loads(text)["error"]["code"]
        if status == 503 and code and "Retry-After" in headers:
            return Problem(f"{REFUSED}: {code}")
    return Problem(f"{status} {text[:300]}")


def whole(text: str) -> Said:
    """An answer that came in one piece."""
    body = json.loads(text)
    (choice,) = body["choices"]
    who = body["chatbot"]
    return Said(
        who["phase"], body["model"], who["fallback"] or "", choice["message"]["content"], choice["finish_reason"]
    )


def streamed(text: str) -> Said:
    """An answer that came in pieces, all of one model, with one reason to finish and the mark of the end."""
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    done = events[-1:] == ["[DONE]"]
    chunks: list[dict[str, Any]] = [json.loads(event) for event in (events[:-1] if done else events)]
    if failed := [chunk["error"] for chunk in chunks if "error" in chunk]:
        raise Problem(f"{BROKEN_OFF}: {failed[0]['code']}" if not done else f"done after an error: {text[-300:]}")
    if not done:
        raise Problem(f"cut: …{text[-200:]}")
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    model, who = chunks[0]["model"], chunks[0]["chatbot"]
    if {chunk["model"] for chunk in chunks} != {model} or reasons != ["stop"]:
        raise Problem(f"not well formed: finish reasons {reasons}: …{text[-300:]}")
    content = "".join(choice["delta"].get("content") or "" for choice in choices)
    return Said(who["phase"], model, who["fallback"] or "", content, reasons[0])


def truthful(said: Said, header: str, answers: load_client.Answers) -> Said:
    """The answer, if who it names says such a thing and did so himself. Raises Problem."""
    if header != said.fallback:
        raise Problem(f"the header says {header!r} of {said}")
    may = answers.get(key(MOCK if said.fallback else said.phase, said.model), [])
    complete = said.finish == "stop" and said.text in may
    if not complete and not (said.finish == "length" and said.text and any(a.startswith(said.text) for a in may)):
        raise Problem(f"untrue: {said}")
    if said.fallback:
        raise Problem(f"{INSTEAD}: {said.fallback}")
    return said


@dataclass(frozen=True)
class Change:
    """A change of an object; those of all kinds have an order."""

    number: int
    kind: str
    type: str
    object: Object

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.object["metadata"]["name"]

    def __str__(self) -> str:
        return f"{self.type} {'/'.join(self.key)} at {self.number}"


PODS, CLAIMS, JOBS, SLICES, DEPLOYMENTS = "pods", "persistentvolumeclaims", "jobs", "endpointslices", "deployments"
PATHS = {
    PODS: "api/v1",
    CLAIMS: "api/v1",
    JOBS: "apis/batch/v1",
    SLICES: "apis/discovery.k8s.io/v1",
    DEPLOYMENTS: "apis/apps/v1",
}


class Watch:
    """Every change of a namespace's objects. A context manager."""

    def __init__(self, kubectl: Sequence[str], environment: Mapping[str, str], namespace: str) -> None:
        self._kubectl, self._environment, self._namespace = kubectl, environment, namespace
        self._changes: list[Change] = []
        self._closing = False
        self.ended: list[str] = []
        """Kinds that were not watched to the end."""

    def __enter__(self) -> Self:
        command = [*self._kubectl, "proxy", "--port=0"]
        self._proxy = subprocess.Popen(command, env=dict(self._environment), stdout=subprocess.PIPE, text=True)
        assert self._proxy.stdout is not None
        address = self._proxy.stdout.readline().split()[-1]
        for kind, path in PATHS.items():
            url = f"http://{address}/{path}/namespaces/{self._namespace}/{kind}?watch=1"
            threading.Thread(target=self._follow, args=(kind, url), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing = True
        self._proxy.terminate()
        self._proxy.wait(10)

    def _follow(self, kind: str, url: str) -> None:
        with suppress(OSError, http.client.HTTPException, ValueError, KeyError), urllib.request.urlopen(url) as lines:
            for line in lines:
                event = json.loads(line)
                number = int(event["object"]["metadata"]["resourceVersion"])  # an error has none
                self._changes.append(Change(number, kind, event["type"], event["object"]))
        if not self._closing:
            self.ended.append(kind)

    def changes(self) -> list[Change]:
        """So far, in the order in which they were made."""
        return sorted(self._changes, key=lambda change: change.number)


def violations(changes: Iterable[Change], service: str) -> list[str]:
    """What must never be, and was: each once, with the change that made it so."""
    world: dict[tuple[str, str], Object] = {}
    found: dict[str, str] = {}
    served, wanted = False, 0
    for change in changes:
        if change.key == (DEPLOYMENTS, f"{service}-backend"):
            wanted = max(wanted, change.object["spec"].get("replicas", 1))
        gone = change.type == "DELETED"
        if gone:
            world.pop(change.key, None)
        else:
            world[change.key] = change.object
        serves = any(ready_endpoints(world, service))
        served = served or serves
        wrong = [*at_most(world, wanted + 1), *([] if serves or not served else ["the Service has no ready endpoint"])]
        if change.kind == CLAIMS and (gone or leaves(change.object)):
            wrong += [f"the claim goes under pod {name}" for name in mounting(world, change.key[1])]
        for what in wrong:
            found.setdefault(what, f"{what}: {change}")
    if not served:
        found[""] = "the Service never had a ready endpoint"
    return list(found.values())


def at_most(world: Mapping[tuple[str, str], Object], pods: int) -> Iterator[str]:
    """What there is too much of. `pods`: of the backend, the one that comes before another goes included."""
    jobs = Counter(
        job["metadata"]["annotations"][f"{GROUP}/claim-uid"] for (kind, _), job in world.items() if kind == JOBS
    )
    if jobs and max(jobs.values()) > 1:
        yield "a claim has more than one Job"
    writers, backend = set(), 0
    for pod in running(world):
        labels = pod["metadata"].get("labels", {})
        if labels.get("app.kubernetes.io/component") == "download":
            writers.add(labels["batch.kubernetes.io/job-name"])
        backend += labels.get("app.kubernetes.io/component") == "backend" and not leaves(pod)
    if len(writers) > 1:
        yield "pods of more than one Job write"
    if backend > pods:
        yield "there are more pods than a rollout needs"


def running(world: Mapping[tuple[str, str], Object]) -> list[Object]:
    """The pods that have not ended."""
    pods = (pod for (kind, _), pod in world.items() if kind == PODS)
    return [pod for pod in pods if pod["status"].get("phase") not in ("Succeeded", "Failed")]


def leaves(obj: Object) -> bool:
    """Whether an object is being deleted."""
    return "deletionTimestamp" in obj["metadata"]


def mounting(world: Mapping[tuple[str, str], Object], claim: str) -> Iterator[str]:
    """The pods that have a claim mounted."""
    for pod in running(world):
        mounted = (volume.get("persistentVolumeClaim", {}) for volume in pod["spec"].get("volumes", ()))
        if claim in {m.get("claimName") for m in mounted}:
            yield pod["metadata"]["name"]


def ready_endpoints(world: Mapping[tuple[str, str], Object], service: str) -> Iterator[str]:
    """The pods that a Service sends requests to."""
    for (kind, _), found in world.items():
        if kind == SLICES and found["metadata"]["labels"].get("kubernetes.io/service-name") == service:
            for endpoint in found.get("endpoints") or ():
                if endpoint["conditions"].get("ready"):
                    yield endpoint["targetRef"]["name"]


def process_of(pod: str) -> int:
    """The host's pid of a pod's first process."""

    def environ(path: Path) -> list[str]:
        try:
            return path.read_text(errors="replace").split("\0")
        except OSError:  # it has ended meanwhile
            return []

    found = Path("/proc").glob("[0-9]*/environ")
    return min(int(path.parent.name) for path in found if f"HOSTNAME={pod}" in environ(path))


def writes(audit_log: Path, account: str, namespace: str) -> Iterator[int]:
    """How often an account has written in a namespace since the first call."""
    count, rest = 0, ""
    with audit_log.open() as log:
        log.seek(0, os.SEEK_END)
        while True:
            *lines, rest = (rest + log.read()).split("\n")
            for entry in map(json.loads, lines):
                own = entry["user"]["username"] == account
                here = (entry.get("objectRef") or {}).get("namespace") == namespace
                count += own and here and entry["verb"] in ("create", "update", "patch", "delete")
            yield count


if __name__ == "__main__":
    load_client.ask = ask
    asyncio.run(load_client.main(load_client.Job(**json.loads(sys.argv[1]))))
