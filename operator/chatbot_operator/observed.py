"""What is, in the words of the decisions that follow: Deployments, templates, pods, claims, downloads. Pure.

It must not know how it was found out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from chatbot_operator.kinds import Kind, RawObject, Ref
from chatbot_operator.reports import PodReport
from chatbot_runtime.contract import DownloadResult


@dataclass(frozen=True)
class WriteProblem:
    """Why the last write of a child failed: the name of the error's class and the server's message."""

    error: str
    message: str
    verb: str = ""
    resource: str = ""


@dataclass(frozen=True)
class Template:
    """One pod template that the backend's Deployment has had: a ReplicaSet."""

    hash: str
    phase: str
    revision: str
    number: int
    pods: int
    shrinking: bool
    """It has more pods than it should, or its count is of an earlier wish: what it says is available may be going."""
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class Rollout:
    """A live Deployment: its wishes and counts."""

    generation_seen: bool
    replicas: int
    total: int
    updated: int
    ready: int
    available: int
    deadline_exceeded: bool
    replica_failure: str
    applied_hash: str
    template_inputs: str
    number: int
    """Of the newest template that the Deployment's controller has taken up; 0 if it has not said so."""
    paused: bool
    deleting: bool

    @property
    def rolled_out(self) -> bool:
        """Every pod that is asked for is of the newest template and available, and none of an older one is left."""
        return self.generation_seen and self.replicas == self.updated == self.available and self.total == self.updated


@dataclass(frozen=True)
class Backend(Rollout):
    """The live Deployment of the backend: the record of what serves."""

    phase: str
    revision: str
    list_hash: str
    """The list of downloaded models that these pods serve; empty if they serve none."""
    failed_revision: str


@dataclass(frozen=True)
class Pod:
    """One pod of ours."""

    ref: Ref
    uid: str
    ip: str
    phase: str
    revision: str
    template: str
    ready: bool
    deleting: bool
    restarts: int
    waiting: str
    waiting_message: str
    last_exit: int | None
    last_exit_reason: str
    last_exit_message: str
    ended: bool
    """All its containers have ended for good."""
    unschedulable: str
    nudge: str
    report: PodReport | None

    @property
    def instance(self) -> str:
        """Names one run of the pod's container: what a report is about."""
        return f"{self.uid}/{self.restarts}"


@dataclass(frozen=True)
class Claim:
    """A claim of weights that is this Chatbot's, or a retained one of its name."""

    ref: Ref
    uid: str
    bound: bool
    size: str
    capacity: str
    """Of its volume; empty while it has none."""
    has_class: bool
    """Whether it names a storage class; without one, and without a default one, nobody makes a volume for it."""
    deleting: bool
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """A download."""

    ref: Ref
    uid: str
    claim_uid: str
    list_hash: str
    state: Literal["running", "complete", "failed"]
    reason: str
    ended_at: datetime | None
    applied_hash: str
    retry: str
    capacity: str
    """Of the volume, as it was when the Job was made."""
    kept_lists: tuple[str, ...] = ()
    """Lists of models that pods served when the Job was made."""
    pods: tuple[Pod, ...] = ()
    """Its pods, the oldest first."""
    result: DownloadResult | None = None
    """The last words of its newest pod that has ended."""

    @property
    def fetches(self) -> bool:
        """Whether a pod of it does its work: none waits for a node, an image, a better token or the next try."""
        working = (p.report.download if p.report else None for p in self.pods if p.ready and not p.ended)
        return any(said is None or said.state != "waiting" for said in working)


@dataclass(frozen=True)
class Workload:
    """A Deployment with its templates and pods."""

    live: Rollout | None = None
    templates: tuple[Template, ...] = ()
    pods: tuple[Pod, ...] = ()

    def current_pods(self) -> tuple[Pod, ...]:
        """The pods of the newest template, without those that are going."""
        newest = self.newest_template()
        return tuple(p for p in self.pods if newest and p.template == newest.hash and not p.deleting)

    def ready_pods(self) -> tuple[Pod, ...]:
        """The pods that the Services send requests to."""
        return tuple(p for p in self.pods if p.ready and not p.deleting)

    def newest_template(self) -> Template | None:
        """The template that the Deployment is rolling out to."""
        return max(self.templates, key=lambda t: t.number, default=None)

    @property
    def counts_settled(self) -> bool:
        """Whether what is said of each template's pods is of the latest wish, and no pod is on its way out."""
        live, newest = self.live, self.newest_template()
        current = live is not None and live.generation_seen and newest is not None and newest.number >= live.number
        return current and not any(t.shrinking for t in self.templates)


@dataclass(frozen=True)
class Observed:
    """Everything that a decision may depend on, of one Chatbot at one moment."""

    children: Mapping[Ref, RawObject] = field(default_factory=dict)
    """Live objects that are ours by owner reference, or are a claim that we may adopt."""
    strangers: Mapping[Ref, RawObject] = field(default_factory=dict)
    backend: Backend | None = None
    templates: tuple[Template, ...] = ()
    pods: tuple[Pod, ...] = ()
    web: Workload = Workload()
    """What serves the chat page."""
    claims: tuple[Claim, ...] = ()
    jobs: tuple[Job, ...] = ()
    downloaders: tuple[str, ...] = ()
    """Names of the Jobs that have a pod which has not ended: only one may write a claim."""
    settings_hash: str = ""
    """Of the live ConfigMap; empty if there is none."""
    shown_download: str = ""
    """Where pods are told to read a download's progress."""
    verified: tuple[str, ...] = ()
    """The `verifiedRevisions` of the live settings."""
    problems: Mapping[Ref, WriteProblem] = field(default_factory=dict)
    absent: frozenset[Kind] = frozenset()
    """Optional kinds that the cluster does not have."""
    complaints: Mapping[str, str] = field(default_factory=dict)
    """By uid: the last Warning among the Events of a child that is not well, as `Reason: message`."""

    @property
    def workload(self) -> Workload:
        """The backend's Deployment with its templates and pods."""
        return Workload(self.backend, self.templates, self.pods)

    def current_pods(self) -> tuple[Pod, ...]:
        """The backend's; see Workload."""
        return self.workload.current_pods()

    def fetching_pods(self) -> tuple[Pod, ...]:
        """The pods of downloads that have not ended."""
        return tuple(p for job in self.jobs for p in job.pods if not p.ended and not p.deleting)

    def newest_template(self) -> Template | None:
        """The backend's; see Workload."""
        return self.workload.newest_template()

    @property
    def counts_settled(self) -> bool:
        """The backend's; see Workload."""
        return self.workload.counts_settled

    def ready_pods(self) -> tuple[Pod, ...]:
        """The backend's; see Workload."""
        return self.workload.ready_pods()
