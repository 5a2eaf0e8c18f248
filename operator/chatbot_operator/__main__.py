"""`python -m chatbot_operator`: wires the parts together and runs them until one ends or a signal comes."""

import argparse
import asyncio
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Sequence

import aiohttp
import kopf

from chatbot_operator import handlers, installs, logs, server
from chatbot_operator.events import Recorder
from chatbot_operator.installs import Installs
from chatbot_operator.kinds import LEASE, Key, Ref
from chatbot_operator.kube import NoCluster, connect
from chatbot_operator.leader import Leader
from chatbot_operator.metrics import Chatbots, Metrics
from chatbot_operator.pods import PodClient
from chatbot_operator.poller import Poller
from chatbot_operator.queue import Queue
from chatbot_operator.reconciler import Reconciler
from chatbot_operator.settings import InvalidSettings, Settings
from chatbot_operator.store import Store
from chatbot_operator.sync import KindAppeared, Sync
from chatbot_operator.worker import work

log = logging.getLogger("chatbot_operator")


class _Stopped(Exception):
    """Kopf has seen the signal to stop: the other tasks end too."""


async def run(settings: Settings) -> None:
    """Operate until SIGTERM or SIGINT. One task that fails ends all: the pod is restarted."""
    clock = time.monotonic
    identity = settings.identity or f"{socket.gethostname()}-{secrets.token_hex(3)}"
    metrics, store = Metrics(), Store()
    settled: set[Key] = set()
    queue = Queue(clock=clock, first_delay=settings.retry_first_seconds, longest_delay=settings.retry_longest_seconds)
    cluster = await connect(timeout_seconds=settings.api_timeout_seconds, observer=metrics.observe_call)
    sync = Sync(store, queue, cluster, settings, settled=settled, clock=clock, took=metrics.resync_seconds.set)
    lease = Ref(LEASE, settings.namespace, settings.lease_name)
    watches = settings.watch_namespaces
    others = Installs(cluster, lease, watches, every=settings.lease_seconds, clock=clock, on_free=sync.add_all)
    leader = Leader(
        cluster,
        lease,
        identity,
        term=settings.lease_seconds,
        renew_every=settings.lease_renew_seconds,
        clock=clock,
        on_gain=sync.add_all,
        annotations={installs.WATCHES: installs.annotation(watches)},
        may=others.free,
    )
    # Pods are asked directly: a proxy of the environment is for what leaves the cluster.
    async with aiohttp.ClientSession(trust_env=False) as session:
        client = PodClient(session, settings.pod_status_url)
        poller = Poller(store, queue, client, settings, settled=settled.__contains__, clock=clock)
        recorder = Recorder(cluster, identity, clock=clock)
        reconciler = Reconciler(
            store,
            cluster,
            leader,
            recorder,
            settings,
            reports=poller.reports,
            settled=settled,
            absent=sync.absent,
            clock=clock,
        )
        health = server.Health(
            clock,
            clock(),
            resynced=lambda: sync.finished_at,
            synced=lambda: sync.ready.is_set() and others.known,
            refusal=lambda: others.refusal,
        )
        metrics.watch(depth=lambda: queue.depth, leading=leader.holds, chatbots=Chatbots(store.chatbots))

        async def worker() -> None:
            await sync.ready.wait()
            await work(queue, reconciler, metrics)

        async def watch() -> None:
            # Kopf looks once at its start for what is served: a definition that comes later it would never watch.
            # And when told to stop it waits for every task that was started after it.
            await sync.ready.wait()
            registry = handlers.registry(
                store,
                queue,
                serves=lambda namespace: not watches or namespace in watches,
                lease_seen=lambda: setattr(health, "lease_seen", clock()),
                absent=sync.absent,
            )
            watched = {*watches, settings.namespace} if watches else set()
            await handlers.watcher(registry, tuple(sorted(watched)))()
            raise _Stopped

        try:
            async with server.serving(settings.host, settings.port, health, metrics.text) as port:
                log.info("operator %s listens on port %s", identity, port)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(watch())
                    tasks.create_task(sync.run())
                    tasks.create_task(leader.run())
                    tasks.create_task(others.run())
                    for _ in range(settings.workers):
                        tasks.create_task(worker())
                    tasks.create_task(poller.run(leader.holds))
        except* _Stopped:
            log.info("stopping")
        except* KindAppeared as appeared:
            log.info("starting anew: %s", appeared.exceptions[0])
        finally:
            await leader.release()
            await cluster.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 stopped by a signal, 2 a setting is not usable or names no cluster, 1 anything else."""
    parser = argparse.ArgumentParser(
        prog="python -m chatbot_operator",
        description="Makes Chatbots what their specs say, until a signal comes. It is told by its environment: see "
        "docs/reference/settings.md; KUBECONFIG outside of a cluster.",
    )
    parser.parse_args(arguments)
    try:
        settings = Settings.from_env(os.environ)
    except InvalidSettings as error:
        print(f"chatbot-operator: {error}", file=sys.stderr)
        return 2
    kopf.configure(verbose=False)
    logs.configure(settings.log_level)
    try:
        asyncio.run(run(settings))
    except NoCluster as error:
        print(f"chatbot-operator: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
