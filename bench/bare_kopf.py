"""The lower bound of `bench.scale`: Kopf as our operator sets it up, watching the same kinds, with handlers that do
nothing. `python -m bench.bare_kopf` with KUBECONFIG."""

import asyncio
from typing import Any

import kopf

from chatbot_operator import handlers, logs
from chatbot_operator.kinds import LEASE, WATCHED_KINDS


async def nothing(**_: Any) -> None:
    """What costs least to handle."""


def main() -> None:
    """Watch until told to stop."""
    registry = kopf.OperatorRegistry()
    for kind in (*WATCHED_KINDS, LEASE):
        kopf.on.event(kind.group, kind.version, kind.plural, registry=registry)(nothing)
    kopf.on.startup(registry=registry)(handlers.configure)
    kopf.on.login(registry=registry)(handlers.login)
    kopf.configure(verbose=False)
    logs.configure("INFO")
    watch = handlers.watcher(registry, ())
    asyncio.run(_run(watch))


async def _run(watch: handlers.Watcher) -> None:
    await watch()


if __name__ == "__main__":
    main()
