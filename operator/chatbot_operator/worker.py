"""Takes keys from the queue and has them reconciled; what fails comes again. It must not know what reconciling does."""

import logging
import time

from chatbot_operator.api.reasons import Reason
from chatbot_operator.cluster import ClusterError, Throttled
from chatbot_operator.kinds import Key
from chatbot_operator.leader import NotLeader
from chatbot_operator.metrics import Metrics
from chatbot_operator.queue import Queue
from chatbot_operator.reconciler import Outcome, Reconciler

log = logging.getLogger(__name__)


async def work(queue: Queue, reconciler: Reconciler, metrics: Metrics) -> None:
    """One worker, for ever. No Chatbot, however broken, ends it."""
    while True:
        key = await queue.get()
        started = time.perf_counter()
        try:
            outcome = await reconciler.reconcile(key)
        except NotLeader:
            # Whoever gets the Lease reconciles every key then.
            queue.done(key)
            continue
        except ClusterError as error:
            outcome = _trouble(key, error, metrics)
        except Exception as error:  # a bug concerns this one Chatbot, not the others
            log.exception("reconcile failed", extra={"chatbot": str(key)})
            metrics.errors.labels(type(error).__name__).inc()
            outcome = Outcome(failed=True)
            await _confess(key, error, reconciler)
        metrics.reconcile_seconds.observe(time.perf_counter() - started)
        metrics.reconciles.labels("failed" if outcome.failed else "ok").inc()
        if outcome.failed:
            queue.failed(key, retry_after=outcome.retry_after)
        else:
            queue.done(key)
            if outcome.requeue_after is not None:
                queue.add_later(key, outcome.requeue_after)


def _trouble(key: Key, error: ClusterError, metrics: Metrics) -> Outcome:
    log.warning("%s: %s", type(error).__name__, error.message, extra={"chatbot": str(key)})
    metrics.errors.labels(type(error).__name__).inc()
    return Outcome(failed=True, retry_after=error.retry_after if isinstance(error, Throttled) else None)


async def _confess(key: Key, error: Exception, reconciler: Reconciler) -> None:
    message = f"The operator met an unexpected {type(error).__name__} and tries again; its log has the details."
    try:
        await reconciler.report(key, Reason.RECONCILE_FAILED, message)
    except (ClusterError, NotLeader):
        log.info("the status could not be written", extra={"chatbot": str(key)})
