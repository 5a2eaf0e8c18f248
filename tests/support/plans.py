"""Plans of a simulated world, and the states of it that tests of the plan begin with. No test logic here.

Each world is one that the operator itself has brought about; then one thing about it is changed, and the plan is asked
for.
"""

from collections.abc import Collection
from typing import Any

from chatbot_operator import names
from chatbot_operator.actions import Annotate, Apply, Delete, Scale
from chatbot_operator.api import Phase
from chatbot_operator.kinds import (
    AUTOSCALER,
    CLAIM,
    DEPLOYMENT,
    JOB,
    Ref,
)
from chatbot_operator.migration import Migration, migrate, wanted_claim
from chatbot_operator.observed import Observed
from chatbot_operator.plan import Plan, plan
from chatbot_operator.revision import list_hash
from tests.support.simulated_world import EVERY_PHASE, KEY, World, settled

BACKEND = Ref(DEPLOYMENT, KEY.namespace, names.backend(KEY.name))
SCALER = Ref(AUTOSCALER, *BACKEND[1:])
PHASES: tuple[Phase, ...] = ("mock", "hf", "local")


def planned(world: World, built: Collection[Phase] = EVERY_PHASE) -> Plan:
    return plan(world.chatbot, world.observed, world.now, world.settings, built)


def moved(world: World, observed: Observed | None = None) -> Migration:
    return migrate(world.chatbot, observed or world.observed, EVERY_PHASE, world.settings.allowed_hosts)


def claim_ref(world: World) -> Ref:
    return Ref(CLAIM, KEY.namespace, wanted_claim(world.chatbot))


def job_ref(world: World) -> Ref:
    return Ref(JOB, KEY.namespace, names.download(KEY.name, list_hash(world.chatbot.spec)))


def template_of(decided: Plan) -> str:
    """The provider's revision in the Deployment that is planned; empty if none is."""
    bodies = [a.body for a in decided.actions if isinstance(a, Apply) and a.ref.kind == DEPLOYMENT]
    return bodies[0]["spec"]["template"]["metadata"]["labels"][names.REVISION_LABEL] if bodies else ""


def steps(decided: Plan) -> list[str]:
    """What differs between cases, in order: pods, autoscaler, download, deletes."""
    lines = []
    for action in decided.actions:
        match action:
            case Scale(_, replicas):
                lines.append(f"scale {replicas}")
            case Delete(ref):
                lines.append(f"delete {ref.kind}")
            case Apply() if action.ref.kind in (DEPLOYMENT, AUTOSCALER, JOB, CLAIM):
                lines.append(f"apply {action.ref.kind}")
            case Annotate():
                lines.append("nudge")
    return lines


async def partly(world: World, rounds: int = 1) -> World:
    """The operator acts, and nobody else has done anything yet."""
    for _ in range(rounds):
        world.deliver()
        await world.reconcile()
    world.deliver()
    return world


async def downloading(start: Phase = "hf", **local: Any) -> World:
    """An edit to phase local whose download runs while the old phase serves."""
    world = await settled({"phase": start, "local": local})
    world.edit({"phase": "local"})
    await partly(world)
    world.controllers.jobs()
    return world


def end_download(world: World, *, well: bool = True) -> None:
    world.controllers.faults.downloads_fail = not well
    world.controllers.faults.late_jobs = False
    world.controllers.jobs()
    world.controllers.faults.downloads_fail = False
    assert world.observed.jobs[0].state == ("complete" if well else "failed")
