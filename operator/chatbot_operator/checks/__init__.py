"""Why a Chatbot is not what was asked for: one small check for each reason, asked in order. Pure.

A check looks at one Context and answers with a Verdict, or with nothing when it has nothing to say. The first verdict
is Ready's reason. A message says what is wrong and what to do next; it never holds a value that may be secret.
"""

from collections.abc import Iterator

from chatbot_operator.checks import exposure, model, pods, provider, rollout, wishes, writes
from chatbot_operator.checks.base import Check, Context, Verdict

CHECKS: tuple[Check, ...] = (
    wishes.not_implemented,
    writes.name_conflict,
    writes.permission_denied,
    writes.quota_exceeded,
    writes.admission_refused,
    provider.endpoint_not_allowed,
    provider.token_secret_missing,
    provider.token_rejected,
    provider.access_denied,
    wishes.access_secret_missing,
    model.model_not_there,
    provider.model_not_found,
    model.claim_missing,
    model.claim_in_use,
    pods.image_pull_failed,
    pods.unschedulable,
    pods.volume_not_attached,
    model.insufficient_memory,
    pods.out_of_memory,
    pods.crash_looping,
    provider.verification_failed,
    pods.runtime_incompatible,
    provider.rate_limited,
    provider.provider_unavailable,
    provider.engine_down,
    rollout.settings_pending,
    rollout.rolling_out,
    rollout.stepped_back,
    rollout.stalled,
    wishes.suspended,
    rollout.backend_not_ready,
    exposure.web_not_ready,
    exposure.address_pending,
    exposure.route_not_accepted,
)
"""In the order in which they are asked: what a person must mend comes before what only takes time."""


def verdicts(context: Context) -> Iterator[Verdict]:
    """Every verdict, the weightiest first."""
    return (verdict for check in CHECKS if (verdict := check(context)) is not None)
